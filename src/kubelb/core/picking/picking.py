"""Picking: what a balancer picks with between two changes, one value that is replaced as a whole.

Nearly every request is one call of `front.pick`, which is the policy's picker. What goes beyond that is in here:

    first      a probe or a trial is due, or the caller cannot use what was picked
    other      the request has been elsewhere: a second try, which is never a probe
    chance     the policy failed: the same at random

None of these builds a picker for one request. They choose in one order: those awake that were not tried, those that
rest, those awake again, those that rest again. In each the policy is asked first, by `Picker.other`; where that has
found none, a few random places are looked at and then all, in steps of a random stride: by a plain walk, what stands
behind a gap would be given the gap's share.

A claim, which makes a request the probe of an endpoint or a trial of a circuit, is made last, for what the caller can
use: no caller without a connection there spends it.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from random import Random
from typing import TypeAlias

from kubelb.core.policies.base import Picker
from kubelb.core.policies.round_robin import coprime_stride
from kubelb.core.refusal import Unconnected
from kubelb.core.state import EndpointState, Usable
from kubelb.errors import LoadBalancerError
from kubelb.model import Request

__all__ = ["Picking"]

States: TypeAlias = tuple[EndpointState, ...]

PLACES = 16
"""Random places that are looked at before all."""
LOOK = 8
"""Endpoints whose probe is due that are tried on one request, where its caller cannot use the first ones."""


Claim: TypeAlias = Callable[[EndpointState | None, bool], bool | None]
"""Makes a request the probe of an endpoint and, if so asked, a trial of the service's circuit: True. False where the
endpoint wants none any more, None where the circuit does not."""


class Picking:
    """The pickers of one moment; never altered, but for what is handed out."""

    __slots__ = (
        "_claim",
        "_refuse",
        "_reserve",
        "_reserved",
        "_rng",
        "_service",
        "awake",
        "base",
        "before",
        "due",
        "eligible",
        "everyone",
        "front",
        "gate",
        "known",
        "resting",
        "unwanted",
    )

    def __init__(
        self,
        service: str,
        base: Picker,
        rng: Random,
        *,
        eligible: States = (),
        awake: States = (),
        everyone: States = (),
        known: int = 0,
        before: Picker | None = None,
        reserve: Callable[[States], Picker] = Picker,
        refuse: Callable[[Request, Picker], LoadBalancerError] | None = None,
        due: Iterable[EndpointState] = (),
        unwanted: States = (),
        gate: Callable[[], LoadBalancerError] | None = None,
        claim: Claim | None = None,
    ) -> None:
        self._service = service
        self._rng = rng
        self.base = base
        """The policy's picker over those awake, with slow start and fair shares around it."""
        self.eligible = eligible
        """Those that may be picked, resting ones included."""
        self.awake = awake
        """Those of them that do not rest."""
        self.resting: States = ()
        """The others."""
        if len(awake) < len(eligible):
            preferred = frozenset(awake)
            self.resting = tuple(state for state in eligible if state not in preferred)
        self.everyone = everyone
        """All in use that the policy would pick if nothing were wrong with them."""
        self.known = known
        """How many are in use."""
        self.before = before
        """The policy's own picker, which the next one replaces."""
        self._reserve = reserve
        self._reserved: Picker | None = None
        self._refuse = refuse
        self.due = deque(due)
        """What the next requests should try, as often as they should."""
        self.unwanted = unwanted
        """What was due, and the policy would not pick."""
        self.gate = gate
        """Returns the error of a request that the service's circuit keeps back; None while it is closed."""
        self._claim = claim
        self.front = Asking(base, self.due, gate is not None) if self.due or gate is not None else base
        """What takes a first attempt; where it picks None, `first` is to be asked."""

    def has_other_than(self, tried: Collection[EndpointState]) -> bool:
        """Whether any endpoint that may be picked is not among these."""
        eligible = self.eligible
        return len(eligible) > len(tried) or any(state not in tried for state in eligible)

    def first(self, request: Request, now: float, usable: Usable | None) -> EndpointState:
        """Choose for a first attempt: what is due and the caller can use, else what the policy says."""
        claim, due = self._claim, self.due
        fits = self._admitted(self.base, request, usable or _any)
        unusable: set[EndpointState] = set()
        for _ in range(min(len(due), LOOK)):
            try:
                state = due.popleft()  # atomic: two threads never get the same one
            except IndexError:
                break
            if not fits(state):  # asked once: by a second time the caller may be connected
                unusable.add(state)
                due.append(state)  # for another request
                continue
            claimed = claim is not None and claim(state, self.gate is not None)
            if claimed:
                return state
            if claimed is None:
                due.append(state)
        if unusable and not self.eligible:  # nothing refuses the request but that its caller is not connected there yet
            raise self._none(request, len(unusable))
        found = self.base.pick(request, now)
        if found is None:
            found = self._rested(request, now, usable)
            if found is None:
                # Whatever can be used by now: one that rests was passed over, as it could not be.
                unconnected = usable is not None and self._rested(request, now, None) is not None
                raise self._none(request, len(self.eligible) if unconnected else 0)
        elif usable is not None and not usable(found):
            found = self.other(request, now, (), usable)
        self._through_gate()
        return found

    def other(
        self, request: Request, now: float, avoid: Collection[EndpointState], usable: Usable | None
    ) -> EndpointState:
        """Choose one that is not in `avoid`, or one of those where there is no other, that the caller can use.

        Raises Unconnected where it can use none, and what `refuse` returns where the policy picks none.
        """
        base = self.base
        for fits in _preferences(avoid, usable):
            state = base.other(request, now, fits)
            if state is None:
                state = self._among(base.states or self.awake, self._admitted(base, request, fits))
            if state is None:
                state = self._rested(request, now, fits)
            if state is not None:
                return state
        # Whatever can be used by now: what the policy would take was passed over, as it could not be.
        unconnected = usable is not None and any(map(self._admitted(base, request, _any), self.eligible))
        raise self._none(request, len(self.eligible) if unconnected else 0)

    def chance(self, request: Request, avoid: Collection[EndpointState], usable: Usable | None) -> EndpointState:
        """Choose as `other` does, but at random."""
        for fits in _preferences(avoid, usable):
            state = self._among(self.awake, fits) or self._among(self.resting, fits)
            if state is not None:
                if not avoid:
                    self._through_gate()
                return state
        raise self._none(request, 0 if usable is None else len(self.eligible))

    def _through_gate(self) -> None:
        """Make a request that is ready to go a trial of the service's circuit, where that is not closed."""
        if self.gate is not None and self._claim is not None and not self._claim(None, True):
            raise self.gate()

    def _rested(self, request: Request, now: float, fits: Usable | None) -> EndpointState | None:
        """Choose one that rests, and fits if that is asked for."""
        if not self.resting:
            return None
        picker = self._reserved
        if picker is None:  # made once, for all requests until the next change
            picker = self._reserved = self._reserve(self.resting)
        if fits is None:
            return picker.pick(request, now)
        state = picker.other(request, now, fits)
        if state is None:
            state = self._among(picker.states or self.resting, self._admitted(picker, request, fits))
        return state

    def _among(self, states: Sequence[EndpointState], fits: Usable) -> EndpointState | None:
        """Return one that fits: the first of some random places, or the first of all in an order of this call's own."""
        count = len(states)
        draw = self._rng.random
        for _ in range(min(PLACES, count)):
            state = states[int(draw() * count)]
            if fits(state):
                return state
        if count:
            place, stride = int(draw() * count), coprime_stride(count, self._rng)
            for step in range(place, place + count * stride, stride):
                state = states[step % count]
                if fits(state):
                    return state
        return None

    @staticmethod
    def _admitted(picker: Picker, request: Request, fits: Usable) -> Usable:
        if type(picker).admits is Picker.admits:  # nearly every one takes any request to any endpoint
            return fits
        return lambda state: picker.admits(request, state) and fits(state)

    def _none(self, request: Request, unconnected: int) -> LoadBalancerError:
        """Return the error of a request that finds none, of which so many would do if its caller could use them."""
        if unconnected:
            reason = f"no connection to any of {unconnected} endpoints can be used now"
            return Unconnected(self._service, reason)
        assert self._refuse is not None  # else `base` refuses every request by itself
        return self._refuse(request, self.base)


class Asking(Picker):
    """The picker while probes or trials are due: it picks None, so that `Picking.first` is asked."""

    __slots__ = ("_base", "_due", "_gated")

    def __init__(self, base: Picker, due: Collection[EndpointState], gated: bool) -> None:
        self._base = base
        self._due = due
        self._gated = gated

    def pick(self, request: Request, now: float) -> EndpointState | None:
        return None if self._due or self._gated else self._base.pick(request, now)


def _preferences(avoid: Collection[EndpointState], usable: Usable | None) -> Iterable[Usable]:
    """Return what an endpoint should be like, and what it has to be like at the least."""
    if not avoid:
        return (usable or _any,)
    if usable is None:
        return lambda state: state not in avoid, _any
    return lambda state: state not in avoid and usable(state), usable


def _any(state: EndpointState) -> bool:  # noqa: ARG001
    return True
