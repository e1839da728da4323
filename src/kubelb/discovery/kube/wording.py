"""What a failed request is called: where it got to, what the cause was, what the user can do.

The cause is dug out of the wrappers that urllib3 puts around it, and told in words of our own, because the texts of
exceptions may repeat a header, and a header may be a token.
"""

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from urllib3.exceptions import ProtocolError, ProxyError, ReadTimeoutError

from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.steps import Phase

__all__ = ["why"]


def why(error: BaseException, phase: Phase, access: Access) -> tuple[str, str, bool]:
    """The reason, the cure, and whether it was silence."""
    parts = urlsplit(access.server)
    where = parts.netloc
    if access.proxy:
        where += f" through the proxy {urlsplit(access.proxy).netloc.rpartition('@')[2]}"
    causes = list(_causes(error))
    silent = any(isinstance(cause, (TimeoutError, ReadTimeoutError)) for cause in causes)
    words = "no answer in time" if silent else _words(causes)
    return f"{phase.value} {where}: {words}", _cure(causes, phase, access, parts.hostname or "", where), silent


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
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {(cause.reason or 'unknown').lower().replace('_', ' ')}"
        if isinstance(cause, socket.gaierror):
            return f"the name is unknown ({cause.strerror})"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    if any(isinstance(cause, ProxyError) for cause in causes):
        return "the proxy refused the tunnel"
    if any(isinstance(cause, ProtocolError) for cause in causes):
        return "the connection broke off"
    return f"{type(causes[-1]).__name__}"


def _cure(causes: list[BaseException], phase: Phase, access: Access, host: str, where: str) -> str:
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        name = access.server_name or host
        return f"is the CA of {access.origin} the one of this cluster, and does the certificate name {name}?"
    refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes)
    if phase is Phase.CONNECT and refused and not access.proxy:
        return f"the host answers, and nothing listens there: is the API server up, and is {where} its port?"
    if phase is Phase.RESOLVE:
        return f"check the name {host} and the nameserver"
    if phase is Phase.CONNECT:
        return f"is the API server up, and may this process connect to {where} (NetworkPolicy, firewall)?"
    if phase in {Phase.TLS, Phase.HEADERS}:
        return f"is {where} a Kubernetes API server, and is it healthy?"
    return ""
