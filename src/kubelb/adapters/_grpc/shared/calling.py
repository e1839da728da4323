"""What the four kinds of calls share: the method, its sub-channels' own multicallables, and how a call begins.

A call in one line: pick an endpoint whose connection is ready, let that sub-channel's multicallable make the RPC,
release. The attempt flow comes in only where that was not possible or did not do.
"""

from collections.abc import Callable
from copy import copy
from functools import partial
from traceback import walk_tb
from typing import Any, Self

import grpc

from kubelb.adapters._grpc.shared.codes import outcome_of
from kubelb.adapters._grpc.shared.library import library
from kubelb.adapters._grpc.shared.refusals import refusal
from kubelb.adapters._grpc.shared.requesting import header_in, wanted_by
from kubelb.adapters._grpc.shared.seen import Attempts, WhenOver, when_over
from kubelb.adapters._grpc.shared.view import View
from kubelb.adapters.balancers import looks_into_requests
from kubelb.adapters.http import balanced
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.errors import DeadlineExceeded, LoadBalancerError
from kubelb.model import Outcome, Request, Sent, Verdict
from kubelb.process import here
from kubelb.runtime.door import annotate
from kubelb.runtime.hinting import current

__all__ = ["Calling", "ended"]


class Calling:
    """A method of a service, over every endpoint of it."""

    kind: str
    """The name of the factory on a channel."""
    replayable: bool
    """Whether the request is one message, which can be sent again."""
    gone: type[Exception] = ValueError
    """What grpcio raises for a call on a sub-channel that was closed."""
    when_over: WhenOver = staticmethod(when_over)

    def __init__(self, channel: Any, method: str | bytes, serializer: Any, deserializer: Any, registered: Any) -> None:
        self.channel = channel
        self.lb = channel.lb
        self.clock = channel.lb.balancer.clock
        self.method = name = method.decode("latin-1") if isinstance(method, bytes) else method
        self.serializer = serializer
        self._facts = (method, serializer, deserializer)
        self._registered = registered
        self._idempotent = channel.repeatable(name)
        self.waits, self.longest = channel.configured(name)
        """What the service config says: the default of `wait_for_ready`, and the most seconds of a call."""
        self.wanted = balanced(self._idempotent, self.replayable)
        """Of a call that has no hints around it and is not read by the policy."""
        self.key_source = self.lb.balancer.key_source
        self._views = looks_into_requests(self.lb)
        self._read = self._views or self.key_source is not None
        self.plain = not self._read and self.longest is None
        """Whether nothing but hints around a call changes what it wants."""
        self.watch = self.lb.watch
        self.always_flow = self.lb.always_flow
        self._straight = self.plain and not self.waits and not self.always_flow
        self.bound: dict[EndpointState, Any] = {}
        """What `at` has made so far."""
        self._abandoned: list[object] = []
        self.off = channel.off
        self._past: tuple[Any, Any] | None = None
        """The plain channel, and its multicallable."""

    def past(self) -> Any:
        """Return grpcio's own multicallable, for a call that goes past kubelb; raises RpcError where there is none."""
        library.use()
        channel, kept = self.channel.plain.channel(), self._past
        if kept is None or kept[0] is not channel:
            made = getattr(channel, self.kind)(*self._facts, _registered_method=self._registered)
            kept = self._past = channel, made
        return kept[1]

    def at(self, state: EndpointState) -> Any:
        """Return the multicallable of an endpoint's sub-channel."""
        try:
            return self.bound[state]
        except KeyError:
            channel = self.channel.subs.get(state).channel
            bound = getattr(channel, self.kind)(*self._facts, _registered_method=self._registered)
            self.bound[state] = bound
            return bound

    def forget(self, state: EndpointState) -> None:
        """The sub-channel of this endpoint is closed."""
        self.bound.pop(state, None)

    def forget_all(self) -> None:
        """So are all."""
        self.bound, self._past = {}, None

    def abandon(self) -> None:
        """In a forked child: forget them, and keep them from the collector, which would close the parent's."""
        self._abandoned += [self.bound, self._past]
        self.forget_all()

    def ordinary(self, timeout: float | None) -> bool:
        """Whether a call without metadata wants what any call of this method wants, and nothing watches it.

        It is asked of each call, so it must be quick; of one that is not ordinary `begin` knows more.
        """
        return (
            self._straight
            and (timeout is None or timeout > 0)
            and current() is None
            and here[0] == 1  # else the child of a fork of which Python was not told
            and not library.lost
            and not self.watch.on()
        )

    def begin(self, timeout: float | None, metadata: Any) -> tuple[Request, float | None]:
        """Return what this call wants of the balancer and its timeout, by the hints around it and its metadata."""
        library.use()
        hinted, source = current(), self.key_source
        wanted = self.wanted
        if hinted is not None or self._read:
            read_key = None if source is None else lambda: source.read(header_in(metadata), lambda: self.method)
            view = partial(View, self, metadata) if self._views else None
            wanted, timeout = wanted_by(hinted, self._idempotent, self.replayable, timeout, read_key, view)
        if self.longest is not None:
            timeout = self.longest if timeout is None else min(timeout, self.longest)
        if timeout is not None and timeout <= 0:  # no pod would be to blame for its silence
            raise self.refused(DeadlineExceeded(str(self.lb.target), "the deadline was over before the call"))
        return wanted, timeout

    def started(self, kind: Callable[..., Any], *said: Any) -> Any:
        """Return the call object of a call that begins and does not block."""
        if not self.watch.on():
            return kind(self, *said)
        seen = self.watch.rpc(self.method)
        with seen.current():
            call = kind(self.seen_by(seen, blocks=False), *said)
        self.when_over(call, seen)
        return call

    def seen_by(self, seen: Any, *, blocks: bool) -> Self:
        """Return a copy of this multicallable for one call that telemetry watches."""
        twin = copy(self)
        twin.bound = {}  # nothing gets past `at`
        twin.at = Attempts(self.at, seen, blocks, self.when_over)  # type: ignore[method-assign]
        return twin

    def overdue(self, start: float, timeout: float | None) -> float | None:
        """Return the seconds since the end of a call's deadline, negative before it; None where it has none."""
        return None if timeout is None else self.clock() - start - timeout

    def judged(self, error: Any, lease: Lease, overdue: float | None = None) -> Outcome:
        """Return the outcome of an attempt that ended with this RpcError."""
        subs = self.channel.subs
        outcome: Outcome = subs.blamed(outcome_of(error, overdue, left=subs.left(lease)), lease)
        return outcome

    def outcome(self, error: Exception, lease: Lease, overdue: float | None = None) -> Outcome:
        """Return the outcome of an attempt that raised; raises again what is the caller's own."""
        if isinstance(error, grpc.RpcError):
            return self.judged(error, lease, overdue)
        if isinstance(error, self.gone) and lease.state.removed and not self.channel.subs.closed:
            # Picked in the moment its endpoint went away: the sub-channel was closed before it was asked. An
            # interceptor may raise the same of something else, when the call has been made.
            sent = Sent.NEVER if _of_grpcio(error) else Sent.MAYBE
            return Outcome(Verdict.NEUTRAL, sent=sent, retryable=True, reason="endpoint gone", error=error)
        lease.release(None)
        raise self.refused(error) if isinstance(error, LoadBalancerError) else error

    def refused_at_once(self, error: LoadBalancerError) -> Any:
        """Return the refusal of a call that begins; raises what grpcio does where the channel is closed."""
        if self.channel.subs.closed:
            raise ValueError("Cannot invoke RPC on closed channel!") from None
        return self.refused(error)

    def refused(self, error: LoadBalancerError) -> Any:
        """Return kubelb's refusal as an RpcError."""
        return refusal(error)


def _of_grpcio(error: Exception) -> bool:
    """Whether grpcio has raised this by itself: the traceback has frames of grpcio and kubelb only."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    return all(name.startswith(("grpc.", "kubelb.")) for name in modules)


def ended(outcome: Outcome) -> Any:
    """Return the value of a call's last attempt, or raise its own error with notes on those before it."""
    if outcome.error is not None:
        annotate(outcome)
        raise outcome.error
    return outcome.value
