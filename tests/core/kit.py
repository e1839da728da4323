"""What the tests of the core share: a clock to turn, pods to pick, a balancer with all its parts in view."""

import random
import re
from typing import Any

from kubelb.core import Balancer, EndpointState, Lease
from kubelb.core.events import Event
from kubelb.core.members import Members
from kubelb.core.policies import Picker, Policy
from kubelb.model import Endpoint, Outcome, Sent, Snapshot, Verdict


class Clock:
    """Time that passes only when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def pod(number: int, generation: int = 0, **fields: Any) -> Endpoint:
    """Return an endpoint whose address and pod follow from `number` and whose uid from `generation` too."""
    fields.setdefault("uid", f"{number}-{generation}")
    fields.setdefault("pod", f"web-{number}")
    return Endpoint(f"10.0.{number >> 8}.{number & 255}", 80, **fields)


def pods(count: int) -> tuple[Endpoint, ...]:
    return tuple(pod(number) for number in range(count))


class Told(list[Event]):
    """Events; wherever one names an endpoint it names its pod beside it."""

    def append(self, event: Event) -> None:
        if getattr(event, "endpoint", ""):
            assert re.fullmatch(r"web-\d+", event.pod), event
            assert event.pod in event.text, event
        super().append(event)


def built(policy: Policy, states: Any, rng: Any, before: Picker | None = None, used: Any = None) -> Any:
    """Have a policy build a picker for these states, of all that are in `used`."""
    return policy.build(Members(tuple(states), used), rng, before)


class Rig:
    """A Balancer under a clock of its own, its events kept."""

    def __init__(self, count: int = 3, policy: Any = "least_request", seed: int = 7, **options: Any) -> None:
        self.clock = Clock()
        self.events = Told()
        self.balancer = Balancer(
            policy, service="svc.ns", clock=self.clock, rng=random.Random(seed), emit=self.events.append, **options
        )
        self.version = 0
        if count:
            self.set(pods(count))

    def set(self, used: tuple[Endpoint, ...], parked: tuple[Endpoint, ...] = ()) -> Any:
        self.version += 1
        return self.balancer.update(Snapshot(self.version, used, parked))

    def state(self, number: int) -> EndpointState:
        ip = pod(number).ip
        return next(state for state in self.balancer.states() if state.endpoint.ip == ip)

    # What is inside, for tests that have to see it; said here once

    @property
    def picking(self) -> Any:
        """What the balancer picks with until the next change."""
        return self.balancer._picking

    @property
    def base(self) -> Any:
        """The policy's picker with slow start and fair shares around it, as far as there are any."""
        return self.balancer._picking.base

    @property
    def picker(self) -> Any:
        """What takes a first attempt."""
        return self.balancer._picker

    @property
    def guards(self) -> Any:
        return self.balancer._guards

    def lease(self, number: int) -> Lease:
        """Return a lease on one endpoint, whatever the policy thinks of it."""
        return Lease(self.state(number), self.clock())

    def fail(self, number: int, times: int = 1) -> None:
        for _ in range(times):
            self.lease(number).release(failed())

    def succeed(self, number: int) -> None:
        self.lease(number).release()

    def eject(self, number: int) -> None:
        self.fail(number, 5)

    def picks(self, count: int) -> dict[str, int]:
        """Pick and release `count` times; return how often each ip came."""
        seen = {state.endpoint.ip: 0 for state in self.balancer.states()}
        for _ in range(count):
            lease = self.balancer.pick()
            seen[lease.endpoint.ip] += 1
            lease.release()
        return seen

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def ended(rig: Rig, seconds: float, outcome: Outcome | None = None) -> None:
    """Have a request on the first endpoint that took so long end so."""
    lease = rig.lease(0)
    rig.clock.advance(seconds)
    lease.release(outcome)


def failed(**fields: Any) -> Outcome:
    """A failure that may be repeated if the request may."""
    fields.setdefault("sent", Sent.MAYBE)
    fields.setdefault("retryable", True)
    fields.setdefault("reason", "reset")
    return Outcome(Verdict.FAILED, **fields)


def refused() -> Outcome:
    """A failure before a byte was written."""
    return failed(sent=Sent.NEVER, reason="refused")


def busy(retry_after: float | None = None) -> Outcome:
    return Outcome(Verdict.BUSY, retryable=True, retry_after=retry_after, reason="429")
