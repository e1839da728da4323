"""Assembly: makes the pickers of the moment out of what a survey saw.

    the policy's picker, in slow start while there are newcomers, in fair shares while some are bounded to them,
    in probes while some are due, in the service's gate

A wrapper is there only while it has something to do, so the ordinary pick asks nothing but the policy's own picker.
Where there is nothing to pick, the picker is one that refuses and says why.

It runs outside the balancer's lock, because a policy's `build` is foreign code: what it raises costs the policy its
turn, not the caller its request.
"""

import random
from collections.abc import Callable, Iterable
from functools import partial

from kubelb.clock import Clock
from kubelb.core.events import Event, Skipped
from kubelb.core.health.circuits import Circuit
from kubelb.core.health.fair_share import FairSharePicker
from kubelb.core.health.guards import Guards
from kubelb.core.health.probe import GatePicker, ProbePicker
from kubelb.core.health.slow_start import SlowStart, SlowStartPicker
from kubelb.core.pickers import Pickers
from kubelb.core.policies import Picker, Policy
from kubelb.core.policies.random import RandomPicker
from kubelb.core.refusal import Refusing, refusal
from kubelb.core.state import EndpointState
from kubelb.core.survey import Survey
from kubelb.errors import Closed, Unusable

__all__ = ["Assembly"]


class Assembly:
    """One balancer's; it keeps nothing but how the next picker of the policy is made."""

    def __init__(
        self,
        service: str,
        policy: Policy,
        guards: Guards,
        slow_start: SlowStart | None,
        claim: Callable[[EndpointState], bool],
        claim_gate: Callable[[], bool],
        *,
        clock: Clock,
        rng: random.Random,
        tell: Callable[[Iterable[Event]], None],
    ) -> None:
        self.service = service
        """Its name in what pickers raise."""
        self._policy = policy
        self._guards = guards
        self._slow_start = slow_start
        self._claim = claim
        self._claim_gate = claim_gate
        self._clock = clock
        self._rng = rng
        self._tell = tell
        self._make: Callable[[tuple[EndpointState, ...], random.Random], Picker] = policy.build
        """Builds the next picker: the policy, or the last picker where that can make another from itself."""

    def nothing(self) -> Pickers:
        """Return the pickers of a balancer that knows nothing yet."""
        return Pickers(self.service, self.build, (), Refusing(partial(refusal, self.service, None)))

    def closed(self) -> Closed:
        """Return the error of a balancer that is closed."""
        return Closed(self.service, "the load balancer is closed")

    def of(self, seen: Survey, *, closed: bool) -> Pickers:
        """Make the pickers for what was seen."""
        base = picker = Refusing(self.closed) if closed else self._base(seen)
        gate = None
        if seen.due:
            picker = ProbePicker(base, seen.due, self._claim)
        if seen.gate is not None:
            gate = partial(self._gated, seen.gate)
            picker = GatePicker(picker, self._claim_gate, gate)
        return Pickers(self.service, self.build, seen.eligible, base, picker, gate, seen.awake, seen.everyone)

    def build(self, states: tuple[EndpointState, ...]) -> Picker:
        """Have the policy make a picker for these; where it fails, one that picks at random, and an event."""
        try:
            picker = self._make(states, self._rng)
            if not callable(getattr(picker, "pick", None)):
                raise TypeError(f"{picker!r} has no pick(request, now); return a Picker")  # noqa: TRY301 - one report
        except Exception as error:  # noqa: BLE001
            self._make = self._policy.build
            reason = f"build raised {error!r}; picking at random"
            self._tell([Skipped(self.service, f"policy {self._policy!r}", reason)])
            return RandomPicker(states, self._rng)
        self._make = getattr(picker, "rebuild", None) or self._policy.build
        return picker

    def _base(self, seen: Survey) -> Picker:
        if seen.barred:
            return Refusing(partial(self._barred, seen.barred))
        if not seen.eligible:
            return Refusing(partial(refusal, self.service, seen.snapshot))
        base = self._slowly(seen.awake, seen.elders)
        if not seen.bounded:
            return base
        others = self._slowly(seen.others, seen.other_elders)
        return FairSharePicker(base, others, seen.bounded, self._guards.sinkholes, len(seen.awake))

    def _slowly(self, states: tuple[EndpointState, ...], elders: tuple[EndpointState, ...]) -> Picker:
        """Return the policy's picker for these, in slow start where some of them are no elders."""
        base = self.build(states)
        if not (elders and self._slow_start and len(elders) < len(states)):
            return base
        crowd = (len(states) - len(elders)) // len(elders)
        return SlowStartPicker(base, self.build(elders), crowd, self._slow_start, self._rng)

    def _barred(self, states: tuple[EndpointState, ...]) -> Unusable:
        return self._guards.barred(self.service, states, self._clock())

    def _gated(self, circuit: Circuit) -> Unusable:
        return self._guards.gated(self.service, circuit, self._clock())
