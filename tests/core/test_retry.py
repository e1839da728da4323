"""Retry rules, backoff and tenacity's strategies under our clock."""

import random

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from kubelb.core.retry import FullJitter, Retry
from kubelb.core.retry.rules import may_repeat, worth_repeating
from kubelb.core.retry.strategies import call_state
from kubelb.model import ANY, IDEMPOTENT, Outcome, Request, Sent, Verdict

from .kit import busy, failed, refused


@given(st.floats(0, 1), st.floats(0, 10), st.integers(1, 2000), st.integers())
def test_full_jitter_stays_below_its_ceiling(base: float, more: float, number: int, seed: int) -> None:
    """The n-th wait is in [0, min(cap, (2^n - 1) * base)], for any n."""
    wait = FullJitter(base, base + more)
    delay = wait.delay(number, random.Random(seed))
    assert 0 <= delay <= min(wait.cap, wait.base * (2 ** min(number, 60) - 1))


def test_full_jitter_spreads_over_the_whole_range() -> None:
    """1000 third waits with the defaults: the mean is half of 175 ms, within 10 %."""
    rng = random.Random(5)
    waits = [FullJitter().delay(3, rng) for _ in range(1000)]
    assert abs(sum(waits) / 1000 - 0.0875) < 0.00875
    assert min(waits) < 0.01
    assert max(waits) > 0.165


@pytest.mark.parametrize("options", [{"base": -1.0}, {"base": 1.0, "cap": 0.5}, {"cap": float("inf")}])
def test_full_jitter_refuses_nonsense(options: dict[str, float]) -> None:
    """Seconds, the base not above the cap."""
    with pytest.raises(ValueError, match="give seconds"):
        FullJitter(**options)


def test_full_jitter_is_a_tenacity_wait() -> None:
    """It can be called with a state, added to others, summed, and takes its own rng."""
    state = call_state(Retry(), Outcome(), 2, 0.0, 1.0, 0.0)
    assert 0 <= FullJitter()(state) <= 0.075
    one, other = (FullJitter(rng=random.Random(3)) for _ in range(2))
    assert one(state) == other.delay(2, random.Random(99))
    both = FullJitter() + tenacity.wait_fixed(1)
    assert 1 <= both(state) <= 1.075
    assert 1 <= (tenacity.wait_fixed(1) + FullJitter())(state) <= 1.075
    assert 0 <= sum([FullJitter()])(state) <= 0.075  # type: ignore[operator]
    assert 1 <= FullJitter().__radd__(tenacity.wait_fixed(1))(state) <= 1.075


def test_attempts_count_the_first() -> None:
    """attempts=0 makes no sense and says so."""
    with pytest.raises(ValueError, match="the first try counts"):
        Retry(attempts=0)


@pytest.mark.parametrize(
    ("request_", "outcome", "may"),
    [
        (ANY, refused(), True),
        (ANY, failed(), False),
        (ANY, Outcome(Verdict.FAILED, sent=Sent.ANSWERED, retryable=True), False),
        (IDEMPOTENT, failed(), True),
        (IDEMPOTENT, Outcome(Verdict.FAILED, sent=Sent.ANSWERED, retryable=True), True),
        (Request(replayable=False), refused(), False),
        (Request(replayable=False, idempotent=True), failed(), False),
        (Request(replayable=False), failed(sent=Sent.NEVER, fresh=True), True),
        (Request(replayable=False), failed(fresh=True), False),
    ],
)
def test_what_may_be_sent_again(request_: Request, outcome: Outcome, may: bool) -> None:
    """Idempotent or never sent, and only with a body that is whole."""
    assert may_repeat(request_, outcome) is may


@pytest.mark.parametrize(
    ("outcome", "worth"),
    [
        (refused(), True),
        (failed(), True),
        (failed(retryable=False), False),
        (busy(1.0), True),
        (Outcome(), False),
        (Outcome(Verdict.NEUTRAL, sent=Sent.MAYBE, retryable=True), True),
        (Outcome(Verdict.CANCELLED, sent=Sent.NEVER), False),
    ],
)
def test_what_is_worth_sending_again(outcome: Outcome, worth: bool) -> None:
    """Never sent, or the protocol says another may do better; what was given up is over."""
    assert worth_repeating(outcome) is worth


def test_a_state_is_filled_for_tenacity() -> None:
    """Its strategies read attempt, time, sleep, result and error in the balancer's seconds."""
    error = ValueError("no")
    state = call_state(Retry(), Outcome(error=error), 3, 100.0, 107.5, 2.5)
    assert (state.attempt_number, state.seconds_since_start, state.idle_for) == (3, 7.5, 2.5)
    assert tenacity.stop_after_delay(7)(state)
    assert not tenacity.stop_after_delay(8)(state)
    assert tenacity.stop_after_attempt(3)(state)
    assert tenacity.retry_if_exception_type(ValueError)(state)
    assert not tenacity.retry_if_result(lambda value: value == 5)(state)
    assert tenacity.wait_exponential(multiplier=1)(state) == 4
    state = call_state(Retry(), Outcome(value=5), 1, 0.0, 0.0, 0.0)
    assert tenacity.retry_if_result(lambda value: value == 5)(state)
    assert not tenacity.retry_if_exception_type(ValueError)(state)
