"""Calls of a user's function: `call` and `acall`, for any client.

The straight first attempt is inlined here, for it is all there is to nearly every call: pick, the function, release.
What that does not end goes on as the calls of every adapter do (`door.py`).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from kubelb.core.lease import Lease
from kubelb.core.options import awaitable
from kubelb.errors import DeadlineExceeded, NeverSent
from kubelb.model import ANY, CANCELLED, IDEMPOTENT, Attempt, Outcome, Request
from kubelb.printable import shown
from kubelb.runtime import sync
from kubelb.runtime.calls import Calls
from kubelb.runtime.door import AioAttempts, Attempts, Exchange, result
from kubelb.runtime.driving import settle, stay
from kubelb.runtime.hinting import current, seconds
from kubelb.runtime.judging import Classify, Coroutine, judge_error, judge_result, not_awaited, refuse_uncalled
from kubelb.runtime.loops import modules, refuse_trio
from kubelb.runtime.switch import off
from kubelb.telemetry.watch import AioSeen, Seen

__all__ = ["Functions"]

T = TypeVar("T")

SHORTEST = 0.001
"""Seconds; a timeout of 0 means "do not block" to a socket, and less is an error."""


class Functions:
    """The half of a LoadBalancer that calls functions."""

    _service: Calls

    def call(
        self,
        fn: Callable[[Attempt], T],
        *,
        key: str | bytes | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        classify: Classify | None = None,
    ) -> T:
        """Call `fn` with an Attempt (endpoint, number, timeout) until it succeeds or tries end; returns its result.

        `deadline` is in seconds from now and bounds all tries; `fn` must honour ``attempt.timeout``. One of zero or
        less is over already: DeadlineExceeded, and `fn` is not called. `idempotent` says that it may be repeated
        although it may have been processed; False by default. Where `key` and `idempotent` are not given,
        `kubelb.hints` around the call count, and its deadline where it is the earlier one. `classify(result, error)`
        may return an Outcome. `fn` raises `NeverSent` where nothing was sent; no other exception is taken to mean that.
        Raises the last try's own exception, with notes on the others.
        """
        service = self._service
        if service.watch.on() and type(fn) is not Seen:
            with service.watch.plain() as seen:
                return self.call(Seen(seen, fn), key=key, idempotent=idempotent, deadline=deadline, classify=classify)
        if (hinted := current()) is not None:
            key, idempotent, deadline = hinted.beside(key, idempotent, deadline)
        if service.disabled or off() is not None:
            return _plainly(service, fn, deadline)
        request = ANY if key is None and not idempotent else _request(key, idempotent)
        outcome: Outcome | None = None
        if (deadline is None or seconds("deadline", deadline) > 0) and service.balancer.version is not None:
            lease = service.balancer.pick(request)
            try:
                try:
                    value = fn(Attempt(lease.state.endpoint, 1, deadline))
                except Exception as error:  # noqa: BLE001
                    refuse_uncalled(fn, error)
                    overdue = -1.0 if deadline is None else service.balancer.clock() - lease.start - deadline
                    outcome = judge_error(error, classify, overdue)
                else:
                    if type(value) is Coroutine:
                        raise not_awaited(value)
                    if classify is None and not service.always_flow:
                        lease.release()
                        return value
                    outcome = judge_result(value, classify)
            except BaseException:
                lease.release(CANCELLED)
                raise
            if service.settled(request, settle(lease, outcome)):
                return cast(T, result(outcome))
        function = _Function(service, fn, classify)
        return cast(T, sync.go_on(service, function, Exchange(request, deadline), outcome))

    async def acall(
        self,
        fn: Callable[[Attempt], Awaitable[T]],
        *,
        key: str | bytes | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        classify: Classify | None = None,
    ) -> T:
        """The same for asyncio: `fn` returns an awaitable. It is cancelled when the deadline is over.

        Raises TypeError where `fn` returns something else, and RuntimeError under trio.
        """
        if "trio" in modules:
            refuse_trio("LoadBalancer.acall", "call", "lb.call, fn")
        service = self._service
        if service.watch.on() and type(fn) is not AioSeen:
            with service.watch.plain() as seen:
                return await self.acall(
                    AioSeen(seen, fn), key=key, idempotent=idempotent, deadline=deadline, classify=classify
                )
        if (hinted := current()) is not None:
            key, idempotent, deadline = hinted.beside(key, idempotent, deadline)
        if service.disabled or off() is not None:
            return await _aplainly(service, fn, deadline)
        request = ANY if key is None and not idempotent else _request(key, idempotent)
        outcome: Outcome | None = None
        if service.balancer.version is not None and deadline is None:
            lease = service.balancer.pick(request)
            try:
                try:
                    made = fn(Attempt(lease.state.endpoint, 1, None))
                    value = await (made if type(made) is Coroutine else awaitable(fn, made))
                except Exception as error:  # noqa: BLE001
                    refuse_uncalled(fn, error)
                    outcome = judge_error(error, classify)
                else:
                    if classify is None and not service.always_flow:
                        lease.release()
                        return value
                    outcome = judge_result(value, classify)
            except BaseException:
                lease.release(CANCELLED)
                raise
            if service.settled(request, settle(lease, outcome)):
                return cast(T, result(outcome))
        if deadline is not None:
            seconds("deadline", deadline)
        from kubelb.runtime import aio

        function = _AioFunction(service, fn, classify)
        return cast(T, await aio.go_on(service, function, Exchange(request, deadline), outcome))


def _plainly(service: Calls, fn: Callable[[Attempt], T], deadline: float | None) -> T:
    """Call a function once, with the Service's own name for an address."""
    try:
        result = fn(_plain_attempt(service, deadline))
    except NeverSent as error:
        raise error.__cause__ or error from None
    if type(result) is Coroutine:
        raise not_awaited(result)
    return result


