"""Ring hash: keys stay where they are, and go on to the next where they cannot."""

import itertools
import math
import sys
import threading
from bisect import bisect_left
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from kubelb import Endpoint, KeySource, LoadBalancer, Request, RingHash, Unusable
from kubelb.core import EndpointState, Lease
from kubelb.core.events import Skipped
from kubelb.core.policies.load_bound import BLOCK, LoadBound
from kubelb.core.policies.ring_hash import SEARCH, WALK, RingPicker, names_of
from kubelb.core.refusal import Refusing
from kubelb.model import ANY, SUCCESS

from .kit import Rig, built, failed, pod, pods

KEYS = [f"user-{number}" for number in range(2000)]


def states(count: int, **fields: Any) -> tuple[EndpointState, ...]:
    made = tuple(EndpointState(pod(number, **fields), None) for number in range(count))
    for state in made:
        state.in_use = True
    return made


def homes(picker: Any, keys: list[str] = KEYS) -> list[str]:
    """Return where each key goes."""
    return [picker.pick(Request(key=key), 0.0).endpoint.authority for key in keys]


def by_hand(endpoints: tuple[Endpoint, ...], virtual_nodes: int, key: bytes) -> str:
    """The rule, in the plainest way there is."""
    points = sorted(
        (xxh64_intdigest(f"{endpoint.authority}_{number}".encode()), endpoint.authority)
        for endpoint in endpoints
        for number in range(virtual_nodes)
    )
    at = bisect_left(points, (xxh64_intdigest(key), ""))
    return points[at % len(points)][1]


@given(st.integers(1, 9), st.integers(1, 40), st.lists(st.binary(max_size=9), min_size=1, max_size=40))
def test_a_key_belongs_to_the_next_point_on_the_ring(count: int, virtual_nodes: int, keys: list[bytes]) -> None:
    """Of all points xxHash64(NAME_i) the first at or above xxHash64(key), the lowest where there is none."""
    everyone = states(count)
    picker = built(RingHash(virtual_nodes=virtual_nodes), everyone, Random(1))
    for key in keys:
        found = picker.pick(Request(key=key), 0.0).endpoint.authority
        assert found == by_hand(pods(count), virtual_nodes, key)


def test_every_process_finds_the_same() -> None:
    """In whatever order endpoints are learnt, whatever the seed; text is its UTF-8."""
    everyone = states(20)
    there = homes(built(RingHash(), everyone, Random(1)))
    assert homes(built(RingHash(), everyone[::-1], Random(2))) == there
    picker = built(RingHash(), everyone, Random(3))
    assert [picker.pick(Request(key=key.encode()), 0.0).endpoint.authority for key in KEYS] == there


def test_one_that_leaves_takes_its_keys_along_and_no_others() -> None:
    """Of 20, one goes: only its keys move. It comes back: only they return."""
    everyone = states(20)
    picker = built(RingHash(), everyone, Random(1))
    before = homes(picker)
    less = homes(built(RingHash(), everyone[1:], Random(1), picker))
    mine = everyone[0].endpoint.authority
    moved = [key for key, old, new in zip(KEYS, before, less, strict=True) if old != new]
    assert moved == [key for key, old in zip(KEYS, before, strict=True) if old == mine]
    assert 50 < len(moved) < 170
    assert len({new for old, new in zip(before, less, strict=True) if old != new}) > 10  # not all to one neighbour
    assert homes(built(RingHash(), everyone[1:], Random(1))) == less
    assert homes(built(RingHash(), everyone, Random(1), picker)) == before


def test_keys_are_spread_evenly() -> None:
    """20 000 keys over ten endpoints of 128 points: the busiest has at most a quarter more than its part."""
    seen = Counter(homes(built(RingHash(), states(10), Random(1)), [f"k{number}" for number in range(20_000)]))
    assert len(seen) == 10
    assert max(seen.values()) < 2500
    assert min(seen.values()) > 1500


