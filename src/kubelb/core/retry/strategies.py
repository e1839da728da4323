"""tenacity's strategies under our clock: fill the RetryCallState that they read.

tenacity itself never runs: its loop would sleep, and its jitter and its state read the process's own clock. A state
made by hand must have its outcome's timestamp set, or `stop_after_delay` raises.
"""

from typing import Any

from kubelb.core.retry.rules import Retry
from kubelb.model import Outcome

__all__ = ["call_state"]


def call_state(retry: Retry, outcome: Outcome, number: int, started: float, now: float, slept: float) -> Any:
    """Return a RetryCallState for the strategies of `retry`, times in the balancer's seconds."""
    import tenacity

    state = tenacity.RetryCallState(retry_object=retry, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.start_time = started
    state.attempt_number = number
    state.idle_for = slept
    future = tenacity.Future(number)
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.value)
    state.outcome = future
    state.outcome_timestamp = now
    return state
