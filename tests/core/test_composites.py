"""Only and Subset: what they allow is never left, whatever happens, and their words say what it was.

Kinds of faults: a rule that ends at the first change of endpoints, or where a probe, a retry, chance or a rest stands
in for the policy; a subset that moves when nothing of it has; what is wrapped does not reach those that it needs.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubelb import LoadBalancer
from kubelb.core import Balancer, EndpointState, Phase
from kubelb.core.events import Returned, Skipped
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.members import Members
from kubelb.core.picking.builder import ROUNDS
from kubelb.core.policies import (
    REGISTRY,
    WRAPPERS,
    KeySource,
    LeastRequest,
    Only,
    PeakEwma,
    Policy,
    RingHash,
    RoundRobin,
    Subset,
    Wrapper,
    policy_from,
)
from kubelb.errors import NoEndpoints, Unusable
from kubelb.model import CANCELLED, SUCCESS, Endpoint, Outcome, Request, Snapshot, Verdict
from kubelb.testing import check_policy

from .kit import Rig, built, failed, pod, pods

FULL = Outcome(Verdict.FULL, retryable=True, retry_after=30.0)
ENDS = (SUCCESS, SUCCESS, failed(), FULL, CANCELLED, Outcome(refusal=True), None)
BREAKER = CircuitBreaker(minimum_calls=5, window=10)


def placed(number: int, generation: int = 0) -> Endpoint:
    """A pod in one of three zones, on one of two nodes, in one region or another."""
    place = {"zone": "abc"[number % 3], "node": f"n{number % 2}", "region": f"r{number // 6}", "cluster": "one"}
    return pod(number, generation, **place)


def put(rig: Rig, *numbers: int, generation: int = 0) -> None:
    rig.set(tuple(placed(number, generation) for number in numbers))


def change(rig: Rig, rng: Random, turn: int) -> None:
    """Have something happen to a set of up to ten."""
    what = rng.random()
    states = [state for state in rig.balancer.states() if state.in_use]
    if what < 0.3 or not states:
        put(rig, *sorted(rng.sample(range(12), rng.randrange(11))), generation=turn // 200)
    elif what < 0.7:
        number, end = int(rng.choice(states).endpoint.ip.rpartition(".")[2]), rng.choice(ENDS)
        for _ in range(rng.choice((1, 5, 12))):
            rig.lease(number).release(end)
    else:
        rig.clock.advance(rng.choice((0.01, 0.1, 1.0, 15.0)))


# Laws


@pytest.mark.parametrize(
    "policy",
    [
        Only("ring_hash", zone="a"),
        Only(RingHash(balance_factor=None, header="x"), zone="b", node="n1"),
        Only("least_request", region="r1"),
        Only(Subset("peak_ewma", 2), zone="a"),
        Subset(Only("round_robin", zone="c"), 2),
    ],
    ids=repr,
)
@settings(max_examples=2)
@given(seed=st.integers(0, 10_000))
def test_only_has_never_picked_elsewhere(policy: Policy, seed: int) -> None:
    """After 1000 random updates, ejections, rests, refusals, newcomers and probes; a refusal is in words."""
    rng = Random(seed)
    rig = Rig(0, policy, seed=seed, breaker=BREAKER)
    rule = policy if isinstance(policy, Only) else policy.of
    assert isinstance(rule, Only)
    for turn in range(1000):
        change(rig, rng, turn)
        used = [state for state in rig.balancer.states() if state.in_use]
        usable = rng.choice([None, lambda state: state.endpoint.ip[-1] != "3"])
        avoid = rng.choice([(), used[:1], used])
        try:
            lease = rig.balancer.pick(Request(key=f"k{turn}"), avoid, usable)
        except NoEndpoints:
            assert not used
        except Unusable as error:
            assert error.reason
        else:
            at = lease.endpoint
            wanted = (rule.zone, rule.region, rule.node)
            assert all(want in (None, got) for want, got in zip(wanted, (at.zone, at.region, at.node), strict=True))
            lease.release(rng.choice(ENDS))
    assert not rig.told(Skipped)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 6))
def test_a_subset_changes_no_more_than_it_has_to(seed: int, size: int) -> None:
    """Through 100 updates: never more than `size`, always as many as there are, and of the old ones all but those that
    left or were displaced by one that came.
    """
    rng = Random(seed)
    policy = Subset("random", size, client="me")
    before: set[str] = set()
    there: set[str] = set()
    for _ in range(100):
        numbers = rng.sample(range(30), rng.randrange(1, 25))
        states = tuple(EndpointState(pod(number), None) for number in numbers)
        now = {state.endpoint.ip for state in states}
        chosen = {state.endpoint.ip for state in policy.among(Members(states)).states}
        assert len(chosen) == min(size, len(now))
        came = chosen - before
        assert len((before & now) - chosen) <= len(now - there)
        assert len(came & there) <= len(before - now)
        before, there = chosen, now


@pytest.mark.parametrize(
    "policy",
    [
        Only("peak_ewma", zone="zone-a"),
        Only("ring_hash", zone="zone-b"),
        Only("round_robin", zone="nowhere"),
        Subset("least_request", 3),
        Subset("ring_hash", 2, client="me"),
        Only(Subset("random", 2), zone="zone-c"),
    ],
    ids=repr,
)
def test_they_keep_the_laws_of_policies(policy: Policy) -> None:
    """By themselves and in each other."""
    check_policy(policy, sizes=(1, 2, 3, 17))


# Only


def test_only_says_what_is_missing() -> None:
    """No endpoint there, with the numbers; those that are there are out; nothing known at all is another thing."""
    rig = Rig(0, Only("least_request", zone="z"))
    with pytest.raises(NoEndpoints):
        rig.set(())
        rig.balancer.pick()
    put(rig, 0, 1, 2, 3)
    with pytest.raises(Unusable, match=r"only endpoints in zone 'z', and there is none \(elsewhere: 4\)"):
        rig.balancer.pick()
    rig = Rig(0, Only("least_request", zone="a", node="n0"))
    put(rig, 0, 1, 2, 3)
    rig.eject(0)
    with pytest.raises(
        Unusable, match=r"in zone 'a', node 'n0', and each of those is out \(elsewhere: 3, ejected: 1\)"
    ):
        rig.balancer.pick()
    rig.clock.advance(13)
    lease = rig.balancer.pick()
    assert lease.state is rig.state(0)
    assert lease.state.phase is Phase.PROBING


def test_only_keeps_its_zone_for_retries_and_callers_with_few_connections() -> None:
    """A second try with no other endpoint there goes to the one that was tried; without a connection it is refused."""
    rig = Rig(0, Only("round_robin", zone="a"))
    put(rig, 0, 1, 2)
    assert rig.balancer.pick(avoid=(rig.state(0),)).state is rig.state(0)
    assert not rig.balancer.has_other_than((rig.state(0),))
    with pytest.raises(Unusable, match="no connection to any of 1 endpoints"):
        rig.balancer.pick(usable=lambda state: state is not rig.state(0))


@pytest.mark.parametrize("where", ["zone", "region", "node", "cluster"])
def test_each_place_is_a_rule(where: str) -> None:
    """By the endpoint's own field; one that does not say where it is has none."""
    rig = Rig(0, Only("random", **{where: "here"}))
    rig.set((pod(0), pod(1, **{where: "here"}), pod(2, **{where: "there"})))
    assert {ip for ip, count in rig.picks(50).items() if count} == {pod(1).ip}


