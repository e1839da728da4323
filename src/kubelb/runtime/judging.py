"""How an attempt of `LoadBalancer.call` ended, judged from what the user's function did.

A result is a success. Of exceptions, those of the network are the endpoint's fault and worth another one: refused, a
reset, a broken pipe, a timeout. None of them means that nothing was sent: a function may speak with others when its
request has been processed, and be refused there. That must be said, by `NeverSent` or by `classify`. A timeout is
silence, of which `kubelb.core.health.silence` makes what it counts; so is whatever a client raises when the deadline is
over, since not every client's own timeout is a TimeoutError. Anything else goes to the caller as it is. It may be the
application's own (a ValueError says nothing about a pod) or what an unknown client makes of a pod that is broken: so it
ejects none, but counts for the choice like a failure. As a quick success it would draw all traffic to the one pod on
which everything raises at once. `classify` has the last word.
"""

from collections.abc import Callable
from copy import copy
from types import CoroutineType as Coroutine
from typing import Any, TypeAlias

from kubelb.errors import NeverSent
from kubelb.model import Outcome, Sent, Verdict
from kubelb.printable import shown
from kubelb.telemetry.watch import AioSeen, Seen

__all__ = ["Classify", "Coroutine", "judge_error", "judge_result", "not_awaited"]

Classify: TypeAlias = Callable[[Any, Exception | None], Outcome | None]
"""Called with (result, None) or (None, error); returns an Outcome, or None for kubelb's own judgement.

The Outcome may be a constant of the user's: what belongs to one attempt is kept on a copy."""


def judge_error(error: Exception, classify: Classify | None = None, overdue: float = -1.0) -> Outcome:
    """Return the outcome of an attempt that raised, `overdue` seconds after its deadline; negative: before it."""
    outcome = _classified(classify(None, error)) if classify else None
    outcome = _judged(error, overdue) if outcome is None else copy(outcome)
    outcome.open = False  # a function has returned, whatever `classify` says
    outcome.error = error
    while isinstance(error, NeverSent):  # it may be raised from one that an inner call was told
        error.told = True
        if not isinstance(error.__cause__, Exception):
            break
        outcome.error = error = error.__cause__
    return outcome


def judge_result(result: Any, classify: Classify | None) -> Outcome:
    """Return the outcome of an attempt that returned."""
    outcome = _classified(classify(result, None)) if classify else None
    outcome = Outcome() if outcome is None else copy(outcome)
    outcome.open = False
    outcome.value = result
    return outcome


def refuse_uncalled(fn: object, error: Exception) -> None:
    """Raise where `fn` could not be called at all, which is its caller's slip and says nothing of an endpoint.

    Such an error is raised in the frame that calls: that of this function's caller, or of what sees the call.
    """
    if type(error) is not TypeError:
        return
    frames = 1
    if isinstance(fn, Seen | AioSeen):
        fn, frames = fn.fn, 2
    made = error.__traceback__
    for _ in range(frames):
        made = made and made.tb_next
    if made is None:
        if not callable(fn):
            raise TypeError(f"{shown(fn)} cannot be called: give a function that takes an Attempt") from None
        raise error


def not_awaited(result: Any) -> TypeError:
    """Return the error for an `async def` that was given to `call`: what it would do would not be accounted for."""
    name = result.__qualname__
    result.close()
    return TypeError(f"call({name}): it is an async function; await acall({name}) instead")


def _classified(outcome: object) -> Outcome | None:
    if not isinstance(outcome, Outcome | None):
        raise TypeError(f"classify returned {shown(outcome)}: give an Outcome, or None for kubelb's own judgement")
    return outcome


def _judged(error: Exception, overdue: float) -> Outcome:
    name = type(error).__name__
    if isinstance(error, NeverSent) and not error.told:
        reason = type(error.__cause__).__name__ if error.__cause__ else "never sent"
        return Outcome(Verdict.FAILED, sent=Sent.NEVER, retryable=True, reason=reason)
    if isinstance(error, ConnectionRefusedError):
        return Outcome(Verdict.FAILED, sent=Sent.MAYBE, retryable=True, reason="refused")
    if isinstance(error, TimeoutError):
        late = overdue if overdue >= 0 else None  # else the function's own, shorter timeout: nothing is known of that
        return Outcome(Verdict.SILENT, sent=Sent.MAYBE, retryable=True, overdue=late, reason="timeout")
    if isinstance(error, OSError | EOFError):
        return Outcome(Verdict.FAILED, sent=Sent.MAYBE, retryable=True, reason=name)
    if overdue >= 0:
        return Outcome(Verdict.SILENT, sent=Sent.MAYBE, overdue=overdue, reason=name)
    return Outcome(Verdict.ODD, reason=name)
