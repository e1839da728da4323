"""Builder: makes the pickers of the moment out of what was seen.

    the policy's picker, in slow start while there are newcomers, in fair shares while some are bounded to them

A wrapper is there only while it has something to do, so the ordinary pick asks nothing but the policy's own picker.
Where there is nothing to pick, the picker is one that refuses and says why.

First the policy is asked which endpoints it would ever pick (`Policy.among`), and all that follows keeps to those:
newcomers and elders, what is bounded, what rests, probes and trials. A policy that is a rule and cannot say is no rule
to break: then every request is refused.

It runs outside the balancer's lock, because a policy is foreign code: a `build` that raises costs the policy its turn,
not the caller its request.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from kubelb.clock import Clock
from kubelb.core.events import Event, Skipped
from kubelb.core.health.circuits import Circuit
from kubelb.core.health.fair_share import FairSharePicker
from kubelb.core.health.guards import Guards
from kubelb.core.health.sinkholes import Sinkhole
from kubelb.core.health.slow_start import SlowStart, SlowStartPicker
from kubelb.core.members import Members
from kubelb.core.picking.picking import Claim, Picking
from kubelb.core.picking.seen import Seen, States, without
from kubelb.core.policies import Picker, Policy
from kubelb.core.policies.random import RandomPicker
from kubelb.core.refusal import Refusing, refusal
from kubelb.core.state import EndpointState
from kubelb.core.whence import whence
from kubelb.errors import Closed, LoadBalancerError, Unusable
from kubelb.model import Request

__all__ = ["Builder"]

ROUNDS = 8
"""Times that a policy is asked which of the endpoints that are due a probe it would pick."""


class Chosen(NamedTuple):
    """What the policy would ever pick, of what was seen."""

    members: Members
    """With those awake to choose among."""
    eligible: States
    due: States
    unwanted: States
    """What is due and not among them."""


class Builder:
    """One balancer's; it keeps nothing of what it makes."""

    def __init__(
        self,
        service: str,
        policy: Policy,
        guards: Guards,
        slow_start: SlowStart | None,
        claim: Claim,
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
        self._clock = clock
        self._rng = rng
        self._tell = tell

    def nothing(self) -> Picking:
        """Return the pickers of a balancer that knows nothing yet."""
        return Picking(self.service, Refusing(partial(refusal, self.service, None)), self._rng)

    def closed(self) -> Closed:
        """Return the error of a balancer that is closed."""
        return Closed(self.service, "the load balancer is closed")

    def of(self, seen: Seen, members: Members, last: Picking, *, closed: bool) -> Picking:
        """Make the pickers for what was seen, in place of the last ones. `members` are those awake."""
        if closed:
            return Picking(self.service, Refusing(self.closed), self._rng)
        if not seen.everyone:
            return self._refusing(partial(refusal, self.service, seen.snapshot), seen, last)
        try:
            chosen = self._chosen(seen, members)
        except Exception as error:  # noqa: BLE001
            reason = f"among raised {error!r}; every request is refused"
            self._tell([Skipped(self.service, f"policy {self._policy!r}", reason)])
            return self._refusing(partial(self._lawless, repr(error)), seen, last)
        if not chosen.eligible:
            return self._refusing(self._why(chosen.members, seen), seen, last, chosen)
        awake = chosen.members.states
        own = self._build(chosen.members, last.before)
        before = last.before if own is None else own  # what was learnt outlives a build that fails
        base = self._slowly(self._or_chance(own, awake), before, chosen.members, seen.newcomers)
        if bounded := _bounded(seen.bounded, awake):
            others = chosen.members.among(without(awake, [each.state for each in bounded]))
            beside = self._slowly(self._made(others, before), before, others, seen.newcomers)
            base = FairSharePicker(base, beside, bounded, self._guards.sinkholes, len(awake))
        return Picking(
            self.service,
            base,
            self._rng,
            eligible=chosen.eligible,
            awake=awake,
            everyone=chosen.members.used,
            known=len(seen.everyone),
            before=before,
            reserve=lambda states: self._made(chosen.members.among(states), before),
            refuse=self._refused,
            due=chosen.due,
            unwanted=chosen.unwanted,
            gate=self._gate(seen),
            claim=self._claim,
        )

    def _chosen(self, seen: Seen, members: Members) -> Chosen:
        """Ask the policy which of them it would ever pick."""
        among = self._policy.among
        own = among(members)
        if own is members:
            return Chosen(members, seen.eligible, seen.due, ())
        eligible, tried = own.states, tuple(dict.fromkeys(seen.due))
        if seen.eligible is not seen.awake:
            eligible = tuple(dict.fromkeys((*eligible, *among(members.among(seen.eligible)).states)))
        wanted, refused = self._wanted(members, seen.eligible, tried)
        return Chosen(
            own if own.states else own.among(eligible),  # where all of them rest, that says nothing
            eligible,
            tuple(state for state in seen.due if state in wanted),
            tuple(state for state in tried if state in refused),
        )

    def _wanted(
        self, members: Members, eligible: States, tried: States
    ) -> tuple[frozenset[EndpointState], frozenset[EndpointState]]:
        """Return those of `tried` that the policy would pick, were they well, and those that it never would.

        They may not all be well, so those that others outrank are asked for without these, and so on until it takes
        none; or for some rounds, each of which looks at all: what is left then has its turn with the next change.
        """
        wanted: set[EndpointState] = set()
        rest = frozenset(tried)
        for _ in range(ROUNDS):
            if not rest:
                break
            asked = members.among((*eligible, *(state for state in tried if state in rest)))
            found = rest.intersection(self._policy.among(asked).states)
            if not found:
                return frozenset(wanted), rest
            wanted |= found
            rest -= found
        return frozenset(wanted), frozenset()

    def _build(self, members: Members, before: Picker | None) -> Picker | None:
        """Have the policy make a picker; None where it fails, and an event."""
        try:
            picker = self._policy.build(members, self._rng, before)
            blank = getattr(getattr(picker, "pick", None), "__func__", None) is Picker.pick
            if blank or not isinstance(picker, Picker):
                raise TypeError(f"{picker!r} has no pick(request, now); return a Picker")  # noqa: TRY301 - one report
            if not hasattr(picker, "states"):
                what = f"{type(picker).__qualname__} has 'states' in __slots__ and sets none"
                raise TypeError(f"{what}; call Picker.__init__(self, members.states)")  # noqa: TRY301 - one report
        except Exception as error:  # noqa: BLE001
            reason = f"build raised {error!r}; picking at random"
            self._tell([Skipped(self.service, f"policy {self._policy!r}", reason)])
            return None
        return picker

    def _made(self, members: Members, before: Picker | None) -> Picker:
        return self._or_chance(self._build(members, before), members.states)

    def _or_chance(self, picker: Picker | None, states: States) -> Picker:
        return RandomPicker(states, self._rng) if picker is None else picker  # one of the user's may be falsy

    def _slowly(self, picker: Picker, before: Picker | None, members: Members, newcomers: States) -> Picker:
        """Return a picker for these members, in slow start where some of them are new."""
        states = members.states
        elders = without(states, newcomers)
        if not (elders and self._slow_start and len(elders) < len(states)):
            return picker
        crowd = (len(states) - len(elders)) // len(elders)
        return SlowStartPicker(picker, self._made(members.among(elders), before), crowd, self._slow_start, self._rng)

    def _refusing(
        self, why: Callable[[], LoadBalancerError], seen: Seen, last: Picking, chosen: Chosen | None = None
    ) -> Picking:
        """Return pickers that refuse every request, but for probes and trials."""
        return Picking(
            self.service,
            Refusing(why),
            self._rng,
            everyone=chosen.members.used if chosen else (),
            known=len(seen.everyone),
            before=last.before,
            due=chosen.due if chosen else (),
            unwanted=chosen.unwanted if chosen else (),
            gate=self._gate(seen),
            claim=self._claim,
        )

    def _gate(self, seen: Seen) -> Callable[[], LoadBalancerError] | None:
        return None if seen.gate is None else partial(self._gated, seen.gate)

    # Why a request is refused, asked later, when one comes

    def _why(self, members: Members, seen: Seen) -> Callable[[], LoadBalancerError]:
        if not members.rules and not seen.eligible:
            return partial(self._barred, seen.everyone)
        return partial(self._ruled, members, len(seen.everyone))

    def _barred(self, states: States) -> Unusable:
        return self._guards.barred(self.service, states, self._clock())

    def _gated(self, circuit: Circuit) -> Unusable:
        return self._guards.gated(self.service, circuit, self._clock())

    def _ruled(self, members: Members, known: int) -> Unusable:
        which = f"endpoints {' and '.join(members.rules)}" if members.rules else "some of the endpoints"
        counts = {"elsewhere": known - len(members.used), **Counter(map(self._guards.word, members.used))}
        what = "each of those is out" if members.used else "there is none"
        return Unusable(self.service, f"the policy picks only {which}, and {what}", counts)

    def _lawless(self, error: str) -> Unusable:
        return Unusable(self.service, f"the policy cannot say which endpoints it picks: {error}")

    def _refused(self, request: Request, picker: Picker) -> Unusable:
        try:
            reason = str(picker.why(request))
        except Exception as error:  # noqa: BLE001
            reason = f"the policy picks no endpoint for this request, and cannot say why: {whence(error)}"
        return Unusable(self.service, reason)


def _bounded(sinkholes: tuple[Sinkhole, ...], awake: States) -> tuple[Sinkhole, ...]:
    """Return those that are among these endpoints; none where all of these are bounded."""
    if not sinkholes:
        return ()
    some: frozenset[EndpointState] = frozenset(awake)
    found = tuple(each for each in sinkholes if each.state in some)
    return found if len(found) < len(some) else ()