def test_a_whole_zone_may_be_ejected_and_then_only_refuses() -> None:
    """Ejection counts all in use; no endpoint elsewhere takes over."""
    rig = Rig(0, Only("least_request", zone="a"))
    put(rig, 0, 1, 2, 3)
    rig.eject(0)
    rig.eject(3)
    with pytest.raises(Unusable, match="ejected: 2"):
        rig.balancer.pick()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "has no rule: give zone="),
        ({"zone": ""}, ValueError, r"Only\(zone=''\): give the name of a zone"),
        ({"node": 7}, ValueError, r"Only\(node=7\): give the name of a node"),
        ({"of": "fastest", "zone": "a"}, ValueError, "'fastest' is unknown"),
        ({"of": RoundRobin, "zone": "a"}, TypeError, "is a class"),
        ({"of": "only", "zone": "a"}, ValueError, "chooses by another policy"),
    ],
)
def test_what_is_no_rule_is_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    """With the value and what to give."""
    with pytest.raises(error, match=match):
        Only(**{"of": "random"} | options)


# Subset


def test_a_subset_spreads_clients_over_all() -> None:
    """1000 clients of 10 among 50 endpoints: each has 200, give or take six times the square root."""
    states = tuple(EndpointState(pod(number), None) for number in range(50))
    seen: Counter[EndpointState] = Counter()
    for number in range(1000):
        seen.update(Subset("random", 10, client=f"pod-{number}").among(Members(states)).states)
    assert len(seen) == 50
    assert all(abs(count - 200) < 85 for count in seen.values())