def _plain_attempt(service: Calls, deadline: float | None) -> Attempt:
    if deadline is not None and seconds("deadline", deadline) <= 0:
        raise DeadlineExceeded(service.balancer.service, f"deadline={deadline!r}: it was over before the call")
    return Attempt(service.plain_endpoint(), 1, deadline)


async def _aplainly(service: Calls, fn: Callable[[Attempt], Awaitable[T]], deadline: float | None) -> T:
    import asyncio

    attempt = _plain_attempt(service, deadline)
    try:
        async with asyncio.timeout(deadline) as limit:
            return await awaitable(fn, fn(attempt))
    except NeverSent as error:
        raise error.__cause__ or error from None
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded(service.balancer.service, f"no answer within {deadline} s") from None


def _request(key: str | bytes | None, idempotent: bool | None) -> Request:
    if not isinstance(idempotent, bool | None):
        raise TypeError(f"idempotent={shown(idempotent)}: give True or False")
    return IDEMPOTENT if key is None else Request(key=key, idempotent=bool(idempotent))


class _Function(Attempts):
    """What carries on with a call of a user's function."""

    left = staticmethod(stay)
    throw_away = staticmethod(sync.nothing_to_discard)

    def __init__(self, service: Calls, fn: Callable[[Attempt], Any], classify: Classify | None) -> None:
        self._service = service
        self._fn = fn
        self._classify = classify

    def attempt(
        self,
        call: Exchange,
        lease: Lease,
        number: int,
        carrier: Mapping[str, str] | None,  # noqa: ARG002
    ) -> tuple[Outcome, Any]:
        clock, ends = self._service.balancer.clock, call.ends
        left = None if ends is None else max(SHORTEST, ends - clock())
        try:
            value = self._fn(Attempt(lease.state.endpoint, number, left))
        except Exception as error:  # noqa: BLE001
            refuse_uncalled(self._fn, error)
            return judge_error(error, self._classify, -1.0 if ends is None else clock() - ends), None
        if type(value) is Coroutine:
            raise not_awaited(value)
        return judge_result(value, self._classify), value


class _AioFunction(AioAttempts):
    """The same for one that returns an awaitable; its tries are cancelled when the deadline is over."""

    left = staticmethod(stay)

    def __init__(self, service: Calls, fn: Callable[[Attempt], Awaitable[Any]], classify: Classify | None) -> None:
        self._service = service
        self._fn = fn
        self._classify = classify

    async def attempt(
        self,
        call: Exchange,
        lease: Lease,
        number: int,
        carrier: Mapping[str, str] | None,  # noqa: ARG002
    ) -> tuple[Outcome, Any]:
        import asyncio

        fn, balancer, ends = self._fn, self._service.balancer, call.ends
        left = None if ends is None else max(0.0, ends - balancer.clock())
        try:
            async with asyncio.timeout(left) as limit:
                made = fn(Attempt(lease.state.endpoint, number, left))
                value = await (made if type(made) is Coroutine else awaitable(fn, made))
        except Exception as error:  # noqa: BLE001
            refuse_uncalled(fn, error)
            over = limit.expired()
            late = max(0.0, balancer.clock() - (ends or 0.0)) if over else -1.0
            outcome = judge_error(error, self._classify, late)
            if over:
                outcome.error = DeadlineExceeded(balancer.service, f"no answer within {call.limit} s")
            return outcome, None
        return judge_result(value, self._classify), value

    async def throw_away(self, outcome: Outcome) -> None:
        """Results need no closing."""