@given(st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=1, max_size=8), st.sets(st.integers(0, 12)))
def test_a_picker_made_from_the_one_before_is_as_good_as_a_new_one(sets: list[set[int]], ejected: set[int]) -> None:
    """Whatever came and went in between, and whoever is passed over at the end."""
    known = states(13)
    picker: RingPicker | None = None
    for members in sets:
        used = tuple(known[number] for number in members)
        picker = built(RingHash(), used, Random(1), picker)
    assert picker is not None
    some = tuple(known[number] for number in sets[-1] - ejected) or (known[min(sets[-1])],)
    again = built(RingHash(), some, Random(1), picker, used)
    assert again.ring is picker.ring
    assert homes(again, KEYS[:50]) == homes(built(RingHash(), some, Random(1)), KEYS[:50])


def test_points_are_halved_where_the_ring_would_be_too_large() -> None:
    """Of 128 each for all, and none is left without."""

    def points(count: int, **options: Any) -> list[int]:
        picker = built(RingHash(**options), states(count), Random(1))
        return sorted(set(picker.ring.shares.values()))

    assert points(8, max_ring_size=1024) == [128]
    assert points(9, max_ring_size=1024) == [64]
    assert points(40, max_ring_size=1024) == [16]
    assert points(40, max_ring_size=10) == [1]


def test_shares_follow_weights() -> None:
    """Weights 1, 2 and 5 have their points, also where no key says so; one without a weight has the mean's."""
    everyone = tuple(EndpointState(pod(n, weight=w), None) for n, w in enumerate((1.0, 2.0, 5.0, 0.0)))
    picker = built(RingHash(balance_factor=None), everyone, Random(1))
    assert list(picker.ring.shares.values()) == [48, 96, 240, 128]
    for requests in ([ANY] * 20_000, [Request(key=f"k{number}") for number in range(20_000)]):
        seen = Counter(picker.pick(request, 0.0) for request in requests)
        for state, points in zip(everyone, (48, 96, 240, 128), strict=True):
            assert seen[state] == pytest.approx(20_000 * points / 512, rel=0.2)


def test_a_stateful_set_keeps_its_keys_when_addresses_change() -> None:
    """A pod's hostname is its name on the ring; a hostname that two have is none's."""
    rig = Rig(0, "ring_hash", slow_start=None)
    rig.set(tuple(pod(number, hostname=f"db-{number}") for number in range(5)))
    before = {key: rig.balancer.pick(Request(key=key)).endpoint.hostname for key in KEYS[:300]}
    rig.set((*(pod(number, hostname=f"db-{number}") for number in range(4)), pod(9, hostname="db-4")))
    after = {key: rig.balancer.pick(Request(key=key)).endpoint for key in KEYS[:300]}
    assert {key: endpoint.hostname for key, endpoint in after.items()} == before
    assert {endpoint.ip for endpoint in after.values() if endpoint.hostname == "db-4"} == {"10.0.0.9"}
    twins = [EndpointState(pod(number, hostname=name), None) for number, name in enumerate(("a", "b", "b", ""))]
    assert list(names_of(twins).values()) == ["a", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]


# Bounded load


@pytest.mark.parametrize("factor", [1.1, 1.25, 2.0])
def test_nobody_has_more_than_his_part_and_some(factor: float) -> None:
    """40 000 requests that stay, keys few and hot, over 64 endpoints: the fullest has factor times the mean."""
    everyone = states(BLOCK)
    picker = built(RingHash(balance_factor=factor), everyone, Random(1))
    rng = Random(2)
    keys = (f"k{int(rng.paretovariate(0.5))}" for _ in range(40_000))
    held = [Lease(picker.pick(Request(key=key), 0.0), 0.0) for key in keys]
    fullest = max(state.in_flight for state in everyone)
    assert fullest <= math.ceil(factor * len(held) / BLOCK)
    assert fullest > factor * len(held) / BLOCK - 2  # and is allowed that


def test_without_a_bound_a_hot_key_stays() -> None:
    """However much its endpoint has in flight."""
    picker = built(RingHash(balance_factor=None), states(10), Random(1))
    held = [Lease(picker.pick(Request(key="hot"), 0.0), 0.0) for _ in range(500)]
    assert len({lease.state for lease in held}) == 1


