"""Build the control plane that the integration tests run against: `python tests/envtest/build.py`.

Four binaries, compiled from the published Go modules that the three wrapper modules beside this file pin: etcd,
kube-apiserver, kube-controller-manager and coredns. They land in a cache folder of the user's, named by their
versions, so that a checkout is built for once and a new version never meets an old binary:

    ${XDG_CACHE_HOME:-~/.cache}/kubelb/envtest/<versions>/

Why wrappers: `go install package@version` refuses a module whose go.mod has `replace` lines, and a module of our own
pins the whole graph by its go.sum. Why three: their graphs differ, and one graph would build none of them as released.

Three promises. A name in the cache folder is a whole binary or absent (built under another name, then renamed). Two
builds at the same time do the work once (the second waits for the lock, then finds everything there). What is there
already is never built again.

KUBEBUILDER_ASSETS, where Go projects keep etcd and kube-apiserver, wins for each binary that is found in it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Kept next to the go command's own check: below this, `go build` fails with a message about toolchains.
GO_AT_LEAST = (1, 26)
PROGRESS_EVERY = 30.0
LINKER_FLAGS = "-s -w"  # no symbol tables: a third of the size, and nobody debugs these here


class BuildError(Exception):
    """One line that says what is wrong and what to do about it."""


@dataclass(frozen=True, slots=True)
class Binary:
    """One program: the wrapper that pins it, the package to compile and, on a 2-core machine, how long that takes."""

    name: str
    wrapper: str
    module: str
    package: str
    about: str

    @property
    def version(self) -> str:
        """The version that the wrapper's go.mod requires: the only place where it is written."""
        text = (HERE / self.wrapper / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^(?:require)?\s*{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise BuildError(f"tests/envtest/{self.wrapper}/go.mod requires no {self.module}; restore it from git.")
        return found[1]

    def linker_flags(self) -> str:
        """Kubernetes learns its version from the linker; without these `/version` reports a placeholder."""
        if self.wrapper != "kubernetes":
            return LINKER_FLAGS
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        stamps = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor}
        return " ".join([LINKER_FLAGS, *(f"-X k8s.io/component-base/version.{k}={v}" for k, v in stamps.items())])


_KUBERNETES = "k8s.io/kubernetes"
BINARIES = (
    Binary("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", "1 min"),
    Binary("kube-apiserver", "kubernetes", _KUBERNETES, f"{_KUBERNETES}/cmd/kube-apiserver", "6 min"),
    Binary("kube-controller-manager", "kubernetes", _KUBERNETES, f"{_KUBERNETES}/cmd/kube-controller-manager", "2 min"),
    Binary("coredns", "coredns", "github.com/coredns/coredns", "github.com/coredns/coredns", "2 min"),
)


def cache_dir() -> Path:
    """The folder of these versions, for this kind of machine."""
    # The XDG rule: a relative or empty value counts as unset.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path.home() / ".cache"
    versions = {binary.wrapper: binary.version.removeprefix("v") for binary in BINARIES}
    label = "-".join(f"{wrapper}-{version}" for wrapper, version in versions.items())
    return base / "kubelb" / "envtest" / f"{label}-{sys.platform}-{platform.machine()}"


def locate(binary: Binary) -> Path | None:
    """Where a binary is: in KUBEBUILDER_ASSETS, else in the cache, else nowhere."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for folder in ([Path(assets)] if assets else []) + [cache_dir()]:
        path = folder / binary.name
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def say(text: str) -> None:
    sys.stdout.write(f"envtest: {text}\n")
    sys.stdout.flush()  # into a CI log, too, a line appears when it is said


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file; the kernel lets go of it however this process ends."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build holds the lock; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def go_environment() -> dict[str, str]:
    """The user's own go settings (proxy, caches), and on top of them what makes a build repeatable."""
    flags = "-mod=readonly -trimpath -buildvcs=false"  # in place of the user's own: `-mod=vendor` would break the build
    return os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": flags, "GOWORK": "off"}


def check_go() -> None:
    """Say in one line what is wrong with `go`, before minutes are spent on finding out."""
    cure = "install Go {}.{} or later, or set KUBEBUILDER_ASSETS to a folder that holds the binaries".format(
        *GO_AT_LEAST
    )
    if shutil.which("go") is None:
        raise BuildError(f"there is no `go` on the PATH; {cure}.")
    answer = subprocess.run(
        ["go", "env", "GOVERSION"], env=go_environment(), capture_output=True, text=True, check=False
    )
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    if found is None:
        raise BuildError(f"`go env GOVERSION` answered {(answer.stdout or answer.stderr).strip()!r}; {cure}.")
    if (int(found[1]), int(found[2])) < GO_AT_LEAST:
        raise BuildError(f"`go` is {answer.stdout.strip()}, which is too old; {cure}.")


def compile_binary(binary: Binary, folder: Path) -> None:
    """Compile under a name of this process's own, then rename: nobody ever sees half a binary."""
    unfinished = folder / f".{binary.name}.{os.getpid()}"
    command = ["go", "build", f"-ldflags={binary.linker_flags()}", "-o", str(unfinished), binary.package]
    say(f"building {binary.name} {binary.version} (about {binary.about} on 2 cores when nothing is cached)")
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=HERE / binary.wrapper, env=go_environment())
    try:
        while True:
            try:
                code = process.wait(PROGRESS_EVERY)
                break
            except subprocess.TimeoutExpired:
                say(f"  {time.monotonic() - start:4.0f} s  still building {binary.name}")
        if code != 0:
            raise BuildError(f"`go build` of {binary.name} failed with code {code}; its own message is above.")
        unfinished.replace(folder / binary.name)
    finally:
        # Does nothing to a process that has ended. An interrupt, unlike a kill, lets `go` remove its temporary files.
        process.send_signal(signal.SIGINT)
        process.wait()
        unfinished.unlink(missing_ok=True)
    say(f"built {binary.name} in {time.monotonic() - start:.0f} s")


def build() -> None:
    """Build whatever `locate` does not find."""
    if all(locate(binary) for binary in BINARIES):
        say("all four binaries are there")
        return
    check_go()
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"into {folder}")
    with locked(folder):
        # Under the lock there is no other builder: what lies here under an unfinished name was left by a killed one.
        for left in folder.glob(".*.*"):
            left.unlink()
        start = time.monotonic()
        for binary in BINARIES:
            if (path := locate(binary)) is not None:
                say(f"{binary.name} {binary.version} is there: {path}")
            else:
                compile_binary(binary, folder)
    say(f"done in {time.monotonic() - start:.0f} s")


def check() -> bool:
    """Print where each binary is, or that it is missing."""
    places = {binary.name: locate(binary) for binary in BINARIES}
    for name, path in places.items():
        sys.stdout.write(f"{name:24} {path or 'missing (run `make envtest`)'}\n")
    return all(places.values())


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the control plane that the integration tests run against.")
    parser.add_argument(
        "--check", action="store_true", help="print where the binaries are; exit code 1 if one is missing"
    )
    parser.add_argument("--print-dir", action="store_true", help="print the cache folder of these versions")
    options = parser.parse_args()
    try:
        if options.print_dir:
            sys.stdout.write(f"{cache_dir()}\n")
        elif options.check:
            return 0 if check() else 1
        else:
            build()
    except BuildError as error:
        sys.stderr.write(f"envtest: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
