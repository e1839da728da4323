"""How to reach an API server, in one value: where it is, what to trust, how to log in.

    Locator.open() -> Access          on the stream's thread: reads files, may run a kubeconfig's exec plugin
    Access.credentials.header()       before every request

Both ways in (`incluster.py`, `kubeconfig.py`) end here. A Locator is hashable and cheap, so two load balancers that
mean the same server share a stream before either has read a file. No secret is in any repr, none in an error's text.
"""

import ssl
from typing import Protocol
from urllib.parse import urlsplit

from kubelb.discovery.kube.certificates import Material, MaterialError, Stamp, stamp
from kubelb.discovery.kube.proxy import flaw
from kubelb.discovery.kube.site import is_name
from kubelb.masking import MASK, without_userinfo
from kubelb.records import field, record

__all__ = ["Access", "Credentials", "CredentialsError", "Given", "Issued", "Locator", "Nobody", "stamps"]


class CredentialsError(Exception):
    """The way in cannot be read; `cure` says what to do."""

    missing_extra = False
    """A package is not installed."""

    def __init__(self, reason: str, cure: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.cure = cure


class Credentials(Protocol):
    """How to log in."""

    def header(self, *, fresh: bool = False) -> tuple[str, str]:
        """Return the Authorization header ("" for none) and a warning ("" for none); raises `CredentialsError`.

        `fresh`: the server refused the last one; read it again.
        """
        ...


class Issued:
    """Credentials that a program gives out and can give again: an exec plugin's."""

    def certificate(self) -> tuple[bytes, bytes] | None:
        """Return the client certificate and its key, PEM, that belong to the last header; None where there is none."""
        raise NotImplementedError

    def refuse(self) -> None:
        """Take note that the server did not accept what was given last."""
        raise NotImplementedError


@record(frozen=True, slots=True)
class Nobody:
    """No Authorization header: a client certificate, or a server that asks nothing."""

    def header(self, *, fresh: bool = False) -> tuple[str, str]:  # noqa: ARG002
        """Nothing, and nothing to warn of."""
        return "", ""


@record(frozen=True, slots=True)
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
    ca_data: bytes | None = field(default=None, repr=False)
    """PEM, in place of the file; so are the next two."""
    cert_data: bytes | None = field(default=None, repr=False)
    key_data: bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    """``tls-server-name``: the name that the certificate must have, if not the host's."""
    proxy: str | None = field(default=None, repr=False)
    """May hold a password."""
    verify: bool = True
    impersonate: tuple[tuple[str, str], ...] = ()
    """Headers that ask to be taken for another user."""
    sources: tuple[tuple[str, Stamp | None], ...] = field(default=(), compare=False, repr=False)
    """The files that this was read from, as they were then; None for one that was not there."""
    again: "Locator | None" = field(default=None, compare=False, repr=False)
    """Where to find the same again, changed or not; None: where it was found."""

    def __post_init__(self) -> None:
        scheme, separator, rest = without_userinfo(self.server).partition("://")
        object.__setattr__(self, "server", f"{scheme.lower()}{separator}{rest}".rstrip("/"))
        if self.proxy is not None:
            without_userinfo(self.proxy)  # remembered as a secret; the connection needs it

    def check(self) -> None:
        """Raise `CredentialsError` for a server or proxy that cannot be asked: every message would have to name it."""
        try:
            parts = urlsplit(self.server)
            parts.port  # noqa: B018 - it is read for what it raises
        except ValueError:
            place = self.server.partition("://")[2] or self.server
            place = MASK if "@" in place else place
            raise CredentialsError(
                f"the server of {self.origin} has no host and port that make sense: {place}", "give https://HOST:PORT"
            ) from None
        if not parts.hostname:  # the system would take it for this machine
            raise CredentialsError(f"the server of {self.origin} has no host", "give https://HOST:PORT")
        if not is_name(parts.hostname):
            raise CredentialsError(
                f"the server of {self.origin} has a host that is no name: {parts.hostname}", "give https://HOST:PORT"
            )
        if self.server_name and not is_name(self.server_name.strip("[]")):
            raise CredentialsError(
                f"the tls-server-name of {self.origin} is no name: {self.server_name}",
                "give the name that the server's certificate has",
            )
        if self.proxy is not None and (what := flaw(self.proxy)):
            raise CredentialsError(
                f"the proxy for the server of {self.origin}, from proxy-url or HTTPS_PROXY, cannot be used: {what}",
                "give http://HOST:PORT",
            )

    @property
    def outdated(self) -> bool:
        """Whether a file that it was read from is another one by now."""
        return any(_stamp(name) != before for name, before in self.sources)

    def ssl_context(self) -> ssl.SSLContext | None:
        """One context for all that have the same files, a new one when a file changed; None for http."""
        if not self.server.startswith("https:"):
            return None
        cert, key = self.cert_data or self.cert_file, self.key_data or self.key_file
        issued = self.credentials.certificate() if isinstance(self.credentials, Issued) else None
        if issued is not None:
            cert, key = issued
        try:
            return Material(self.ca_data or self.ca_file, cert, key, self.verify).context()
        except MaterialError as error:
            raise CredentialsError(
                f"the certificates that {self.origin} names cannot be loaded: {error.strerror}",
                "check the CA and client certificate files",
            ) from None


def stamps(files: list[str]) -> tuple[tuple[str, Stamp | None], ...]:
    """What `Access.sources` takes. Ask before the files are read, or a change in between is never seen."""
    return tuple((name, _stamp(name)) for name in files)


def _stamp(name: str) -> Stamp | None:
    try:
        return stamp(name)
    except (OSError, ValueError):
        return None


class Locator(Protocol):
    """Where an Access is to be found. Hashable, equal to another that would find the same."""

    def open(self) -> Access:
        """Read it; raises `CredentialsError`. May block: never on a caller's thread."""
        ...

    def __hash__(self) -> int: ...


@record(frozen=True, slots=True)
class Given:
    """An Access that the caller made."""

    access: Access

    def open(self) -> Access:
        """Itself."""
        return self.access

    def __hash__(self) -> int:
        return hash((self.access.server, self.access.ca_file, self.access.server_name))
