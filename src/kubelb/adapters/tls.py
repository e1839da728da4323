"""One SSLContext for all endpoints of a service, as fresh as its files.

Making a context costs 30 to 55 ms and 0.8 MB, so a transport makes one, and every pool shares it: when its first https
request comes, or at once where it is made of files, for what cannot be used is the constructor's error and not a pod's.
Certificates are verified against the service's name: the pod's address never gets here.

Certificates are short-lived where something like cert-manager renews them, so each new connection looks whether the
files are still the same (a few microseconds beside a handshake). Connections that are open stay as they are. Files that
cannot be used, because one of a pair has been replaced and the other not yet, leave what was read before in use.
"""

import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from kubelb.core.events import Emit, TlsFilesChanged
from kubelb.masking import is_content
from kubelb.printable import shown
from kubelb.runtime.fork import register

__all__ = [
    "Cert",
    "File",
    "Fresh",
    "Verify",
    "check_files",
    "check_path",
    "client_context",
    "failing_at",
    "fresh_context",
]

T = TypeVar("T")

Verify: TypeAlias = ssl.SSLContext | str | Path | bool
"""A context, a CA file or folder, True for the default CAs, False for no check at all (never in production)."""

File: TypeAlias = str | Path

Cert: TypeAlias = File | tuple[File, File] | tuple[File, File, str] | None
"""A client certificate: one PEM file with its key, (certificate, key), or (certificate, key, password)."""


Default: TypeAlias = Callable[[], ssl.SSLContext]
"""Makes the context that the client underneath would use itself."""


Stamps: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Of each file what changes with its content: modification time, inode, size; None where there is none."""


class Fresh(Generic[T]):
    """Gives what `make` makes of some files, made anew when one of them has changed since."""

    def __init__(self, make: Callable[[], T], files: tuple[str, ...], *, service: str, emit: Emit) -> None:
        self._make = make
        self._service = service
        self._emit = emit
        self._files = files
        self._made: T | None = None
        self._read: Stamps | None = None
        self._edition = 0
        self.after_fork_in_child()
        register(self)

    def after_fork_in_child(self) -> None:
        """A lock that a thread of the parent held would never be released."""
        self._lock = threading.Lock()

    def get(self) -> T:
        """Return it for a new connection. Raises only where there has never been one."""
        made, seen = self._made, stamps(self._files)
        if made is not None and seen == self._read:
            return made
        error = ""
        with self._lock:
            before = self._made
            if before is not None and seen == self._read:  # another thread was faster
                return before
            try:
                made = self._make()
            except (OSError, ValueError) as problem:
                if before is None:
                    raise
                made, error = before, f"{type(problem).__name__}: {problem}"
            self._edition += made is not before
            self._made, self._read = made, seen
        if before is not None:
            self._emit(TlsFilesChanged(self._service, self._files, error))
        return made

    def edition(self) -> int:
        """Return a number that is another one when `get` returns something else."""
        self.get()
        return self._edition


def fresh_context(verify: Verify, cert: Cert, default: Default, *, service: str, emit: Emit) -> Fresh[ssl.SSLContext]:
    """Return what gives the SSLContext of these options.

    Raises FileNotFoundError for a file that is not there, ssl.SSLError for one that says nothing to TLS.
    """
    check_files(verify, cert)
    files = files_of(verify, cert)
    fresh = Fresh(partial(client_context, verify, cert, default), files, service=service, emit=emit)
    if files:
        fresh.get()
    return fresh


def files_of(verify: Verify, cert: Cert) -> tuple[str, ...]:
    """Return the files and folders behind these options."""
    return (*([str(verify)] if isinstance(verify, str | Path) else []), *_chain(cert)[:2])


def _chain(cert: Cert) -> tuple[str, ...]:
    """Return certificate, key and password, as many as there are; raises TypeError for what is none of the forms."""
    if cert is None:
        return ()
    parts = cert if isinstance(cert, tuple | list) else (cert,)
    if parts is cert and len(parts) not in {2, 3}:
        raise TypeError(f"cert= of {len(parts)} parts: give a file, (certificate, key) or (certificate, key, password)")
    for part in parts[:2]:
        check_path("cert", part)
    return (*(str(part) for part in parts[:2]), *parts[2:])


def stamps(files: tuple[str, ...]) -> Stamps:
    """Return what these files look like from outside; mounted Secrets are links, which are followed."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = Path(file).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return tuple(found)


def check_files(verify: Verify, cert: Cert) -> None:
    """Raise FileNotFoundError, with the option's name, for a file that is not there; TypeError for what is no file."""
    if isinstance(verify, str | Path):
        check_path("verify", verify)
        if not str(verify) or not Path(verify).exists():
            raise FileNotFoundError(f"verify={shown(str(verify))}: no such CA file or folder")
    elif not isinstance(verify, bool | ssl.SSLContext):
        raise TypeError(f"verify: give a CA file or folder, an ssl.SSLContext, True or False, not {shown(verify)}")
    for name in _chain(cert)[:2]:
        if not Path(name).exists():
            raise FileNotFoundError(f"cert={shown(name)}: no such certificate or key file")


def check_path(option: str, file: object) -> None:
    """Raise for what is no path; nothing is repeated of what may be the content, a key, in place of its file."""
    if not isinstance(file, str | Path):
        raise TypeError(f"{option}: give the path of a PEM file, not {type(file).__name__}")
    if is_content(str(file)):
        raise ValueError(f"{option}: give the path of a PEM file, not what is in it")


def failing_at(option: str, files: object, error: OSError) -> OSError:
    """Return the same kind of error, with the option and its files in its words."""
    return type(error)(error.errno, f"{option}={files!r}: {error.strerror or error}")


def client_context(verify: Verify, cert: Cert, default: Default) -> ssl.SSLContext:
    """Return the context for these options."""
    if isinstance(verify, ssl.SSLContext):
        context = verify
    elif verify is True:
        context = default()
    elif verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        place = str(verify)
        try:
            context = (
                ssl.create_default_context(capath=place)
                if Path(place).is_dir()
                else ssl.create_default_context(cafile=place)
            )
        except OSError as error:
            raise failing_at("verify", place, error) from error
    if chain := _chain(cert):
        try:
            if isinstance(verify, ssl.SSLContext):  # the caller's: a pair that does not fit must not get half into it
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(*chain)
            context.load_cert_chain(*chain)
        except OSError as error:
            raise failing_at("cert", chain[:2], error) from error
    return context