def test_an_overflowing_key_goes_to_the_same_next_ones() -> None:
    """A hot key alone on ten endpoints fills them in the order of the ring, one after the other."""
    everyone = states(10)
    runs = []
    for _ in range(2):
        picker = built(RingHash(balance_factor=2.0), everyone, Random(1))
        held = [Lease(picker.pick(Request(key="hot"), 0.0), 0.0) for _ in range(60)]
        runs.append(list(dict.fromkeys(lease.state for lease in held)))
        del held
    assert runs[0] == runs[1]
    assert 5 <= len(runs[0]) < 10


def test_where_all_seen_are_full_the_least_full_is_taken() -> None:
    """A count may be too low for a while: the walk ends, with the best there was, by weight."""
    everyone = tuple(EndpointState(pod(n, weight=w), None) for n, w in enumerate((1.0, 1.0, 4.0)))
    held = [Lease(state, 0.0) for state, busy in zip(everyone, (7, 5, 21), strict=True) for _ in range(busy)]
    picker = built(RingHash(balance_factor=1.0), everyone, Random(1))
    assert picker._bound is not None
    picker._bound.total, picker._bound.sure, picker._bound.credit = 0, 0, 1000
    assert picker.pick(Request(key="any"), 0.0) is everyone[1]
    assert picker._walk(0, 3, WALK) in everyone
    del held


def test_counting_costs_two_endpoints_a_request() -> None:
    """Blocks take turns, and after a round of them the sum is right."""
    leases: list[set[Any]] = [set() for _ in range(3 * BLOCK)]
    bound = LoadBound(1.25, leases, 1 / len(leases))
    assert (bound.total, bound.sure) == (0, 1)
    for number, held in enumerate(leases):
        held.update(range(number % 5))
    for _ in range(BLOCK // 2 - 1):
        bound.look()
    assert bound.total == 0
    for _ in range(BLOCK + 1):
        bound.look()
    assert bound.total == sum(map(len, leases))
    assert bound.of(1.0) == math.ceil(1.25 * (bound.total + 1))
    assert bound.sure == 3


# Keys


@pytest.mark.parametrize("key", [None, 7, 1.5, object(), ["a"], memoryview(b"a"), "\udcff", "", b""])
def test_whatever_the_key_pick_returns_an_endpoint(key: Any) -> None:
    """Text that is no proper text is hashed all the same; what is neither text nor bytes counts as no key."""
    request = Request(key="a")
    request.key = key
    picker = built(RingHash(), states(8), Random(1))
    seen = {picker.pick(request, 0.0) for _ in range(200)}
    assert len(seen) == (1 if isinstance(key, str | bytes | memoryview) else 8)
    assert all(0 <= picker.chance(request, draw, Random(1).random) < 1 for draw in range(4))


def test_a_key_of_another_type_is_refused_where_it_is_given() -> None:
    """With the value and the cure."""
    with pytest.raises(TypeError, match=r"key=7: give text or bytes, e.g. str\(key\)"):
        Request(key=7)  # type: ignore[arg-type]


def test_what_the_key_is_read_from_is_a_value() -> None:
    """None where only the caller gives keys."""
    assert RingHash().needs.key is None
    assert RingHash(header="x-user", path=True).needs.key == KeySource(header="x-user", path=True)
    assert Rig(1, RingHash(cookie="s")).balancer.key_source == KeySource(cookie="s")
    assert Rig(1, "peak_ewma").balancer.key_source is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"balance_factor": 0.9}, r"balance_factor=0.9\): give 1 or more, e.g. 1.25, or None"),
        ({"balance_factor": math.nan}, "balance_factor=nan"),
        ({"balance_factor": math.inf}, "balance_factor=inf"),
        ({"virtual_nodes": 0}, "virtual_nodes=0.: give a whole number from 1 to 65536"),
        ({"virtual_nodes": 1.5}, "virtual_nodes=1.5"),
        ({"max_ring_size": 1 << 24}, "max_ring_size=16777216.: give a whole number from 1 to 8388608"),
        ({"header": ""}, "header='': give the bare name of a header"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], match: str) -> None:
    """The error names the option, the value and what to give."""
    with pytest.raises(ValueError, match=match):
        RingHash(**options)


