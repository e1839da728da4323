"""The laws that a policy keeps to inside a Balancer: whatever comes, goes, fails and rests there.

They are laws as those of `policy_laws`, which has them in its list.
"""

import random
from collections.abc import Sequence

from kubelb.core.balancer import Balancer
from kubelb.core.events import Event, Skipped
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState, Phase
from kubelb.errors import LoadBalancerError, NoEndpoints, Unusable
from kubelb.model import CANCELLED, SUCCESS, Outcome, Snapshot, Verdict
from kubelb.testing.policy_trial import NOW, Broken, Trial, endpoint

__all__ = ["follows_the_set", "spends_no_claim", "stays_what_it_is"]

CHANGES = 150
"""Random changes that a policy is to stay itself through."""
ENDS = (
    SUCCESS,
    CANCELLED,
    Outcome(Verdict.FAILED),
    Outcome(Verdict.FULL, retry_after=5.0),
    Outcome(refusal=True),
)
"""How requests end."""


def follows_the_set(trial: Trial) -> None:
    """in a Balancer it picks from the endpoints of now, and never one that left, was ejected or was tried before"""
    events: list[Event] = []
    clock = [NOW]
    balancer = Balancer(
        trial.policy, clock=lambda: clock[0], rng=random.Random(trial.seed), emit=events.append, slow_start=None
    )
    requests = trial.keyed()

    def own() -> tuple[EndpointState, ...]:
        return trial.own([state for state in balancer.states() if state.in_use])

    def check(states: Sequence[EndpointState], where: str) -> None:
        for request, _ in zip(requests, range(60), strict=False):
            try:
                lease = balancer.pick(request)
            except Unusable:
                if states and any(balancer._picking.base.admits(request, state) for state in states):  # noqa: SLF001
                    raise
                continue
            if lease.state not in states:
                raise Broken(f"{where}, {lease.endpoint.authority} was picked")
            lease.release()

    sets = [range(3), range(5), range(4, 5), range(2, 12), range(0), range(6)]
    for version, numbers in enumerate(sets, 1):
        used = tuple(endpoint(number, version // 4) for number in numbers)
        balancer.update(Snapshot(version, used))
        if used:
            check(own(), f"of {len(used)} after {len(sets[version - 2]) if version > 1 else 0}")
            continue
        try:
            balancer.pick()
        except NoEndpoints:
            continue
        raise Broken("it picked from an empty set")
    states = own()
    for request, _ in zip(requests, range(20 if states else 0), strict=False):
        if not balancer._picking.base.admits(request, states[-1]):  # noqa: SLF001
            continue  # the only one left is none for this request
        lease = balancer.pick(request, states[:-1])
        if lease.state is not states[-1]:
            raise Broken(f"a retry went to {lease.endpoint.authority}, which had been tried")
        lease.release()
    for _ in range(5 if len(states) > 1 else 0):
        Lease(states[0], clock[0]).release(Outcome(Verdict.FAILED))
    left = [state for state in balancer.states() if not states or state is not states[0]]
    check(trial.own(left) if len(states) > 1 else states, "after the ejection of another")
    for event in events:
        if isinstance(event, Skipped) and event.what.startswith("policy"):
            raise Broken(event.reason)


def stays_what_it_is(trial: Trial) -> None:
    """whatever happens, it picks nothing that it never would; where nothing is left a request is refused in words"""
    clock, rng = [NOW], random.Random(trial.seed)
    balancer = Balancer(trial.policy, service="trial", clock=lambda: clock[0], rng=random.Random(trial.seed))
    requests = trial.keyed()
    for turn in range(CHANGES):
        change_something(balancer, rng, clock, turn)
        used = [state for state in balancer.states() if state.in_use]
        for avoid, usable in (((), None), (used[:1], None), ((), (lambda state: state.endpoint.ip[-1] != "3"))):
            request = next(requests)
            try:
                lease = balancer.pick(request, avoid, usable)
            except LoadBalancerError as error:
                if not error.reason:
                    raise Broken("a request was refused, and not told why") from error
                continue
            if not trial.own([lease.state]):  # it would not pick that if there were no other
                raise Broken(f"after {turn} changes {lease.endpoint.authority} was picked")
            lease.release(rng.choice(ENDS))


def change_something(balancer: Balancer, rng: random.Random, clock: list[float], turn: int) -> None:
    """Have a set come, an endpoint fail, or time pass."""
    what = rng.random()
    if what < 0.4 or not turn:
        numbers = rng.sample(range(12), rng.randrange(1, 10))
        balancer.update(Snapshot(turn + 1, tuple(endpoint(number, turn // 100) for number in sorted(numbers))))
    elif what < 0.8:
        state = rng.choice([state for state in balancer.states() if state.in_use])
        end = rng.choice(ENDS)
        for _ in range(5):
            Lease(state, clock[0]).release(end)
    else:
        clock[0] += rng.choice((0.1, 1.0, 20.0))


def spends_no_claim(trial: Trial) -> None:
    """a probe is spent only by a request that can be sent there"""
    clock = [NOW]
    balancer = Balancer(trial.policy, clock=lambda: clock[0], rng=random.Random(trial.seed), slow_start=None)
    balancer.update(Snapshot(1, tuple(endpoint(number) for number in range(12))))
    states = trial.own(balancer.states())
    if len(states) < 2:
        return
    for _ in range(5):
        Lease(states[0], clock[0]).release(Outcome(Verdict.FAILED))
    clock[0] += 60.0
    for request, _ in zip(trial.keyed(), range(30), strict=False):
        try:
            lease = balancer.pick(request, (), lambda state: state is not states[0])
        except Unusable:
            continue
        if lease.state is states[0]:
            raise Broken(f"a request went to {lease.endpoint.authority}, which its caller cannot use")
        lease.release()
    if states[0].phase is not Phase.DUE:
        raise Broken(f"the endpoint is {states[0].phase.value}, and none that could has tried it")
