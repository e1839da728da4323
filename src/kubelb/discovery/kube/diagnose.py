"""What went wrong, as far as an answer tells: one Trouble with a code to act on, and words with a cure for the user."""

from enum import Enum
from http import HTTPStatus

import msgspec

from kubelb.discovery.kube.steps import Failure, Phase, Reply
from kubelb.discovery.kube.stranger import between, page
from kubelb.discovery.kube.wire import Status, decode_status
from kubelb.discovery.kube.wording import PROXY, PROXY_LOGIN
from kubelb.printable import printable

__all__ = ["PROXY", "RESOURCE", "Code", "Trouble", "failed", "refused", "revoked", "role_for", "said"]

RESOURCE = "endpointslices.discovery.k8s.io"

WORDS = 300
"""Characters of a server's message that are repeated."""
PATIENCE = 300.0
"""Seconds of Retry-After that are believed; a proxy that says "tomorrow" shall not decide."""


class Code(Enum):
    """What to do about it hangs on this. The value is the word that events and health use."""

    EXPIRED = "expired"
    TOO_NEW = "server-error"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    THROTTLED = "throttled"
    SERVER = "server_error"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    SILENT = "silent"
    UNANSWERED = "unanswered"
    SHORT = "short"
    MALFORMED = "malformed"
    CREDENTIALS = "credentials"
    EXTRA = "missing-extra"
    INTERNAL = "internal"


# The stable words of `DiscoveryFailed.kind` are fewer than the ways to act.
_KINDS = {
    Code.SERVER: "server-error",
    Code.REJECTED: "server-error",
    Code.SHORT: "server-error",
    Code.BROKEN: "unreachable",
    Code.UNANSWERED: "silent",
}


class Trouble(Exception):
    """Why a request, or a stream, did not do what it should. Raised and caught inside the reflector only."""

    def __init__(self, code: Code, reason: str, cure: str = "", *, wait: float = 0.0) -> None:
        super().__init__(printable(reason))
        self.code = code
        self.reason = printable(reason)
        self.cure = printable(cure)
        self.wait = min(wait, PATIENCE)
        """Seconds that the server asked for."""
        self.later_page = False
        """It came in the middle of a paged list."""

    @property
    def kind(self) -> str:
        """The word for events."""
        return _KINDS.get(self.code, self.code.value)


def failed(failure: Failure) -> Trouble:
    """No answer."""
    if failure.phase is Phase.CREDENTIALS:
        code = Code.EXTRA if failure.missing_extra else Code.CREDENTIALS
        return Trouble(code, failure.reason, failure.cure)
    if failure.malformed:
        return Trouble(Code.MALFORMED, failure.reason, failure.cure)
    if failure.phase is Phase.STREAM:
        return Trouble(Code.SILENT if failure.silent else Code.BROKEN, failure.reason, failure.cure)
    if failure.silent and failure.phase in {Phase.HEADERS, Phase.BODY}:
        return Trouble(Code.UNANSWERED, failure.reason, failure.cure)
    return Trouble(Code.UNREACHABLE, failure.reason, failure.cure)


def refused(reply: Reply, verb: str, namespace: str) -> Trouble:
    """An answer, and not the one that was asked for."""
    status = _status(reply.body)
    wait = max(reply.retry_after, _wait(status))
    return _judge(reply.status, status, verb=verb, namespace=namespace, wait=wait, reply=reply)


def said(body: bytes, verb: str, namespace: str) -> Trouble:
    """An ERROR event: the same Status, after the status line had said 200."""
    status = _status(body)
    return _judge(status.code or 0, status, verb=verb, namespace=namespace, wait=_wait(status), reply=Reply(0))


def role_for(namespace: str) -> str:
    """Return the cure of a missing permission."""
    return (
        f"give the ServiceAccount, by a RoleBinding, a Role in namespace {namespace} with "
        'apiGroups ["discovery.k8s.io"], resources ["endpointslices"], verbs ["list", "watch"]'
    )


