"""Table: identity kept over any sequence of snapshots, told in full or by what changed."""

from hypothesis import given
from hypothesis import strategies as st

from kubelb.core.state import NEVER
from kubelb.core.table import Table
from kubelb.core.tracking import Tracker
from kubelb.model import Changes, Endpoint, Snapshot

from .kit import Clock, pod

PLACES = st.sampled_from(["used", "parked", "gone"])
WORLDS = st.lists(
    st.fixed_dictionaries({number: st.tuples(PLACES, st.integers(0, 2), st.booleans()) for number in range(6)}),
    max_size=8,
)


def table() -> Table:
    return Table(Tracker(Clock(), 10.0, 5.0, None))


def snapshot_of(world: dict[int, tuple[str, int, bool]], version: int) -> Snapshot:
    def place(where: str) -> tuple[Endpoint, ...]:
        return tuple(
            pod(number, generation, zone="b" if flag else "a")
            for number, (there, generation, flag) in world.items()
            if there == where
        )

    return Snapshot(version, place("used"), place("parked"))


def hinted(before: Snapshot, after: Snapshot) -> Snapshot:
    """Return `after` with what changed since `before`, as a reducer would tell it."""
    used, parked = set(before.endpoints), set(before.parked)
    addresses = {endpoint.address for endpoint in after.endpoints + after.parked}
    changes = Changes(
        before.version,
        tuple(endpoint for endpoint in after.endpoints if endpoint not in used),
        tuple(endpoint for endpoint in after.parked if endpoint not in parked),
        tuple(endpoint for endpoint in before.endpoints + before.parked if endpoint.address not in addresses),
    )
    return Snapshot(after.version, after.endpoints, after.parked, changes=changes)


def shown(of: Table) -> tuple[object, object]:
    return (
        {address: (state.endpoint, state.in_use, state.removed) for address, state in of.states.items()},
        {address: state.endpoint for address, state in of.used.items()},
    )


@given(WORLDS)
def test_hint_and_full_diff_agree(worlds: list[dict[int, tuple[str, int, bool]]]) -> None:
    """Whatever happens to six pods, a table that follows hints equals one that compares everything."""
    full, quick = table(), table()
    before = Snapshot(0)
    for version, world in enumerate(worlds, 1):
        after = snapshot_of(world, version)
        one = full.apply(after, None)
        other = quick.apply(hinted(before, after), before.version)
        assert shown(full) == shown(quick)
        for mine, theirs in zip(one[:3], other[:3], strict=True):
            assert {state.endpoint for state in mine} == {state.endpoint for state in theirs}
        assert one.elders == other.elders
        before = after


@given(WORLDS)
def test_identity_decides_who_keeps_state(worlds: list[dict[int, tuple[str, int, bool]]]) -> None:
    """A state survives exactly while the address holds a pod of the same uid; the table is exactly the snapshot."""
    of = table()
    for version, world in enumerate(worlds, 1):
        after = snapshot_of(world, version)
        before = dict(of.states)
        was_used = set(of.used.values())
        difference = of.apply(after, None)
        assert {state.endpoint for state in of.states.values()} == {*after.endpoints, *after.parked}
        assert {state.endpoint for state in of.used.values()} == set(after.endpoints)
        for address, state in of.states.items():
            old = before.get(address)
            assert (state is old) == (old is not None and old.endpoint.uid == state.endpoint.uid)
            assert (state in difference.added) == (state is not old)
        kept = {*of.states.values()}
        assert set(difference.removed) == {state for state in before.values() if state not in kept}
        assert all(state.removed and not state.in_use for state in difference.removed)
        assert set(difference.entered) == set(of.used.values()) - was_used
        assert difference.elders == bool(was_used & set(of.used.values()))


def test_what_was_measured_is_forgotten_when_an_endpoint_comes_into_use_again() -> None:
    """A pod that was not ready for a while starts with a clean slate; one that stayed keeps what is known of it."""
    of = table()
    of.apply(Snapshot(1, (pod(0), pod(1))), None)
    for state in of.states.values():
        state.cost, state.stamp, state.consecutive = 3.0, 5.0, 4
    of.apply(Snapshot(2, (pod(0),), (pod(1),)), None)
    difference = of.apply(Snapshot(3, (pod(0), pod(1))), None)
    stayed, back = of.states.values()
    assert (stayed.cost, stayed.stamp, stayed.consecutive) == (3.0, 5.0, 4)
    assert (back.cost, back.stamp, back.consecutive) == (0.0, NEVER, 0)
    assert difference.entered == (back,)
    assert difference.elders


def test_without_a_uid_the_address_is_the_identity() -> None:
    """Sources that know no uid (a static list) keep state by address."""
    of = table()
    of.apply(Snapshot(1, (Endpoint("10.0.0.1", 80),)), None)
    (state,) = of.states.values()
    of.apply(Snapshot(2, (Endpoint("10.0.0.1", 80, uid="now-known"),)), None)
    assert of.states["10.0.0.1", 80] is state


def test_removing_what_is_not_there_is_harmless() -> None:
    """A hint may name an endpoint that the table never had."""
    of = table()
    assert of.apply(Snapshot(1, changes=Changes(0, removed=(pod(4),))), 0).removed == ()


def test_a_fork_in_the_middle_of_an_update_is_mended() -> None:
    """A table that was copied half way has no endpoint in use that it does not know."""
    of = table()
    of.apply(Snapshot(1, (pod(0), pod(1)), (pod(2),)), None)
    of.states.pop(pod(0).address)
    of.mend()
    assert list(of.used) == [pod(1).address]
