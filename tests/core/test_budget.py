"""The retry budget: its bound holds over any history."""

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelb.core.retry.budget import BudgetState, RetryBudget


@pytest.mark.parametrize(
    "options", [{"ratio": -0.1}, {"floor": -1}, {"window": 0}, {"reserve": -1}, {"ratio": float("nan")}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    """The error names the option and what to give."""
    with pytest.raises(ValueError, match=rf"{next(iter(options))}.*give"):
        RetryBudget(**options)


@given(
    st.floats(0, 2),
    st.floats(0, 20),
    st.floats(0.5, 20),
    st.floats(1, 20),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 200), st.integers(0, 100)), max_size=40),
)
def test_extra_tries_never_pass_the_bound(
    ratio: float, floor: float, window: float, reserve: float, history: list[tuple[float, int, int]]
) -> None:
    """At most ratio * requests + floor * seconds + reserve are granted, whenever requests and failures come."""
    now = start = 50.0
    state = BudgetState(RetryBudget(ratio, floor, window, reserve), now)
    requests = granted = 0
    for pause, more, wanted in history:
        now += pause
        requests += more
        granted += sum(state.withdraw(requests, now) for _ in range(wanted))
        assert granted <= ratio * requests + floor * (now - start) + reserve + 1e-6


@pytest.mark.parametrize("rate", [2, 5, 20, 100])
@pytest.mark.parametrize("workers", [1, 40])
def test_a_dead_service_sees_a_fifth_more_at_any_rate(rate: int, workers: int) -> None:
    """What grows with time and not with traffic: ten tries a second in each process tripled 5 requests a second.

    `workers` processes share the traffic, and every request wants two more tries. In the first minute and in each
    later one extra tries are a fifth of the requests, and beside that each process has ten, which come but once.
    """
    rng = random.Random(rate)
    states = [BudgetState(RetryBudget(), 0.0) for _ in range(workers)]
    requests = [0] * workers
    wire: list[int] = []
    for number in range(rate * 300):
        now, worker = number / rate, rng.randrange(workers)
        requests[worker] += 1
        granted = sum(states[worker].withdraw(requests[worker], now) for _ in range(2))
        if number % (rate * 60) == 0:
            wire.append(0)
        wire[-1] += 1 + granted
    firsts = rate * 60
    assert workers > 1 or 1.19 * firsts <= wire[-1] <= 1.2 * firsts + 1
    for minutes in range(1, 6):
        assert sum(wire[:minutes]) <= 1.2 * firsts * minutes + 10 * workers


def test_what_an_outage_has_used_up_comes_back_with_traffic_alone() -> None:
    """What grows with time: a bucket that an outage has emptied is full again after fifty good requests, not before."""
    state = BudgetState(RetryBudget(), 0.0)
    assert sum(state.withdraw(0, 0.0) for _ in range(20)) == 10
    assert not state.withdraw(0, 3600.0)
    assert state.available(25, 3605.0) == 5
    assert sum(state.withdraw(50, 3610.0) for _ in range(20)) == 10
    assert sum(state.withdraw(550, 7200.0) for _ in range(200)) == 10  # a rare 500 in an hour: no more is kept


def test_a_quiet_service_may_retry() -> None:
    """Ten tries are there at first; a floor that is asked for holds as many and gives as many a second."""
    state = BudgetState(RetryBudget(), 0.0)
    assert [state.withdraw(1, 0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    state = BudgetState(RetryBudget(floor=10.0), 0.0)
    assert [state.withdraw(0, 0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [state.withdraw(0, 0.5) for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_floor_below_one_gives_one_in_a_while() -> None:
    """Half a try a second is one every two seconds, not none for ever."""
    state = BudgetState(RetryBudget(ratio=0, floor=0.5), 0.0)
    assert [state.withdraw(0, float(second)) for second in range(7)] == [False, True, False, True, False, True, False]


def test_a_floor_of_nothing_leaves_the_share() -> None:
    """With floor=0 only the share of recent requests is there."""
    state = BudgetState(RetryBudget(ratio=0.2, floor=0), 0.0)
    assert sum(state.withdraw(100, 1.0) for _ in range(50)) == 20


def test_the_share_is_of_recent_requests() -> None:
    """Requests of more than a window ago are no credit; those between two looks count in proportion."""
    state = BudgetState(RetryBudget(ratio=0.2, floor=0), 0.0)
    assert sum(state.withdraw(1000, 1.0) for _ in range(500)) == 200
    assert sum(state.withdraw(1000, 30.0) for _ in range(500)) == 0
    state = BudgetState(RetryBudget(ratio=0.2, floor=0), 0.0)
    assert sum(state.withdraw(10_000, 100.0) for _ in range(500)) == 200


def test_everything_down_costs_a_fifth_more() -> None:
    """100 requests a second that all fail for a minute: 1.2 x requests + 10/s where asked for, nearly as many."""
    state = BudgetState(RetryBudget(floor=10.0), 0.0)
    rng = random.Random(1)
    granted = 0
    for number in range(6000):
        for _ in range(rng.randint(1, 2)):
            granted += state.withdraw(number + 1, number / 100)
    assert 0.9 * (1200 + 600) <= granted <= 1200 + 610


def test_the_bound_holds_under_threads() -> None:
    """Eight threads that want everything get exactly the bucket."""
    state = BudgetState(RetryBudget(ratio=0, floor=100), 0.0)
    granted: list[bool] = []
    threads = [
        threading.Thread(target=lambda: granted.extend([state.withdraw(0, 0.0) for _ in range(50)])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 100


@pytest.mark.parametrize(
    "config", [RetryBudget(), RetryBudget(floor=0.3), RetryBudget(ratio=0.0), RetryBudget(floor=0)]
)
def test_what_is_available_is_what_can_be_taken(config: RetryBudget) -> None:
    """At any moment of any history; and a look changes nothing."""
    rng = random.Random(3)
    state = BudgetState(config, 0.0)
    now, requests = 0.0, 0
    for _ in range(300):
        now += rng.choice((0.01, 0.5, 3.0, 30.0))
        requests += rng.randint(0, 40)
        for _ in range(rng.randint(0, 3)):
            state.withdraw(requests, now)
        looked = state._marks.copy(), state._tokens, state._filled
        available = state.available(requests, now)
        assert (state._marks, state._tokens, state._filled) == looked
        twin = BudgetState(config, 0.0)
        twin._marks, twin._tokens, twin._filled = state._marks.copy(), *looked[1:]
        taken = 0
        while twin.withdraw(requests, now):
            taken += 1
        assert taken == available


def test_a_child_has_a_lock_of_its_own() -> None:
    """After a fork a lock that another thread held is not waited for."""
    state = BudgetState(RetryBudget(), 0.0)
    state._lock.acquire()
    state.forget()
    assert state.withdraw(1, 0.0)
