"""Which rung is used, in every standing that two or three of them can have."""

import pytest

from kubelb.discovery.ladder.choice import LATE, PATIENCE, STRANGER, Decision, Standing, Trouble, decide
from kubelb.model import Endpoint

PODS = Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)
SOME = Endpoint("10.0.0.2", 80), Endpoint("10.0.0.3", 80)
VIP = (Endpoint("10.96.0.1", 80),)
BAD = Trouble("forbidden", "no")
NOW = 1000.0


def good(endpoints=PODS):
    return Standing(NOW - 500, True, endpoints)


def failing(since=NOW, endpoints=()):
    return Standing(since, bool(endpoints), endpoints, BAD)


def waiting(since=NOW):
    return Standing(since)


LONG = NOW - PATIENCE
CASES = {
    "the first rung works": ([good()], None, Decision(0, 1)),
    "it works and is empty, which is an answer": ([good(())], None, Decision(0, 1)),
    "it works again: the others may end": ([good(), good(SOME)], 1, Decision(0, 1)),
    "it works again, with nothing": ([good(()), good(SOME)], 1, Decision(0, 1)),
    "it has not answered yet": ([waiting()], None, Decision(None, 1, NOW + LATE)),
    "it is late: the next is tried beside it": ([waiting(NOW - LATE)], None, Decision(None, 2)),
    "late, and the next has not answered either": (
        [waiting(NOW - LATE), waiting()],
        None,
        Decision(None, 2, NOW + LATE),
    ),
    "late, and the next works": ([waiting(NOW - LATE), good()], None, Decision(1, 2)),
    "it failed before it ever answered: at once": ([failing()], None, Decision(None, 2)),
    "failed, and the next works": ([failing(), good()], None, Decision(1, 2)),
    "failed, and the next fails, too": ([failing(), failing()], None, Decision(None, 3)),
    "both fail, and the third works": ([failing(), failing(), good()], None, Decision(2, 3)),
    "all fail": ([failing(), failing(), failing()], None, Decision(None, 3)),
    "it fails since a moment ago: patience": ([failing(NOW - 1, PODS)], 0, Decision(0, 1, NOW - 1 + PATIENCE)),
    "it fails for long: the next is tried, and nothing changes yet": ([failing(LONG, PODS)], 0, Decision(0, 2)),
    "it fails for long, and the next has not answered": (
        [failing(LONG, PODS), waiting()],
        0,
        Decision(0, 2, NOW + LATE),
    ),
    "it fails for long, and the next works": ([failing(LONG, PODS), good(SOME)], 0, Decision(1, 2)),
    "it fails for long, and the next is empty": ([failing(LONG, PODS), good(())], 0, Decision(0, 3)),
    "it fails for long, and the next fails": ([failing(LONG, PODS), failing()], 0, Decision(0, 3)),
    "it fails for long, and the next is a stranger": (
        [failing(LONG, PODS), good(VIP)],
        0,
        Decision(0, 3, LONG + STRANGER),
    ),
    "a stranger that fails is one all the same": (
        [failing(LONG, PODS), failing(NOW, VIP)],
        0,
        Decision(0, 3, LONG + STRANGER),
    ),
    "strangers on both": (
        [failing(LONG, PODS), good(VIP), good(VIP)],
        0,
        Decision(0, 3, LONG + STRANGER),
    ),
    "a stranger, and pods below it": (
        [failing(LONG, PODS), good(VIP), good(SOME)],
        0,
        Decision(2, 3, LONG + STRANGER),
    ),
    "a stranger after very long": ([failing(NOW - STRANGER, PODS), good(VIP)], 0, Decision(1, 2)),
    "a stranger where nothing is known": ([failing(), good(VIP)], None, Decision(1, 2)),
    "an empty first rung that fails was no answer to keep": ([Standing(NOW, True, (), BAD), good()], 0, Decision(1, 2)),
    "the one in use fails since a moment ago": (
        [failing(LONG, PODS), failing(NOW, SOME)],
        1,
        Decision(1, 2, NOW + PATIENCE),
    ),
    "the one in use fails for long": ([failing(LONG, PODS), failing(LONG, SOME)], 1, Decision(1, 3)),
    "the one in use became empty: what the one above knew is the past": (
        [failing(LONG, PODS), good(())],
        1,
        Decision(1, 3),
    ),
    "the one above recovered and fails again before it was used": (
        [failing(NOW - 1, PODS), good(SOME)],
        1,
        Decision(1, 2),
    ),
    "the one in use became empty, and the one below it works": (
        [failing(LONG, PODS), good(()), good(SOME)],
        1,
        Decision(2, 3),
    ),
    "empty on every rung, as it was": ([failing(), good(()), good(())], 1, Decision(1, 3)),
}


SOON = NOW - 1
SAME_POD_OTHER_PORT = (Endpoint("10.0.0.2", 9090),)
REACHED = {
    "failing since a moment ago, and nothing answers: the next is tried": (
        [failing(SOON, PODS)],
        False,
        Decision(0, 2),
    ),
    "and used": ([failing(SOON, PODS), good(SOME)], False, Decision(1, 2)),
    "also where it is a stranger": ([failing(SOON, PODS), good(VIP)], False, Decision(1, 2)),
    "empty is no help": ([failing(SOON, PODS), good(())], False, Decision(0, 3)),
    "well, and nothing answers: that is not for discovery to judge": ([good(), good(SOME)], False, Decision(0, 1)),
    "a stranger after very long, and the pods answer": (
        [failing(NOW - STRANGER, PODS), good(VIP)],
        True,
        Decision(0, 3),
    ),
    "a port that is no pod's makes a stranger": (
        [failing(LONG, PODS), good(SAME_POD_OTHER_PORT)],
        None,
        Decision(0, 3, LONG + STRANGER),
    ),
}


@pytest.mark.parametrize("case", REACHED)
def test_choice_with_what_traffic_knows(case):
    """The kind: discovery does not hear that nobody answers, or that all do. One line each."""
    standings, reached, expected = REACHED[case]
    assert decide(standings, 3, 0, NOW, reached) == expected


def test_a_stranger_that_was_taken_stays():
    """Traffic reaches it, and it is in use: it needs no relatives any more."""
    assert decide([failing(SOON, PODS), good(VIP)], 3, 1, NOW, True) == Decision(1, 2)


@pytest.mark.parametrize("case", CASES)
def test_choice(case):
    """One line each."""
    standings, current, expected = CASES[case]
    assert decide(standings, 3, current, NOW) == expected


def test_there_is_no_rung_below_the_last():
    """Nor is one started."""
    assert decide([failing(), failing()], 2, None, NOW).run == 2


def test_words():
    """As health has it."""
    assert str(BAD) == "forbidden: no"
