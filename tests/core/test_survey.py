"""What a picker is built from: who is in it beside newcomers."""

import random

import pytest

from kubelb.core.picking.seen import NEAR, without


@pytest.mark.parametrize("seed", range(40))
def test_elders_are_all_but_the_newcomers(seed: int) -> None:
    """In their order, wherever newcomers stand: at the end, as those of an ordinary change, anywhere, or not at all."""
    rng = random.Random(seed)
    states = tuple(range(rng.choice([0, 1, 2, NEAR - 1, NEAR, NEAR + 1, 300])))
    for count in (0, 1, 2, NEAR - 1, NEAR, NEAR + 5):
        for among in (
            states[-count:] if count else (),
            rng.sample(states, min(count, len(states))),
            (-1, *states[-3:]),
        ):
            expected = tuple(state for state in states if state not in among) if among else ()
            assert without(states, among) == expected  # type: ignore[arg-type]
