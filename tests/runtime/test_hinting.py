"""`kubelb.hints`: whose they are, which of several count, and what a call makes of them."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

import kubelb
from core.kit import Clock
from kubelb import Attempt, DeadlineExceeded, LoadBalancer, Retry, hints
from kubelb.core.policies import Picker, Policy
from kubelb.core.policies.random import RandomPicker
from kubelb.model import Request
from kubelb.runtime.hinting import Hinted, current
from kubelb.runtime.switch import off

STATIC = "static:///10.0.0.1:80,10.0.0.2:80,10.0.0.3:80"
QUICK = Retry(wait=tenacity.wait_fixed(0))


def now() -> Hinted:
    hinted = current()
    assert hinted is not None
    return hinted


def test_a_block_has_an_end_whatever_happens() -> None:
    """After it, and after an exception in it, there are no hints."""
    with pytest.raises(RuntimeError), hints(key="a"):
        assert now().key == "a"
        raise RuntimeError
    assert current() is None


def test_inner_blocks_replace_what_they_say() -> None:
    """And nothing else; outside them the outer ones count again."""
    with hints(key="a", idempotent=True):
        with hints(key="b"):
            assert (now().key, now().idempotent) == ("b", True)
        with hints(idempotent=False):
            assert (now().key, now().idempotent) == ("a", False)
        assert (now().key, now().idempotent) == ("a", True)


def test_the_earliest_deadline_counts() -> None:
    """An inner block can take time away, and give none; time goes on in both."""
    clock = Clock()
    with hints(deadline=2.0, clock=clock):
        with hints(deadline=5.0, clock=clock):
            assert now().left == 2.0
        clock.advance(0.5)
        with hints(deadline=1.0, clock=clock):
            assert now().left == 1.0
        assert now().left == 1.5
        with hints(key="a", clock=clock):
            assert now().left == 1.5
    with hints(key="a"):
        assert now().left is None


def test_one_may_be_entered_again() -> None:
    """One after the other, and inside itself: each time its deadline begins anew."""
    clock = Clock()
    block = hints(deadline=2.0, clock=clock)
    with block:
        clock.advance(1.5)
    with block:
        assert now().left == 2.0
        with block:
            assert now().left == 2.0
        assert now().left == 2.0
    assert current() is None


@pytest.mark.parametrize("make", [lambda: hints(idempotent=True), kubelb.disabled])
def test_one_block_for_many_tasks(make: Any) -> None:
    """Tasks that are in it at the same time leave it in any order, and nothing of it stays behind."""
    block = make()

    async def inside(seconds: float) -> tuple[bool, bool]:
        with block:
            await asyncio.sleep(seconds)
            there = current() is not None or off() is not None
        return there, current() is None and off() is None

    async def both() -> list[tuple[bool, bool]]:
        return await asyncio.gather(inside(0.01), inside(0.0), inside(0.02))

    assert asyncio.run(both()) == [(True, True)] * 3
    with pytest.raises(ValueError, match="another context"):
        block.__exit__(None, None, None)


def test_threads_have_their_own_and_tasks_inherit() -> None:
    """Another thread knows nothing of it; a task begun inside does, and keeps its own from its siblings."""
    seen: list[Any] = []
    with hints(key="a"):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()

        async def child(key: str) -> str | bytes | None:
            with hints(key=key):
                await asyncio.sleep(0)
                return now().key

        async def family() -> list[str | bytes | None]:
            return [now().key, *await asyncio.gather(child("b"), child("c")), now().key]

        assert asyncio.run(family()) == ["a", "b", "c", "a"]
    assert seen == [None]


def test_a_deadline_is_a_number() -> None:
    """The error names the value. Infinity bounds nothing; zero and less: `test_no_time_left.py`."""
    with pytest.raises(ValueError, match=r"hints\(deadline=nan\): give a number"):
        hints(deadline=float("nan"))
    with hints(deadline=float("inf")):
        assert now().left is None


@pytest.mark.parametrize("options", [{"key": 7}, {"idempotent": "yes"}, {"deadline": "2"}])
def test_other_types_are_refused(options: dict[str, Any]) -> None:
    """Before anything is done with them."""
    with pytest.raises(TypeError, match=rf"hints\({next(iter(options))}=.*\): give"):
        hints(**options)


class Keyed(Policy):
    """A policy that remembers the keys it was asked with."""

    def __init__(self) -> None:
        self.keys: list[Any] = []

    def build(self, members: Any, rng: Any, before: Any = None) -> Picker:
        keys, inner = self.keys, RandomPicker(members.states, rng)

        class Remembering(Picker):
            def pick(self, request: Request, now: float) -> Any:
                keys.append(request.key)
                return inner.pick(request, now)

        return Remembering()


def sync_call(lb: LoadBalancer, fn: Callable[[Attempt], Any], **options: Any) -> Any:
    return lb.call(fn, **options)


def aio_call(lb: LoadBalancer, fn: Callable[[Attempt], Any], **options: Any) -> Any:
    async def afn(attempt: Attempt) -> Any:
        return fn(attempt)

    async def main() -> Any:
        return await lb.acall(afn, **options)

    return asyncio.run(main())


@pytest.fixture(params=[sync_call, aio_call])
def call(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_call_hashes_on_the_hinted_key(call: Any) -> None:
    """Unless it has one of its own."""
    policy = Keyed()
    lb = LoadBalancer(STATIC, policy=policy)
    with hints(key="a"):
        call(lb, lambda attempt: 1)
        call(lb, lambda attempt: 1, key=b"b")
    call(lb, lambda attempt: 1)
    assert policy.keys == ["a", b"b", None]


def test_a_call_is_repeated_when_hints_allow_it(call: Any) -> None:
    """A connection lost in mid-call is tried again with the hint, not without it, and not against the call's word."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    tries: list[int] = []

    def lost_at_first(attempt: Attempt) -> int:
        tries.append(attempt.number)
        if attempt.number == 1:
            raise ConnectionResetError
        return attempt.number

    with hints(idempotent=True):
        assert call(lb, lost_at_first) == 2
        with pytest.raises(ConnectionResetError):
            call(lb, lost_at_first, idempotent=False)
    with pytest.raises(ConnectionResetError):
        call(lb, lost_at_first)
    assert tries == [1, 2, 1, 1]


def test_a_call_has_the_time_that_is_left(call: Any) -> None:
    """Its own deadline may be the shorter one; with no time left nothing is sent."""
    clock = Clock()
    lb = LoadBalancer(STATIC)
    seen: list[float | None] = []

    def fn(attempt: Attempt) -> None:
        seen.append(attempt.timeout)

    with hints(deadline=20.0, clock=clock):
        clock.advance(5.0)
        call(lb, fn)
        call(lb, fn, deadline=3.0)
        clock.advance(15.0)
        with pytest.raises(DeadlineExceeded):
            call(lb, fn)
    assert seen == [pytest.approx(15.0, abs=0.5), pytest.approx(3.0, abs=0.5)]


def test_it_is_a_public_name() -> None:
    """`kubelb.hints` is the block itself."""
    assert kubelb.hints is hints
