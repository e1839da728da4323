"""What to trust and what to show, as one `ssl.SSLContext`: each of CA, certificate and key is a file or its content.

A context is shared by all that have the same files, and made anew when one of them changed: a connection that is
dialled after a rotation uses what is there then. Content that stands in a kubeconfig, or that a plugin gave, is on the
disk for as long as it takes to load it, in a folder that only this user can enter: OpenSSL takes keys from files alone.
"""

import os
import ssl
import tempfile
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from kubelb.records import field, record

__all__ = ["Material", "MaterialError", "Source", "Stamp", "stamp"]

Source: TypeAlias = str | bytes | None
"""A path, or what could stand in the file: PEM."""

Stamp: TypeAlias = tuple[int, int, int]
"""What moves when a file is written, or another is put in its place."""


class MaterialError(OSError):
    """Which of the three cannot be used, and why."""

    def __init__(self, what: str, source: Source, why: str) -> None:
        super().__init__(0, f"{what}{f' {source}' if isinstance(source, str) else ''}: {why}")


class _EncryptedError(Exception):
    """A key that wants a password, which OpenSSL would ask for on the terminal."""


@record(frozen=True, slots=True)
class Material:
    """What a TLS connection is made of. Without `ca` the system's authorities are trusted."""

    ca: Source = field(default=None, repr=False)
    cert: Source = field(default=None, repr=False)
    key: Source = field(default=None, repr=False)
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Raise `MaterialError` for what cannot be read, or is none of these things."""
        stamps = []
        for what, source in (("CA", self.ca), ("client certificate", self.cert), ("client key", self.key)):
            try:
                stamps.append(stamp(source))
            except (OSError, ValueError) as error:  # a path may hold a NUL
                raise MaterialError(what, source, getattr(error, "strerror", None) or "no path") from None
        return _context(self, tuple(stamps))


def stamp(source: Source) -> Stamp:
    """What tells two states of a file apart; the same for all that is no file. Raises `OSError` where there is none."""
    if not isinstance(source, str):
        return 0, 0, 0
    found = os.stat(source)  # noqa: PTH116
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=32)
def _context(material: Material, stamps: tuple[Stamp, ...]) -> ssl.SSLContext:  # noqa: ARG001  a key of the cache
    with ExitStack() as stack:
        given, folder = (material.ca, material.cert, material.key), ""
        if any(isinstance(source, bytes) for source in given):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kubelb-"))
        ca, cert, key = (
            _as_file(source, Path(folder, name)) for name, source in zip(("ca", "cert", "key"), given, strict=True)
        )
        try:
            context = ssl.create_default_context(cafile=ca)
        except OSError as error:
            raise MaterialError("CA", material.ca, _why(error)) from None
        # Python 3.13 began to demand extensions that many clusters' CAs lack; client-go does not.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        context.set_alpn_protocols(["http/1.1"])
        if not material.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if cert:
            try:
                context.load_cert_chain(cert, key, _refuse)
            except _EncryptedError:
                raise MaterialError("client key", material.key, "it is encrypted") from None
            except OSError as error:
                raise MaterialError("client certificate, or its key", material.cert, _why(error)) from None
    return context


def _why(error: OSError) -> str:
    """ssl says "[SSL] PEM lib (_ssl.c:4154)" of a file without PEM, and other things that help as little."""
    if not isinstance(error, ssl.SSLError):
        return error.strerror or type(error).__name__
    return "the key is that of another certificate" if "MISMATCH" in (error.reason or "") else "it is no PEM file"


def _as_file(source: Source, path: Path) -> str | None:
    if not isinstance(source, bytes):
        return source
    path.touch(mode=0o600)
    path.write_bytes(source)
    return str(path)


def _refuse() -> str:
    raise _EncryptedError
