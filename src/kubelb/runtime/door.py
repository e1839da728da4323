"""The door: what an adapter gives, so that the drivers can make its calls.

    adapter    Exchange: one call of the client's     Bridge: what the client can do, one for all calls
                   |                                     |
    driver     run(service, bridge, call)             `sync.py`; its twin for asyncio in `aio.py`
                 seen       where something listens, telemetry's view of the call; and of each attempt
                 prepare    what the call wants and how long it may take; refused before a pick is refused here
                 pick       nothing ready yet: the flow waits
                 attempt    the straight first one. An ordinary success is the call's end, and nearly every call's
                 go_on      all else: the attempt flow, attempt after attempt

An attempt returns how it ended, and the client's value. `OPENED` and `SUCCESS` are shared by all calls and say nearly
everything: an answer whose body is still being read, which holds the lease from now on; one that is complete. Any other
end is an `Outcome` of its own, with the client's exception as its `error` or with the answer beside it. Attempts touch
no lease: the door settles each, however it ends. They raise only what means "stop everything": a cancellation, an
interrupt, a mistake of the caller's that no other endpoint would do better with.

An open answer that no caller will get is closed, once: before the next attempt is made, or when the call ends in
another way. The connection of the first try is free when the second one begins.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from kubelb.core.lease import Lease
from kubelb.core.local import note
from kubelb.core.refused import refused
from kubelb.errors import DeadlineExceeded, LoadBalancerError
from kubelb.model import SUCCESS, Outcome, Request
from kubelb.printable import printable

if TYPE_CHECKING:
    from kubelb.runtime.calls import Calls
    from kubelb.telemetry.calls import Call

__all__ = [
    "OPENED",
    "AioAttempts",
    "AioBridge",
    "Attempts",
    "Bridge",
    "Exchange",
    "annotate",
    "judged",
    "refuse_late",
    "result",
]

OPENED = Outcome(open=True)
"""An ordinary answer, its body still to be read; one value for every call, so it is never given a lease or a value."""


class Exchange:
    """One call of a client's, for however many attempts. An adapter's own has what its client says beside this."""

    __slots__ = ("deadline", "limit", "seen", "start", "wanted")

    def __init__(self, wanted: Request, limit: float | None = None) -> None:
        """Of a call that needs no `prepare`. An adapter's own sets `seen` alone, and the rest when it is prepared."""
        self.wanted = wanted
        """What the balancer must know to pick."""
        self.limit = limit
        """Seconds from its start until all tries are over, up to the headers of an answer; None for any number."""
        self.deadline: float | None = None
        """Seconds that the caller gives for everything, the answer's body included; `limit` is no longer than that."""
        self.start: float
        """When its first attempt began, in the balancer's time."""
        self.seen: Call | None = None
        """What telemetry sees of it; None where nothing listens."""

    @property
    def ends(self) -> float | None:
        """When all tries are over, in the balancer's time; None for never."""
        return None if self.limit is None else self.start + self.limit


class Attempts(Protocol):
    """What goes on with a call needs of a client that blocks. Where a client has nothing to say, these defaults do."""

    def attempt(self, call: Any, lease: Lease, number: int, carrier: Mapping[str, str] | None) -> tuple[Outcome, Any]:
        """Make one attempt, the call's `number`, on the endpoint of `lease`; see the module for what it returns.

        `call` is the `Exchange` that the adapter has made. `carrier` holds the headers by which the trace context of
        this attempt travels; None where nothing listens.
        """
        ...

    def throw_away(self, outcome: Outcome) -> None:
        """Close an open answer (`outcome.value`) that will not be read."""

    def left(self, lease: Lease) -> None:
        """A request has ended on an endpoint that is gone: it may have been the last there. Must not raise."""

    def refused(self, error: LoadBalancerError, call: Any) -> Exception:  # noqa: ARG002
        """Return kubelb's own refusal as something that the client's users catch, too."""
        return error

    def told(self, outcome: Outcome, value: Any) -> Mapping[str, Any]:  # noqa: ARG002
        """Return what telemetry notes of an attempt that ended so, or of a call (by SUCCESS)."""
        return {}


class Bridge(Attempts, Protocol):
    """What the door needs of it, for a call from its beginning."""

    def seen(self, call: Any) -> "Call":
        """Return telemetry's view of the call; asked only where something listens."""
        ...

    def prepare(self, call: Any) -> None:
        """Set what the call wants and its limits. Raises what the client's users get for what cannot be sent."""
        ...


class AioAttempts(Protocol):
    """The same for asyncio. Two of its verbs are awaited, and those alone."""

    async def attempt(
        self, call: Any, lease: Lease, number: int, carrier: Mapping[str, str] | None
    ) -> tuple[Outcome, Any]:
        """As above."""
        ...

    async def throw_away(self, outcome: Outcome) -> None:
        """As above."""

    def left(self, lease: Lease) -> None:
        """As above."""

    def refused(self, error: LoadBalancerError, call: Any) -> Exception:  # noqa: ARG002
        """As above."""
        return error

    def told(self, outcome: Outcome, value: Any) -> Mapping[str, Any]:  # noqa: ARG002
        """As above."""
        return {}


class AioBridge(AioAttempts, Protocol):
    """As above."""

    def seen(self, call: Any) -> "Call":
        """As above."""
        ...

    def prepare(self, call: Any) -> None:
        """As above."""
        ...


def judged(outcome: Outcome, value: Any) -> Outcome:
    """Return an attempt's end as a value of its own, that holds what the client brought."""
    if outcome is OPENED or outcome is SUCCESS:
        outcome = Outcome(open=outcome.open)
    outcome.value = value
    return outcome


def refuse_late(service: "Calls", bridge: Bridge | AioBridge, call: Exchange) -> NoReturn:
    """The caller's deadline is over already; nothing is picked, let alone sent."""
    reason = f"deadline={call.deadline!r}: it was over before the call"
    raise bridge.refused(DeadlineExceeded(service.balancer.service, reason), call)


def result(outcome: Outcome) -> Any:
    """Return the answer, or raise the last try's own exception with notes on the others."""
    if outcome.error is None:
        return outcome.value
    annotate(outcome)
    error, outcome.error = outcome.error, None  # frames of its traceback hold the outcome: that would be a circle
    try:
        raise error
    finally:
        del error


def annotate(outcome: Outcome) -> None:
    """Note the earlier tries on the last one's error."""
    if outcome.error is not None:
        for number, before in enumerate(outcome.tries, 1):
            where = before.lease.endpoint.authority if isinstance(before.lease, Lease) else "?"
            how = printable(before.reason or before.verdict.value)
            if how == "connect error" and refused(before.error):  # an adapter's word for all that is no timeout
                how = "refused"
            note(outcome.error, f"kubelb: try {number} on {where} ended with {how}")
