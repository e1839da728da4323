"""What hears events: any callable, outside every lock, until it is taken back; its errors are no request's trouble."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from kubelb import ConcurrencyLimits, Endpoint, LoadBalancer, Overloaded, Snapshot
from kubelb.core.events import EndpointsChanged, Event, LimitReached, Retried
from kubelb.service import service_of

from .kit import Source, balancer

PODS = "static:///127.0.0.1:1,127.0.0.1:2"


def refused(_: object) -> None:
    raise ConnectionRefusedError


def fail(lb: LoadBalancer) -> None:
    with pytest.raises(ConnectionRefusedError):
        lb.call(refused, idempotent=True)


def test_a_callable_hears_what_happens_until_it_is_taken_back() -> None:
    """A retry is heard, with the name of the service; afterwards nothing. To take it back twice is no error."""
    heard: list[Event] = []
    with LoadBalancer(PODS) as lb:
        take_back = lb.on_event(heard.append)
        fail(lb)
        retried = [event for event in heard if isinstance(event, Retried)]
        assert len(retried) == 2
        assert {event.service for event in heard} == {str(lb.target)}
        take_back()
        take_back()
        count = len(heard)
        fail(lb)
        assert len(heard) == count


def test_it_is_a_decorator() -> None:
    """The name is then what takes it back."""
    heard: list[Event] = []
    with LoadBalancer(PODS) as lb:

        @lb.on_event
        def hear(event: Event) -> None:
            heard.append(event)

        fail(lb)
        hear()
        count = len(heard)
        assert count
        fail(lb)
        assert len(heard) == count


def test_one_callable_twice_is_heard_twice_and_taken_back_once() -> None:
    """Each registration stands for itself."""
    heard: list[Event] = []
    with LoadBalancer(PODS, retry=None) as lb:
        first = lb.on_event(heard.append)
        lb.on_event(heard.append)
        service_of(lb).tell(Retried("s", "e", 2, "503", 0.0))
        assert len(heard) == 2
        first()
        service_of(lb).tell(Retried("s", "e", 2, "503", 0.0))
        assert len(heard) == 3


def test_what_it_raises_harms_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The kind: code of the application's on the path of a request. Others hear the event all the same."""
    heard: list[Event] = []

    class OwnMistakeOfThisTest(Exception):
        pass

    def breaks(_: Event) -> None:
        raise OwnMistakeOfThisTest("with a secret in its words")

    with LoadBalancer(PODS) as lb, caplog.at_level(logging.WARNING, "kubelb"):
        lb.on_event(breaks)
        lb.on_event(heard.append)
        fail(lb)
        fail(lb)
        assert sum(isinstance(event, Retried) for event in heard) == 4
    told = [record.getMessage() for record in caplog.records if "OwnMistake" in record.getMessage()]
    assert len(told) == 1
    assert "on_event" in told[0]
    assert "breaks" in told[0]
    assert "secret" not in caplog.text


def test_an_async_function_is_told_that_it_is_not_awaited(caplog: pytest.LogCaptureFixture) -> None:
    """And its coroutine is closed, so that Python has nothing to complain of."""

    async def hear_in_vain(event: Event) -> None:
        await asyncio.sleep(0)

    with LoadBalancer(PODS) as lb, caplog.at_level(logging.WARNING, "kubelb"):
        with pytest.raises(TypeError, match=r"on_event\(.*hear_in_vain\): an async function"):
            lb.on_event(hear_in_vain)
        lb.on_event(lambda event: hear_in_vain(event))  # which no look at it can tell
        fail(lb)
    assert "NotAwaited" in caplog.text


@pytest.mark.parametrize("given", [None, 7, "print", [print]])
def test_no_callable_is_refused(given: Any) -> None:
    """At once, not when something happens."""
    with LoadBalancer(PODS) as lb, pytest.raises(TypeError, match=r"on_event\(.*\): give a callable"):
        lb.on_event(given)


def test_no_lock_is_held() -> None:
    """The kind: one that looks at the load balancer, or calls through it, from another thread, and waits for that.

    An event of each room: the set that changed, a limit, a retry, an endpoint that was ejected.
    """
    source = Source(2)
    kinds: set[type[Event]] = set()
    stuck: list[Event] = []

    with balancer(source, limits=ConcurrencyLimits(max_requests=1)) as lb:

        def look() -> None:
            lb.endpoints()
            lb.health()
            service = service_of(lb)
            service.feed()
            for lock in (service.opening._lock, service.balancer._lock, service._telling._log._lock):
                with lock:
                    pass

        def hear(event: Event) -> None:
            kinds.add(type(event))
            thread = threading.Thread(target=look)
            thread.start()
            thread.join(5.0)
            if thread.is_alive():
                stuck.append(event)

        lb.on_event(hear)
        lb.wait_ready()
        source.say((Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2), Endpoint("127.0.0.1", 3)))
        for _ in range(6):
            fail(lb)

        def inner(_: object) -> None:
            with pytest.raises(Overloaded):
                lb.call(lambda attempt: attempt)

        lb.call(inner)
        assert not stuck
        assert {EndpointsChanged, Retried, LimitReached} <= kinds
        assert len(kinds) >= 4


def test_it_may_call_through_the_load_balancer_that_it_hears() -> None:
    """A request of its own, whose retries are heard in their turn."""
    depth: list[int] = []

    with LoadBalancer(PODS) as lb:

        def hear(event: Event) -> None:
            if isinstance(event, Retried) and len(depth) < 3:
                depth.append(len(depth))
                fail(lb)

        lb.on_event(hear)
        fail(lb)
    assert depth == [0, 1, 2]


def test_the_first_snapshot_is_heard_and_an_older_name_is_not() -> None:
    """A source says its own name; the event has the load balancer's."""
    source = Source(1)
    heard: list[Event] = []
    with balancer(source) as lb:
        lb.on_event(heard.append)
        lb.wait_ready()
        service_of(lb)._publish(Snapshot(9, (Endpoint("127.0.0.1", 9),)))
        service_of(lb).tell(Retried("another name", "e", 2, "503", 0.0))
    changed = [event for event in heard if isinstance(event, EndpointsChanged)]
    assert [event.version for event in changed] == [1, 9]
    assert {event.service for event in heard} == {"svc.ns:http"}
