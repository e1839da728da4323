"""Response bodies that hold the lease: a request is in flight until its body has been read, closed, broken or lost.

The latency of an endpoint was taken at the headers. The end of the body decides the rest. A body that is read to its
end is a success. One that breaks is a failure of the endpoint, and is not repeated: the caller has had the headers. One
that is closed early, abandoned or cancelled says nothing.

A response that is dropped unread is the one case that needs a finalizer: httpcore would keep its connection for ever.
It is a weak reference whose callback is a deque's `append`: no Python frame in which Ctrl-C could be swallowed, and no
lock, because the collector may run it inside one. The next request closes what it finds there, and the pool of an
endpoint that is gone. The reference is kept by the transport, for a response and its stream are a cycle and would take
it along.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from weakref import ref

from kubelb.adapters._httpx.http2.endings import judgement
from kubelb.adapters._httpx.timeouts import Timeouts
from kubelb.adapters.defaults import PATIENCE, SMALL
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.model import CANCELLED, SUCCESS, Outcome, Sent, Verdict

__all__ = ["Body", "Ending"]


class _Watch(ref["Ending"]):
    """A weak reference to a body. It knows what must be closed if the body is dropped before it is closed."""

    __slots__ = ("inner", "state")
    inner: Any
    state: EndpointState


class Ending:
    """What this body and asyncio's (`abody.py`) share: the lease's end, exactly once."""

    def __init__(self, inner: Any, lease: Lease, timeouts: Timeouts, request: Any, owner: Any) -> None:
        self._inner = inner
        self._lease = lease
        self._timeouts = timeouts
        self._request = request
        self._owner = owner
        self._ended = False
        self._watch: _Watch | None = _Watch(self, owner.lost.append)
        self._watch.inner = inner
        self._watch.state = lease.state
        owner.open.add(self._watch)

    def _unwatch(self) -> None:
        """The body is being closed. A weak reference that is deleted before its object never calls its callback."""
        self._owner.open.discard(self._watch)
        self._watch = None

    def _finish(self, outcome: Outcome | None) -> None:
        """End it. None says nothing and takes no lock of ours: so ends what the collector ends, inside any of them."""
        if self._ended:
            return
        lease = self._lease
        lease.release(outcome)
        self._ended = True
        if lease.state.removed:
            self._owner.left(lease)

    def absolve(self) -> None:
        """Whatever becomes of it, it says nothing about the endpoint."""
        self._lease.release(None)

    def _broken(self, error: Exception) -> Exception:
        """Return httpx's exception for one that ended the body."""
        kit = self._owner.kit
        if self._timeouts.over():  # no fault of the endpoint
            self._finish(CANCELLED)
            late: Exception = kit.httpx.ReadTimeout("the deadline passed before the body's end", request=self._request)
            late.__cause__ = error
            return late
        judged = judgement(error)
        verdict, incident = (Verdict.FAILED, None) if judged is None else (judged.verdict, judged.incident)
        self._finish(Outcome(verdict, sent=Sent.ANSWERED, reason="body broken", error=error, incident=incident))
        mapped: Exception = kit.mapped(error, self._request)
        return mapped

    def _worth_reading(self, headers: Any) -> bool:
        """Whether a response that is thrown away is small enough to be read, so that its connection can be kept."""
        self._timeouts.end_within(PATIENCE)
        length = headers.get("content-length", "")
        return length.isdigit() and int(length) <= SMALL


class Body(Ending):
    """The sync half; `Kit` makes it the kind of stream that the client insists on."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._inner
        except Exception as error:
            mapped = self._broken(error)
            if mapped is error:
                raise
            raise mapped from mapped.__cause__
        except BaseException:
            self._finish(None)
            raise
        self._finish(SUCCESS)

    def close(self) -> None:
        """Give the connection back, or drop it if the body was not read to its end."""
        self._unwatch()
        try:
            self._inner.close()
        finally:
            if not self._ended:
                self._finish(None)

    def discard(self, headers: Any) -> None:
        """Throw the response away, unless it is closed: another request may have its connection by then."""
        if self._watch is None:
            return
        try:
            with suppress(Exception):
                if self._worth_reading(headers):
                    for _ in self._inner:
                        pass
        finally:
            with suppress(Exception):
                self.close()