def test_without_xxhash_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the policy is made, not at the first pick."""
    monkeypatch.setitem(sys.modules, "xxhash", None)
    for make in (RingHash, lambda: LoadBalancer("static:///10.0.0.1:80", policy="ring_hash")):
        with pytest.raises(ImportError, match=r"^RingHash needs xxhash: pip install 'kubelb\[hash\]'$"):
            make()


# In a balancer


def key_of(rig: Rig, number: int) -> str:
    """Return a key that belongs to an endpoint."""
    state = rig.state(number)
    return next(key for key in KEYS if rig.base.pick(Request(key=key), 0.0) is state)


def test_a_retry_goes_to_the_next_on_the_ring_and_always_there() -> None:
    """Where the key would be without its endpoint; then to the one after; then to whoever there is."""
    rig = Rig(5, "ring_hash")
    for key in KEYS[:100]:
        request, tried = Request(key=key), []
        for _ in range(5):
            rest = [state for state in rig.balancer.states() if state not in tried]
            expected = built(RingHash(), rest, Random(1)).pick(request, 0.0)
            lease = rig.balancer.pick(request, tried)
            assert lease.state is expected
            tried.append(lease.state)
            lease.release()
        assert len(set(tried)) == 5
        assert rig.balancer.pick(request, tried).state in tried


def test_endpoints_that_cannot_be_used_are_passed_over_along_the_ring() -> None:
    """As gRPC passes over those without a connection: the key goes to the next one that can; Unusable where none."""
    rig = Rig(6, "ring_hash")
    key = key_of(rig, 2)
    first = rig.balancer.pick(Request(key=key), (rig.state(2),)).state
    for _ in range(20):
        assert rig.balancer.pick(Request(key=key), (), lambda state: state is not rig.state(2)).state is first
    with pytest.raises(Unusable):
        rig.balancer.pick(Request(key=key), (), lambda state: False)


def test_one_that_fits_is_found_however_far_it_is() -> None:
    """After `SEARCH` points the balancer looks through all endpoints: only one of 300 can be used."""
    rig = Rig(0, RingHash(virtual_nodes=64), slow_start=None)
    rig.set(pods(300))
    only = rig.state(123)
    looked = []

    def usable(state: EndpointState) -> bool:
        looked.append(state)
        return state is only

    for key in KEYS[:20]:
        assert rig.balancer.pick(Request(key=key), (), usable).state is only
    assert len(looked) <= 20 * (1 + SEARCH + 300)


@pytest.mark.parametrize("factor", [1.25, None])
def test_keys_of_an_ejected_endpoint_go_on_and_return(factor: float | None) -> None:
    """Nothing else moves meanwhile, and the ring is not built anew: all that a request's thread does is short."""
    rig = Rig(6, RingHash(balance_factor=factor), slow_start=None)
    ring = rig.base.ring
    before = homes(rig.base, KEYS[:200])
    lost = rig.state(2).endpoint.authority
    rig.eject(2)
    during = homes(rig.base, KEYS[:200])
    assert lost not in during
    assert [a for a, b in zip(before, during, strict=True) if a != b] == [a for a in before if a == lost]
    assert rig.base.ring is ring
    rig.clock.advance(13)
    rig.balancer.pick(Request(key=key_of(rig, 3))).release()  # the probe: of the ejected one, whatever the key
    assert homes(rig.base, KEYS[:200]) == before
    assert rig.base.ring is ring


