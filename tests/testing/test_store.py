"""The store's history is the truth: undone it gives any earlier state, replayed it gives the present."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubelb.testing.store import Change, Expired, Store

WRITES = st.lists(st.tuples(st.sampled_from(["put", "delete"]), st.sampled_from("abc"), st.integers(0, 2)), max_size=40)


def run(store: Store, writes: list[tuple[str, str, int]]) -> dict[int, dict[str, bytes]]:
    """Apply the writes; the state at each version."""
    states: dict[int, dict[str, bytes]] = {store.version: {}}
    current: dict[str, bytes] = {}
    for verb, name, value in writes:
        if verb == "put":
            body: dict[str, Any] = {"metadata": {"name": name, "namespace": "x"}, "value": value}
            current[name] = store.put(body).raw
        elif store.delete("x", name):
            del current[name]
        states[store.version] = dict(current)
    return states


@settings(max_examples=100, deadline=None)
@given(WRITES)
def test_any_earlier_state_can_be_had(writes: list[tuple[str, str, int]]) -> None:
    """And is what it was."""
    store = Store()
    for version, state in run(store, writes).items():
        assert {stored.key[1]: stored.raw for stored in store.at(version)} == state


@settings(max_examples=100, deadline=None)
@given(WRITES, st.integers(1, 10))
def test_replayed_history_is_the_present(writes: list[tuple[str, str, int]], keep: int) -> None:
    """From every version that is not forgotten; the others say that they are."""
    store = Store(history=keep)
    seen: list[Change] = []
    store.subscribe(seen.append)
    states = run(store, writes)
    present = {stored.key[1]: stored.raw for stored in store.at(store.version)}
    assert len(seen) == len(states) - 1
    for version, state in states.items():
        if version < store.oldest:
            for ask in (store.at, store.since):
                try:
                    ask(version)
                except Expired:
                    continue
                raise AssertionError("that version should have been forgotten")
            continue
        replayed = dict(state)
        for change in store.since(version):
            if change.new is None:
                del replayed[change.key[1]]
            else:
                replayed[change.key[1]] = change.new.raw
        assert replayed == present
