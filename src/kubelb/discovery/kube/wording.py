"""What a failed request is called: where it got to, what the cause was, what the user can do.

A proxy in between is told from the server behind it: which of the two refused, and which of the two is to be looked at.

It is told in words of our own, because the texts of exceptions may repeat a header, and a header may be a token.
"""

import socket
import ssl
from collections.abc import Iterable, Iterator
from http.client import HTTPException, IncompleteRead
from urllib.parse import urlsplit

from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.allowance import UnreadableError
from kubelb.discovery.kube.proxy import ProxyHandshakeError, TunnelError
from kubelb.discovery.kube.steps import Phase

__all__ = ["PROXY", "PROXY_LOGIN", "certificate_refused", "why"]

PROXY = "is there a proxy in between that changes or closes streams?"
PROXY_LOGIN = (
    "give the login in proxy-url, or in HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT, with what is special in it "
    "%-encoded (@ is %40, : is %3A, / is %2F, % is %25)"
)
_BROKEN = (ConnectionError, IncompleteRead)
"""What http.client raises of the kind HTTPException where it is the end that came too soon."""
_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR", "HANDSHAKE_FAILURE")


def why(error: BaseException, phase: Phase, access: Access) -> tuple[str, str, bool]:
    """The reason, the cure, and whether it was silence."""
    parts = urlsplit(access.server)
    where, proxy = parts.netloc, ""
    if access.proxy:
        proxy = urlsplit(access.proxy).netloc.rpartition("@")[2]
        where += f" through the proxy {proxy}"
    causes = list(_causes(error))
    status = next((cause.status for cause in causes if isinstance(cause, TunnelError)), 0)
    if status:
        login = urlsplit(access.proxy or "").username is not None
        reason, cure = _refused_tunnel(status, proxy, parts.netloc, login=login)
        return f"connecting to {where}: {reason}", cure, False
    silent = any(isinstance(cause, TimeoutError) for cause in causes)
    words = "no answer in time" if silent else _words(causes)
    return f"{phase.value} {where}: {words}", _cure(causes, phase, access, parts.hostname or "", where, proxy), silent


def certificate_refused(error: BaseException, *, new: bool) -> bool:
    """Whether the peer, by all signs, does not accept the client certificate that it was shown.

    In TLS 1.3 the client's handshake is over before the server has looked at it. What it says then may be lost: it
    closes with our request unread, which resets the connection. So a `new` one that ends before any answer counts.
    """
    causes = list(_causes(error))
    if _near(causes):  # the server has not been reached
        return False
    return _alert(causes) or (new and any(isinstance(cause, ConnectionError | ssl.SSLEOFError) for cause in causes))


def _alert(causes: Iterable[BaseException]) -> bool:
    reasons = [cause.reason or "" for cause in causes if isinstance(cause, ssl.SSLError)]
    return any("ALERT" in reason and any(word in reason for word in _CERTIFICATE) for reason in reasons)


def _near(causes: Iterable[BaseException]) -> bool:
    """Whether it was the proxy's own handshake, which the server has no part in."""
    return any(isinstance(cause, ProxyHandshakeError) for cause in causes)


def _refused_tunnel(status: int, proxy: str, server: str, *, login: bool) -> tuple[str, str]:
    if status == 407:
        what = "does not accept the login that it was given" if login else "asks for a login, and none was given"
        return f"the proxy {what} (HTTP 407)", PROXY_LOGIN
    cure = f"does {proxy} allow CONNECT to {server}? If it is not to go through it, name it in NO_PROXY"
    return f"the proxy refused the tunnel (HTTP {status})", cure


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo += [each.__context__, each.__cause__, *(arg for arg in each.args if isinstance(arg, BaseException))]


def _words(causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, UnreadableError):
            return str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            whose = "the proxy's" if _near(causes) else "its"
            return f"{whose} certificate is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {(cause.reason or 'unknown').lower().replace('_', ' ')}"
        if isinstance(cause, socket.gaierror):
            return f"the name is unknown ({cause.strerror})"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    if any(isinstance(cause, _BROKEN) for cause in causes):
        return "the connection broke off"
    if any(isinstance(cause, HTTPException) for cause in causes):
        return "what it says is no HTTP"
    return f"{type(causes[-1]).__name__}"


def _cure(causes: list[BaseException], phase: Phase, access: Access, host: str, where: str, proxy: str) -> str:
    invalid = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
    if _near(causes):
        named = urlsplit(f"//{proxy}").hostname or ""
        if invalid:
            return f"does this system trust the CA of {proxy}, and does the certificate name {named}?"
        return f"is {proxy} a proxy that speaks TLS itself? If not, its URL begins with http://"
    if invalid:
        name = access.server_name or host
        return f"is the CA of {access.origin} the one of this cluster, and does the certificate name {name}?"
    refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes)
    if phase is Phase.CONNECT and refused and not access.proxy:
        return f"the host answers, and nothing listens there: is the API server up, and is {where} its port?"
    if _alert(causes):
        return (
            f"does {where} accept the client certificate of {access.origin}? It may have expired, be of another CA, "
            "or be missing"
        )
    if phase is Phase.RESOLVE:
        name = (
            (urlsplit(f"//{proxy}").hostname or "") if proxy else host
        )  # with a proxy it is the proxy that looks ours up
        return f"check the name {name} and the nameserver"
    if phase is Phase.CONNECT and proxy:
        return f"is the proxy up, and is {proxy} right? It is from proxy-url in {access.origin}, or from HTTPS_PROXY"
    if phase is Phase.CONNECT:
        return f"is the API server up, and may this process connect to {where} (NetworkPolicy, firewall)?"
    if phase in {Phase.TLS, Phase.HEADERS}:
        return f"is {where} a Kubernetes API server, and is it healthy?"
    return PROXY if phase in {Phase.BODY, Phase.STREAM} else ""