def chosen(policy: Policy, order: Sequence[EndpointState]) -> set[EndpointState]:
    return set(policy.among(Members(tuple(order))).states)


def test_pods_that_share_a_hostname_are_spread_over_all() -> None:
    """Kind: a name that is not one endpoint's own. Where all pods had the same hostname they were equal in rank, and
    all clients had the same few; a hostname of its own still keeps its pod's place when the address changes."""
    states = [EndpointState(pod(number, hostname="web"), None) for number in range(20)]
    taken = Counter[EndpointState]()
    for client in range(200):
        taken.update(chosen(Subset("random", 2, client=f"c{client}"), states))
    assert len(taken) == 20
    assert max(taken.values()) < 45  # 20 in the mean
    own = [EndpointState(pod(number, hostname=f"web-{number}"), None) for number in range(20)]
    moved = [EndpointState(pod(number + 100, hostname=f"web-{number}"), None) for number in range(20)]
    policy = Subset("random", 3, client="me")
    before, after = chosen(policy, own), chosen(policy, moved)
    assert {state.endpoint.hostname for state in before} == {state.endpoint.hostname for state in after}


def test_a_client_has_the_same_subset_whatever_the_order() -> None:
    """Another client has another one, and so has another process."""
    states = tuple(EndpointState(pod(number), None) for number in range(50))

    mine = chosen(Subset("random", 10, client="a"), states)
    assert chosen(Subset("random", 10, client="a"), states[::-1]) == mine
    assert chosen(Subset("random", 10, client="b"), states) != mine
    own = Subset("random", 10)
    assert chosen(own, states) == chosen(own, states)
    with pytest.MonkeyPatch.context() as patch:
        before = chosen(own, states)
        patch.setattr("os.getpid", lambda: 123_456)
        assert chosen(own, states) != before


def test_an_ejected_one_is_replaced_by_the_next_and_comes_back_by_a_probe() -> None:
    """Then the next one is let go; and what was ejected outside of the subset is let go, too."""
    policy = Subset("least_request", 3, client="me")
    rig = Rig(0, policy, slow_start=None)
    rig.set(pods(10))
    mine = rig.picking.awake
    number = int(mine[0].endpoint.ip.rpartition(".")[2])
    rig.eject(number)
    during = rig.picking.awake
    assert len(during) == 3
    assert set(mine[1:]) < set(during)
    (next_in_rank,) = set(during) - set(mine)
    rig.eject(int(next_in_rank.endpoint.ip.rpartition(".")[2]))
    rig.clock.advance(30)
    for _ in range(20):
        rig.balancer.pick().release()
    assert set(rig.picking.awake) == set(mine)
    assert {state.phase for state in rig.balancer.states()} == {Phase.ACTIVE}


