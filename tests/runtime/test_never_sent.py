"""Kind: a call that is not idempotent, made again because of the type of an exception.

What a user's function raises may come of anything that it does. Only what it says itself is never sent.
"""

import asyncio
from typing import Any

import pytest
import tenacity

from kubelb import Attempt, LoadBalancer, NeverSent, Outcome, Retry, Sent, Verdict
from kubelb.service import service_of

from .kit import in_flight
from .test_calls import STATIC, Script, both

QUICK = Retry(wait=tenacity.wait_fixed(0))
ERRORS = [
    *(ConnectionRefusedError(111, "redis: connection refused"), ConnectionResetError(), ConnectionAbortedError()),
    *(BrokenPipeError(), TimeoutError(), OSError(113, "no route to host"), OSError(101, "network is unreachable")),
    *(OSError(99, "cannot assign requested address"), EOFError(), ValueError("closed"), LookupError()),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_no_exception_of_others_means_that_nothing_was_sent(error: Exception) -> None:
    """It posted to the pod, then another service refused: called once, and the caller gets what it raised."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    script = Script(error)
    with pytest.raises(type(error)):
        both(lb, script)
    assert len(script.once()) == 1


def refuse(attempt: Attempt) -> Any:
    """As a user writes it."""
    try:
        raise ConnectionRefusedError(111, attempt.endpoint.authority)
    except OSError as error:
        raise NeverSent from error


def test_what_it_was_raised_from_is_what_the_caller_gets() -> None:
    """With notes on the other tries; each went to another endpoint, and each of those has failed."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    for run in (lambda: lb.call(refuse), lambda: asyncio.run(lb.acall(later(refuse)))):
        before = sum(state.failures for state in service_of(lb).balancer.states())
        with pytest.raises(ConnectionRefusedError) as caught:
            run()
        assert [note.rpartition(" ")[2] for note in caught.value.__notes__] == ["ConnectionRefusedError"] * 2
        assert sum(state.failures for state in service_of(lb).balancer.states()) - before == 3
        assert in_flight(lb) == 0


def later(fn: Any) -> Any:
    async def run(attempt: Attempt) -> Any:
        return fn(attempt)

    return run


@pytest.mark.parametrize("cause", [None, KeyboardInterrupt()])
def test_without_a_cause_the_caller_gets_it_itself(cause: BaseException | None) -> None:
    """With the words that it was given; nobody is to catch an interrupt where an error was raised."""
    lb = LoadBalancer(STATIC, retry=QUICK)

    def fn(attempt: Attempt) -> None:
        raise NeverSent("the pool is empty") from cause

    with pytest.raises(NeverSent, match="the pool is empty") as caught:
        lb.call(fn)
    assert len(caught.value.__notes__) == 2


def test_one_call_inside_another() -> None:
    """The inner one has sent nothing, the outer one has posted to its pod: it is not made again, however it ends."""
    outer, inner = LoadBalancer(STATIC, retry=QUICK), LoadBalancer(STATIC, retry=QUICK)
    for fn in (refuse, Script(NeverSent("nothing was sent"))):
        posted: list[str] = []

        def post(attempt: Attempt, fn: Any = fn, posted: list[str] = posted) -> Any:
            posted.append(attempt.endpoint.authority)
            return inner.call(fn)

        with pytest.raises((ConnectionRefusedError, NeverSent)):
            outer.call(post)
        assert len(posted) == 1
    assert in_flight(outer) == in_flight(inner) == 0


def test_one_that_was_raised_from_another_is_heard_by_no_call_around_it() -> None:
    """Kind: the caller gets the cause, and that may be one which says it again."""
    outer, inner = LoadBalancer(STATIC, retry=QUICK), LoadBalancer(STATIC, retry=QUICK)
    posted: list[str] = []

    def again(attempt: Attempt) -> None:
        raise NeverSent("outer words") from NeverSent("inner words")

    def post(attempt: Attempt) -> Any:
        posted.append(attempt.endpoint.authority)
        return inner.call(again)

    with pytest.raises(NeverSent, match="inner words"):
        outer.call(post)
    assert len(posted) == 1


def test_classify_has_the_last_word() -> None:
    """It is asked first, and may say it of an exception of a library's."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    heard: list[Any] = []

    def classify(result: Any, error: Exception | None) -> Outcome | None:
        heard.append(error)
        if isinstance(error, LookupError):
            return Outcome(Verdict.FAILED, sent=Sent.NEVER, retryable=True)
        return Outcome(Verdict.OK) if isinstance(error, NeverSent) else None

    assert both(lb, Script(LookupError(), "done"), classify=classify) == "done"
    with pytest.raises(ConnectionRefusedError):
        lb.call(refuse, classify=classify)
    assert [type(error) for error in heard] == [LookupError, type(None)] * 2 + [NeverSent]
