"""A few requests to the API server: the transport, the paging and the words that discovery itself uses.

So what the doctor is told is what a load balancer would be told, and the cure is the same.
"""

from types import TracebackType
from typing import Self

import msgspec

from kubelb.clock import monotonic
from kubelb.discovery.kube.access import Access, Given
from kubelb.discovery.kube.diagnose import Code, Trouble, failed, refused
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.pages import fetch
from kubelb.discovery.kube.query import Query
from kubelb.discovery.kube.steps import Failure, Get
from kubelb.discovery.kube.transport import Transport
from kubelb.discovery.kube.wire import Slice

__all__ = ["Api"]

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
CONNECT, READ = 3.0, 10.0
"""Seconds; a user waits for the result."""
PAGE = 500


class ReviewStatus(msgspec.Struct):
    allowed: bool = False


class Review(msgspec.Struct):
    """A SelfSubjectAccessReview, as far as it is read."""

    status: ReviewStatus


class Api:
    """One API server. Its methods raise `Trouble` with reason and cure. `odd` collects what made no sense."""

    def __init__(self, access: Access) -> None:
        self.odd: list[str] = []
        self._transport = Transport(
            Given(access), Lifeline(), self.odd.append, connect_timeout=CONNECT, read_timeout=READ
        )

    def may(self, verb: str, namespace: str) -> bool:
        """Ask whether we may do this with the EndpointSlices of a namespace."""
        asked = {"namespace": namespace, "verb": verb, "group": "discovery.k8s.io", "resource": "endpointslices"}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        answer = self._transport.post(REVIEWS, msgspec.json.encode(review))
        if isinstance(answer, Failure):
            raise failed(answer)
        if answer.status not in {200, 201}:
            raise refused(answer, verb, namespace)
        try:
            return msgspec.json.decode(answer.body, type=Review).status.allowed
        except msgspec.MsgspecError:
            raise Trouble(Code.MALFORMED, "the answer to a SelfSubjectAccessReview makes no sense") from None

    def slices(self, namespace: str, service: str) -> list[Slice]:
        """List the slices of a Service."""
        steps = fetch(Query(namespace, (service,)), "0", PAGE, fresh=False, sink=_Notes(self.odd), clock=monotonic)
        try:
            step = next(steps)
            while True:
                step = steps.send(self._transport.get(step) if isinstance(step, Get) else None)
        except StopIteration as stop:
            slices: list[Slice] = stop.value.slices
            return slices

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()


class _Notes:
    """The sink of a single list: of all that a stream has to say it hears what was left out."""

    def __init__(self, odd: list[str]) -> None:
        self._odd = odd

    def skipped(self, what: str, reason: str) -> None:
        self._odd.append(f"{what}: {reason}")

    def heard(self) -> None: ...