def ranked(client: str, count: int) -> list[int]:
    """Return the numbers of the pods in the order in which a client has them."""
    rest, order = list(range(count)), list[int]()
    rig = Rig(0, Subset("round_robin", 1, client=client))
    while rest:
        rig.set(tuple(pod(number) for number in rest))
        order.append(int(rig.picking.awake[0].endpoint.ip.rpartition(".")[2]))
        rest.remove(order[-1])
    return order


@pytest.mark.parametrize("size", [1, 2])
def test_what_a_due_one_outranks_is_probed_all_the_same(size: int) -> None:
    """Kind: a guess that what is due is well. Of several that are due the lesser ones were let go unprobed, since the
    policy would not pick them beside the better ones; these failed their probes, and dead ones got all requests."""
    rig = Rig(0, Subset("round_robin", size, client="me"), slow_start=None)
    rig.set(pods(12))
    dead = ranked("me", 12)[: size * 3]
    for number in dead:
        rig.eject(number)
    rig.clock.advance(60)  # nothing was picked meanwhile, so all of them are due at once
    reached = Counter[int]()
    for _ in range(50):
        lease = rig.balancer.pick()
        number = int(lease.endpoint.ip.rpartition(".")[2])
        reached[number] += number in dead
        lease.release(failed() if number in dead else None)
    assert {number: reached[number] for number in dead} == dict.fromkeys(dead, 1)
    assert not rig.told(Returned)
    assert all(rig.state(number).phase is Phase.EJECTED for number in dead)


def test_a_circuit_of_what_a_due_one_outranks_is_not_closed_untried() -> None:
    """Kind: a guess that what is due is well; the same with trials."""
    breaker = CircuitBreaker(minimum_calls=5, window=5, per_service=False, trials=1)
    rig = Rig(0, Subset("round_robin", 1, client="me"), slow_start=None, outliers=None, breaker=breaker)
    rig.set(pods(8))
    dead = ranked("me", 8)[:3]
    for number in dead:
        rig.fail(number, 5)
    rig.clock.advance(60)
    reached = Counter[int]()
    for _ in range(30):
        lease = rig.balancer.pick()
        number = int(lease.endpoint.ip.rpartition(".")[2])
        reached[number] += number in dead
        lease.release(failed() if number in dead else None)
    assert {number: reached[number] for number in dead} == dict.fromkeys(dead, 1)


