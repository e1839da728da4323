"""Run a command as if in a pod: `python -m tests.integration.mounted FOLDER -- COMMAND...`.

FOLDER appears where the kubelet mounts a ServiceAccount's token and CA, for this command alone: in a mount namespace of
its own, which ends with it. That takes the rights that `netns` has given us. Exit code 77 where the kernel forbids it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from .netns import FORBIDDEN

MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def enter(folder: Path) -> None:
    """Give this process file systems of its own, in which the folder is mounted."""
    _call(_libc.unshare(_CLONE_NEWNS))
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)  # what follows shall not be seen outside
    _mount("none", str(Path("/var/run").resolve()), "tmpfs", 0)  # where we may make folders
    Path(MOUNT).mkdir(parents=True)
    _mount(str(folder), MOUNT, "", _MS_BIND)


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    _call(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None))


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    folder, dashes, *command = sys.argv[1:]
    if dashes != "--" or not command:
        sys.exit("usage: python -m tests.integration.mounted FOLDER -- COMMAND...")
    try:
        enter(Path(folder).resolve())
    except OSError as error:
        sys.stderr.write(f"mounted: {error}\n")
        sys.exit(FORBIDDEN)
    os.execvp(command[0], command)
