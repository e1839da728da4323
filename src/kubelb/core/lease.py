"""Lease: one request in flight on one endpoint.

    lease = balancer.pick(request)      in flight
    lease.observe(outcome)              optional: the headers are here, the body is still being read
    lease.release(outcome)              no longer in flight

`release` acts exactly once and may be called again from anywhere: an adapter calls it at the body's end, on close, on
error, on cancel, whichever comes first. A lease that is never released stops counting when it is garbage collected
(see `kubelb.core.state`); it then says nothing about the endpoint's health. Latency is the time from the pick to the
first `observe` or `release`, so a slow reader of a body does not make a pod look slow. Headers that were a failure have
been counted: the end of their body, good or bad, adds nothing.

A finalizer may call ``release(None)`` and nothing else: only that takes no lock in any case.
"""

from weakref import ref

from kubelb.core.state import EndpointState
from kubelb.model import SUCCESS, Endpoint, Outcome, Verdict

__all__ = ["Lease"]


class Lease:
    """A handle on one request in flight; made by `Balancer.pick` only.

    >>> from kubelb.core import Balancer
    >>> from kubelb import Endpoint, Snapshot
    >>> balancer = Balancer()
    >>> _ = balancer.update(Snapshot(1, (Endpoint("10.0.0.1", 80),)))
    >>> lease = balancer.pick()
    >>> lease.endpoint.authority, lease.state.in_flight
    ('10.0.0.1:80', 1)
    >>> lease.release(); lease.release(); lease.state.in_flight
    0
    """

    __slots__ = ("__weakref__", "_observed", "_ref", "start", "state")

    def __init__(self, state: EndpointState, start: float) -> None:
        self.state = state
        self.start = start
        """When it was picked, in the balancer's time."""
        self._observed: Verdict | None = None
        self._ref: ref[Lease] | None
        self._ref = me = ref(self, state.discard)
        state.leases.add(me)

    @property
    def endpoint(self) -> Endpoint:
        """Where to send."""
        return self.state.endpoint

    @property
    def released(self) -> bool:
        """Whether it has stopped counting as in flight."""
        return self._ref not in self.state.leases

    def observe(self, outcome: Outcome) -> None:
        """Report how the attempt stands at its response headers; the request stays in flight. Only the first counts."""
        if self._observed is None:
            self._observed = outcome.verdict
            self.state.tracker.record(self.state, outcome, self.start)

    def release(self, outcome: Outcome | None = SUCCESS) -> None:
        """End the request with this outcome; None says nothing about the endpoint."""
        state = self.state
        try:
            state.leases.remove(self._ref)
        except KeyError:  # released before, or the state was cleared by a fork
            return
        self._ref = None  # dead references call nothing back
        if outcome is SUCCESS and self._observed is None:
            state.tracker.succeeded(state, self.start)
            return
        if outcome is None:
            state.others += self._observed is None
            return
        if self._observed is None:
            self._observed = outcome.verdict
            state.tracker.record(state, outcome, self.start)
        elif self._observed is Verdict.OK:
            state.tracker.record_end(state, outcome, self.start)

    def __repr__(self) -> str:
        return f"<Lease {self.state.endpoint.authority}{' released' if self.released else ''}>"