def test_what_is_due_is_sorted_in_a_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind: work in proportion to the square of a set, in a request's thread. After an outage very many circuits may be
    half-open at once; a few of them have their trials first, and the rest theirs in turn.
    """
    breaker = CircuitBreaker(minimum_calls=5, window=5, per_service=False, trials=1)
    rig = Rig(0, Subset("round_robin", 1, client="me"), slow_start=None, outliers=None, breaker=breaker)
    rig.set(pods(60))
    order = ranked("me", 60)
    for number in order[:58]:
        rig.fail(number, 5)
    rig.clock.advance(60)
    asked = 0
    plain = Subset.among

    def counted(policy: Subset, members: Members) -> Members:
        nonlocal asked
        asked += 1
        return plain(policy, members)

    monkeypatch.setattr(Subset, "among", counted)
    lease = rig.balancer.pick()
    assert ROUNDS < asked <= ROUNDS + 2
    assert int(lease.endpoint.ip.rpartition(".")[2]) in order[:ROUNDS]
    lease.release(None)
    rig.clock.advance(1)
    assert rig.balancer.pick().state is lease.state  # the best one is well


def test_a_subset_is_never_empty_while_there_is_any() -> None:
    """One that rests is replaced, one that was tried is not; where there is no other, both are used."""
    rig = Rig(0, Subset("round_robin", 2, client="me"))
    rig.set(pods(4))
    first, second = rig.picking.awake
    rig.lease(int(first.endpoint.ip[-1])).release(FULL)
    during = rig.picking.awake
    assert first not in during
    assert second in during
    assert len(during) == 2
    assert rig.balancer.pick(avoid=during).state is first
    assert rig.balancer.pick(avoid=(second,)).state in set(during) - {second}
    assert rig.balancer.pick(avoid=rig.balancer.states()).state in during


def test_a_ring_stands_on_the_subset_alone() -> None:
    """Its keys stay while one of it is away, and come back with it."""
    rig = Rig(0, Subset(RingHash(balance_factor=None), 4, client="me"), slow_start=None)
    rig.set(pods(20))
    keys = [Request(key=f"k{number}") for number in range(200)]
    before = [rig.base.pick(key, 0.0) for key in keys]
    assert len(rig.base.ring.shares) == 4
    lost = rig.picking.awake[0]
    rig.eject(int(lost.endpoint.ip.rpartition(".")[2]))
    during = [rig.base.pick(key, 0.0) for key in keys]
    assert len(rig.base.ring.shares) == 5
    newcomer = set(during) - set(before)
    assert all(new is old or old is lost or new in newcomer for old, new in zip(before, during, strict=True))


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 1.5}, {"size": True}, {"size": 1, "client": ""}])
def test_what_is_no_size_is_refused(options: dict[str, Any]) -> None:
    """With the value and what to give."""
    with pytest.raises(ValueError, match=r"Subset\((size|client)="):
        Subset("random", **options)


# Both


def test_what_is_wrapped_keeps_what_it_needs() -> None:
    """Its constants, its key, and that it goes by load."""
    policy = Subset(Only(PeakEwma(1.0, 2.0), zone="a"), 5)
    balancer = Balancer(policy)
    assert (balancer.needs.decay, balancer.needs.failure_penalty, balancer.needs.by_load) == (1.0, 2.0, True)
    assert balancer._tracker.decay == 1.0
    assert Balancer(Only(RingHash(cookie="s"), zone="a")).key_source == KeySource(cookie="s")


def test_they_have_no_name_of_their_own() -> None:
    """What a name cannot say is refused with the spelling that can; the name of what is wrapped will do."""
    assert set(WRAPPERS) == {"only", "subset"}
    assert not set(WRAPPERS) & set(REGISTRY)
    with pytest.raises(ValueError, match=r"give kubelb.policies.Subset\('peak_ewma', ...\)"):
        policy_from("subset")
    assert Only("ring_hash", zone="a") == Only(RingHash(), zone="a")
    assert repr(Subset("random", 3)) == "Subset(of=Random(), size=3, client=None)"
    with LoadBalancer("static:///127.0.0.1:1", policy=Subset("random", 3)) as lb:
        assert "Subset" in repr(lb)


def test_a_wrapper_that_is_no_rule_chooses_as_the_other_does() -> None:
    """Nothing is asked of it but what it goes by; one whose rule leaves none builds a picker that says so."""

    class Plain(Wrapper):
        def __init__(self) -> None:
            object.__setattr__(self, "of", LeastRequest())

    rig = Rig(3, Plain())
    assert min(rig.picks(300).values()) > 50
    states = rig.balancer.states()
    picker = built(Only("random", zone="z"), states, Random(1))
    assert picker.pick(Request(), 0.0) is None
    assert not picker.admits(Request(), states[0])
    assert picker.why(Request()) == "there is no endpoint in zone 'z'"


def test_one_cluster_of_another_balancer_does_not_meet_it() -> None:
    """A policy is a value: two balancers with the same one have pickers of their own."""
    policy = Only("round_robin", zone="a")
    one, other = Rig(0, policy), Rig(0, policy)
    put(one, 0, 1)
    other.set((placed(3), placed(4)))
    assert one.balancer.pick().state is one.state(0)
    assert other.balancer.pick().state is other.state(3)
    assert one.balancer.snapshot == Snapshot(1, (placed(0), placed(1)))