def revoked(namespace: str) -> str:
    """Return the cure where it was permitted before."""
    return (
        "it was allowed before: an API server that starts says so until it has read its roles, and kubelb asks again; "
        f"if it lasts, the permission was taken away: {role_for(namespace)}"
    )


def _judge(code: int, status: Status, *, verb: str, namespace: str, wait: float, reply: Reply) -> Trouble:
    words = page(reply.body)
    text = f"HTTP {code}: {words}" if words else _text(code, status)
    asked = f"{verb} {RESOURCE} in namespace {namespace}"
    if code == HTTPStatus.UNAUTHORIZED:
        source = f" from {reply.origin}" if reply.origin else ""
        return Trouble(
            Code.UNAUTHORIZED,
            f"{reply.server or 'the API server'} does not accept the credentials{source}: {text}",
            "check that the token is for this cluster and not expired, and that its ServiceAccount still exists",
            wait=wait,
        )
    if code == HTTPStatus.FORBIDDEN:
        return Trouble(Code.FORBIDDEN, f"not allowed to {asked}: {text}", _permission(status, namespace), wait=wait)
    if code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return Trouble(Code.REJECTED, f"{asked}: a proxy on the way asks for a login ({text})", PROXY_LOGIN, wait=wait)
    if code == HTTPStatus.GONE or status.reason in {"Expired", "Gone"}:
        return Trouble(Code.EXPIRED, f"{asked}: {text}", wait=wait)
    if 300 <= code < 400:
        reason = f"{asked}: redirected (HTTP {code}), and kubelb takes its credentials to no other place"
        return Trouble(Code.REJECTED, reason, between(reply.server, reply.origin), wait=wait)
    if words and code != HTTPStatus.TOO_MANY_REQUESTS:
        kind = Code.SERVER if code >= 500 else Code.REJECTED
        return Trouble(kind, f"{asked}: {text}", between(reply.server, reply.origin), wait=wait)
    if _too_new(status):
        return Trouble(Code.TOO_NEW, f"{asked}: {text}", wait=wait)
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        return Trouble(Code.THROTTLED, f"{asked}: {text}", "the API server is overloaded and asks to wait", wait=wait)
    if code >= 500:
        cure = "the API server is not well, and is asked again; see its log, or kubectl get --raw '/readyz?verbose'"
        return Trouble(Code.SERVER, f"{asked}: {text}", cure, wait=wait)
    cure = "check that the server is a Kubernetes API server, 1.21 or later" if code == HTTPStatus.NOT_FOUND else ""
    return Trouble(Code.REJECTED, f"{asked}: {text}", cure, wait=wait)


def _permission(status: Status, namespace: str) -> str:
    """Return the cure of a 403, which depends on what else may be wrong than a role that is missing."""
    message = status.message or ""
    if "cannot impersonate" in message:
        return (
            "the login may not act as what stands under as: in the kubeconfig's user; "
            'give it a role with the verb "impersonate", or take as: out'
        )
    if 'User "system:anonymous"' in message:
        return "no credentials were sent, or none that the server knows: does the kubeconfig's context name a user?"
    cure = role_for(namespace)
    if status.reason == "Forbidden":  # RBAC's own: it does not say whether the namespace exists, and refuses both alike
        return f"if {namespace} is the right namespace, {cure}; one that does not exist is refused in the same way"
    return cure


def _status(body: bytes) -> Status:
    try:
        return decode_status(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Status()


def _wait(status: Status) -> float:
    return max(0.0, (status.details.retry_after if status.details else None) or 0.0)


def _text(code: int, status: Status) -> str:
    words = printable(status.message or status.reason or "no reason given", WORDS)
    return f"HTTP {code}: {words}" if code else words


def _too_new(status: Status) -> bool:
    """The server has not seen that version yet. Told in different ways by different versions (client-go knows four)."""
    causes = (status.details.causes if status.details else None) or ()
    return (
        any(cause.reason == "ResourceVersionTooLarge" for cause in causes)
        or any("Too large resource version" in (cause.message or "") for cause in causes)
        or "Too large resource version" in (status.message or "")
    )
