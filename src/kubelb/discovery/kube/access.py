"""How to reach an API server, in one value: where it is, whom to trust, who we are.

    Locator.open() -> Access          on the stream's thread: reads files, may run a kubeconfig's exec plugin
    Access.credentials.header()       before every request

Both ways in (`incluster.py`, `kubeconfig.py`) end here. A Locator is hashable and cheap, so two load balancers that
mean the same server share a stream before either has read a file. No secret is in any repr, none in an error's text.
"""

import os
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

from kubelb.masking import without_userinfo

__all__ = ["Access", "Credentials", "CredentialsError", "Given", "Locator", "Nobody"]


class CredentialsError(Exception):
    """The way in cannot be read; `cure` says what to do."""

    missing_extra = False
    """A package is not installed."""

    def __init__(self, reason: str, cure: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.cure = cure


class Credentials(Protocol):
    """Who we are."""

    def header(self, *, fresh: bool = False) -> tuple[str, str]:
        """Return the Authorization header ("" for none) and a warning ("" for none); raises `CredentialsError`.

        `fresh`: the server refused the last one; read it again.
        """
        ...


@dataclass(frozen=True)
class Nobody:
    """No Authorization header: a client certificate, or a server that asks nothing."""

    def header(self, *, fresh: bool = False) -> tuple[str, str]:  # noqa: ARG002
        """Nothing, and nothing to warn of."""
        return "", ""


@dataclass(frozen=True)
class Access:
    """Everything that a connection needs. `proxy` is what applies, the environment and NO_PROXY considered.

    A password in the server's URL is no credential to Kubernetes: it is left out, here, so that no message tells it.
    """

    server: str
    origin: str = "the caller"
    """Where this is from, for messages."""
    credentials: Credentials = field(default_factory=Nobody, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = field(default=None, repr=False)
    server_name: str | None = None
    """``tls-server-name``: the name that the certificate must have, if not the host's."""
    proxy: str | None = field(default=None, repr=False)
    """May hold a password."""
    verify: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "server", without_userinfo(self.server))
        if self.proxy is not None:
            without_userinfo(self.proxy)  # remembered as a secret; the connection needs it

    def check(self) -> None:
        """Raise `CredentialsError` for a server that cannot be asked: every message would have to name it."""
        try:
            urlsplit(self.server).port  # noqa: B018 - it is read for what it raises
        except ValueError:
            place = self.server.partition("://")[2] or self.server
            raise CredentialsError(
                f"the server of {self.origin} has no host and port that make sense: {place}", "give https://HOST:PORT"
            ) from None

    def ssl_context(self) -> ssl.SSLContext | None:
        """One context for all who have the same files, a new one when a file changed; None for http."""
        if not self.server.startswith("https:"):
            return None
        files = self.ca_file, self.cert_file, self.key_file
        try:
            return _context(files, tuple(_stamp(name) for name in files), self.verify)
        except OSError as error:  # ssl.SSLError is one
            why = error.strerror or type(error).__name__
            raise CredentialsError(
                f"the certificates of {self.origin} cannot be loaded: {why}",
                "check the CA and client certificate files",
            ) from None


def _stamp(name: str | None) -> tuple[int, int]:
    if name is None:
        return 0, 0
    found = os.stat(name)  # noqa: PTH116
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=8)
def _context(
    files: tuple[str | None, str | None, str | None],
    stamps: tuple[tuple[int, int], ...],  # noqa: ARG001  in the key: a rotated CA is another context
    verify: bool,
) -> ssl.SSLContext:
    ca_file, cert_file, key_file = files
    context = ssl.create_default_context(cafile=ca_file)
    # Python 3.13 began to demand extensions that many clusters' CAs lack; client-go does not.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file:
        context.load_cert_chain(cert_file, key_file)
    return context


class Locator(Protocol):
    """Where an Access is to be found. Hashable, equal to another that would find the same."""

    def open(self) -> Access:
        """Read it; raises `CredentialsError`. May block: never on a caller's thread."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Given:
    """An Access that the caller made."""

    access: Access

    def open(self) -> Access:
        """Itself."""
        return self.access

    def __hash__(self) -> int:
        return hash((self.access.server, self.access.ca_file, self.access.server_name))
