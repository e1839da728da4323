"""What is given and is not what it should be: the error says so, before anything is made of it."""

import asyncio
import functools
from typing import Any

import pytest

import kubelb
from kubelb.service import service_of

STATIC = "static:///127.0.0.1:1"


def plain(attempt: kubelb.Attempt) -> int:
    return attempt.number


class Plain:
    def __call__(self, attempt: kubelb.Attempt) -> int:
        return attempt.number


@pytest.mark.parametrize("deadline", [None, 5.0])
@pytest.mark.parametrize(
    ("fn", "name"),
    [(plain, "plain"), (lambda _: None, "<lambda>"), (functools.partial(plain), "partial"), (Plain(), "Plain")],
)
def test_a_function_that_is_not_async(fn: Any, name: str, deadline: float | None) -> None:
    """`acall` names it, what it returned, and both cures."""
    with kubelb.LoadBalancer(STATIC) as lb:
        with pytest.raises(
            TypeError, match=r"acall\(.*it returned (int|NoneType), not an awaitable; give an async"
        ) as caught:
            asyncio.run(lb.acall(fn, deadline=deadline))
        assert name in str(caught.value)
        assert service_of(lb).balancer.states()[0].in_flight == 0


def test_whatever_can_be_awaited() -> None:
    """An async function's wrapper, and a future."""

    async def twice(attempt: kubelb.Attempt) -> int:
        return attempt.number * 2

    async def main() -> list[Any]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.set_result("done")
        return [await lb.acall(lambda attempt: twice(attempt)), await lb.acall(lambda _: future)]

    with kubelb.LoadBalancer(STATIC) as lb:
        assert asyncio.run(main()) == [2, "done"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sent": False}, r"Outcome\(sent=False\): give kubelb.Sent.NEVER, MAYBE or ANSWERED; NEVER is believed"),
        ({"sent": True}, r"Outcome\(sent=True\): give kubelb.Sent"),
        ({"sent": "never"}, r"Outcome\(sent='never'\): give kubelb.Sent"),
        ({"verdict": "failed"}, r"Outcome\('failed'\): give a kubelb.Verdict"),
        ({"verdict": None}, r"Outcome\(None\): give a kubelb.Verdict"),
    ],
)
def test_an_outcome_of_other_values(options: dict[str, Any], words: str) -> None:
    """It was taken for one that may have been sent, so that nothing was repeated and nothing said why."""
    with pytest.raises(TypeError, match=words):
        kubelb.Outcome(**options)


def test_an_outcome_of_other_values_from_classify() -> None:
    """The error reaches the caller, and nothing stays in flight."""

    def classify(_: object, error: Exception | None) -> kubelb.Outcome | None:
        return kubelb.Outcome(kubelb.Verdict.FAILED, sent=False) if error else None  # type: ignore[arg-type]

    def fails(_: kubelb.Attempt) -> None:
        raise ConnectionRefusedError

    with kubelb.LoadBalancer(STATIC) as lb:
        with pytest.raises(TypeError, match="give kubelb"):
            lb.call(fails, classify=classify)
        assert service_of(lb).balancer.states()[0].in_flight == 0
