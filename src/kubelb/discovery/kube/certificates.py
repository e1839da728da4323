"""Whom to trust and what to show, as one `ssl.SSLContext`: each of CA, certificate and key is a file or its content.

A context is shared by all that have the same files, and made anew when one of them changed: a connection that is
dialled after a rotation uses what is there then. Content that stands in a kubeconfig, or that a plugin gave, is on the
disk for as long as it takes to load it, in a folder that only this user can enter: OpenSSL takes keys from files alone.
"""

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

__all__ = ["EncryptedKeyError", "Material", "Source", "Stamp", "stamp"]

Source: TypeAlias = str | bytes | None
"""A path, or what could stand in the file: PEM."""

Stamp: TypeAlias = tuple[int, int, int]
"""What moves when a file is written, or another is put in its place."""


class EncryptedKeyError(OSError):
    """A key that wants a password, which OpenSSL would ask for on the terminal."""

    def __init__(self) -> None:
        super().__init__(0, "the key is encrypted")


@dataclass(frozen=True)
class Material:
    """What a TLS connection is made of. Without `ca` the system's authorities are trusted."""

    ca: Source = field(default=None, repr=False)
    cert: Source = field(default=None, repr=False)
    key: Source = field(default=None, repr=False)
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Raise `OSError` (`ssl.SSLError` is one) for what cannot be read, or is none of these things."""
        return _context(self, tuple(stamp(each) for each in (self.ca, self.cert, self.key)))


def stamp(source: Source) -> Stamp:
    """What tells two states of a file apart; the same for all that is no file. Raises `OSError` where there is none."""
    if not isinstance(source, str):
        return 0, 0, 0
    found = os.stat(source)  # noqa: PTH116
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=32)
def _context(material: Material, stamps: tuple[Stamp, ...]) -> ssl.SSLContext:  # noqa: ARG001  a key of the cache
    with tempfile.TemporaryDirectory(prefix="kubelb-") as folder:
        ca, cert, key = (
            _as_file(source, Path(folder, name))
            for name, source in (("ca", material.ca), ("cert", material.cert), ("key", material.key))
        )
        context = ssl.create_default_context(cafile=ca)
        # Python 3.13 began to demand extensions that many clusters' CAs lack; client-go does not.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if not material.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if cert:
            context.load_cert_chain(cert, key, _refuse)
    return context


def _as_file(source: Source, path: Path) -> str | None:
    if not isinstance(source, bytes):
        return source
    path.touch(mode=0o600)
    path.write_bytes(source)
    return str(path)


def _refuse() -> str:
    raise EncryptedKeyError