def test_each_key_moves_to_a_newcomer_once() -> None:
    """Slow start hands over more and more keys: a tenth of them at first, and none goes back and forth."""
    rig = Rig(4, RingHash(balance_factor=None))
    rig.clock.advance(60)
    rig.set(pods(5))
    ring = rig.base.inner
    assert rig.base._elders.ring is ring.ring  # elders need none of their own
    mine = [key for key in KEYS if ring.pick(Request(key=key), 0.0) is rig.state(4)]
    assert len(mine) > 250
    moved: list[set[str]] = []
    for _ in range(31):
        seen = [rig.balancer.pick(Request(key=key)) for key in mine]
        again = [rig.balancer.pick(Request(key=key)) for key in mine]
        assert [lease.state for lease in seen] == [lease.state for lease in again]
        moved.append({key for key, lease in zip(mine, seen, strict=True) if lease.state is rig.state(4)})
        rig.clock.advance(1)
    assert all(sooner <= later for sooner, later in itertools.pairwise(moved))
    assert len(moved[0]) == pytest.approx(0.1 * len(mine), rel=0.5)
    assert len(moved[15]) == pytest.approx(0.5 * len(mine), rel=0.2)
    assert moved[30] == set(mine)


def test_a_majority_of_newcomers_does_not_leave_all_to_one_elder() -> None:
    """One elder among nine that are half warm, with and without keys: at most three fair shares for it."""
    for requests in ([ANY] * 4000, [Request(key=key) for key in KEYS] * 2):
        rig = Rig(1, RingHash(balance_factor=None))
        rig.set(pods(10))
        rig.clock.advance(15)
        seen = Counter(rig.balancer.pick(request).endpoint.ip for request in requests)
        assert seen["10.0.0.0"] < 3 * 400


def test_it_comes_back_from_nothing() -> None:
    """Scaled to zero and up again: the ring is the same, where the names are; new pods have another."""
    rig = Rig(4, "ring_hash", slow_start=None)
    ring = rig.base.ring
    rig.set(())
    assert isinstance(rig.base, Refusing)
    rig.set(tuple(pod(number, 1) for number in range(4)))
    assert rig.base.ring is ring
    rig.set(())
    rig.set(pods(9)[4:])
    assert homes(rig.base) == homes(built(RingHash(), states(9)[4:], Random(1)))


def test_a_rebuild_that_raises_is_replaced_by_a_new_ring() -> None:
    """Chance takes over for once, it is told, and the next picker is the policy's own again."""
    rig = Rig(4, "ring_hash", slow_start=None)

    def fail(*_: object) -> Any:
        raise RuntimeError("no ring today")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RingHash, "build", fail)
        rig.set(pods(5))
    assert len(rig.picks(200)) == 5
    (event,) = rig.told(Skipped)
    assert "no ring today" in event.reason
    rig.set(pods(6))
    assert homes(rig.base) == homes(built(RingHash(), states(6), Random(1)))


def test_a_probe_that_fails_sends_no_other_key_there() -> None:
    """While one request tries it, its keys stay with the next."""
    rig = Rig(5, "ring_hash")
    rig.eject(1)
    rig.clock.advance(13)
    probe = rig.balancer.pick(Request(key="a"))
    assert probe.state is rig.state(1)
    assert all(rig.balancer.pick(Request(key=key)).state is not rig.state(1) for key in KEYS[:200])
    probe.release(failed())
    assert all(rig.balancer.pick(Request(key=key)).state is not rig.state(1) for key in KEYS[:200])


def test_threads_pick_while_the_set_changes() -> None:
    """Nothing is raised, whoever is picked is known, and in the end nothing is in flight."""
    rig = Rig(6, "ring_hash")
    known = set(pods(12))
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(600):
                lease = rig.balancer.pick(Request(key=KEYS[(number * 600 + turn) % 50]))
                if lease.endpoint not in known:
                    wrong.append(lease.endpoint)
                lease.release(failed() if turn % 7 == 0 else SUCCESS)
        except Exception as error:
            wrong.append(error)

    crew = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in crew:
        thread.start()
    while any(thread.is_alive() for thread in crew):
        rig.set(pods(12)[rig.version % 5 : 6 + rig.version % 7])
        rig.clock.advance(0.5)
    for thread in crew:
        thread.join()
    assert wrong == []
    assert sum(state.in_flight for state in rig.balancer.states()) == 0
