"""Fork: the child works with nothing in flight, the parent notices nothing."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable

import pytest

from core.kit import pods
from kubelb import LoadBalancer, NeverSent
from kubelb.runtime import fork
from kubelb.service import service_of

from .kit import Source, balancer, in_flight, no_threads_left

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def in_child(job: Callable[[], None]) -> str:
    """Run `job` in a forked child; returns what it raised, "" where it ended well."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: that is what is tested
        child = os.fork()
    if child == 0:
        said = ""
        try:
            signal.alarm(20)
            job()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode()[:4000])
        os._exit(1 if said else 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said or ("" if status == 0 else f"ended with {status}")


def test_the_child_goes_on_with_a_source_of_its_own() -> None:
    """Endpoints known before serve at once; discovery starts anew with the first pick; the parent's is its own."""
    with no_threads_left():
        source = Source()
        lb = balancer(source)
        lb.wait_ready()
        held = [service_of(lb).balancer.pick() for _ in range(5)]

        def child() -> None:
            assert in_flight(lb) == 0
            assert all(lease.released for lease in held)
            mine = Source()
            lb.make = lambda: mine
            assert lb.call(lambda attempt: attempt.number) == 1
            end = time.monotonic() + 5
            while not mine.polls and time.monotonic() < end:
                time.sleep(0.001)
            assert mine.started == 1
            mine.say(pods(7))
            while len(lb.endpoints()) != 7 and time.monotonic() < end:
                time.sleep(0.001)
            assert len(lb.endpoints()) == 7
            held[0].release()
            assert in_flight(lb) == 0
            lb.close()
            assert source.stopped == 0

        assert in_child(child) == ""
        assert in_flight(lb) == 5
        assert len(lb.endpoints()) == 3
        source.say(pods(4))
        end = time.monotonic() + 5
        while len(lb.endpoints()) != 4 and time.monotonic() < end:
            time.sleep(0.001)
        assert len(lb.endpoints()) == 4
        for lease in held:
            lease.release()
        lb.close()


def test_a_lock_held_by_another_thread_does_not_hang_the_child() -> None:
    """Every lock on the way of a call is taken by a thread that the child does not have."""
    with no_threads_left():
        source = Source()
        lb = balancer(source)
        lb.wait_ready()
        opening, budget = service_of(lb).opening, service_of(lb)._budget
        feed = opening.now
        assert feed is not None
        assert budget is not None
        taken, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with (
                opening._lock,
                service_of(lb).balancer._lock,
                budget._lock,
                service_of(lb)._telling._log._lock,
                feed._lock,
                feed._worker._wakeup,
            ):
                taken.set()
                go_on.wait(20)

        thread = threading.Thread(target=hold)
        thread.start()
        assert taken.wait(5)

        def child() -> None:
            lb.make = lambda: Source()

            def refuse(attempt: object) -> None:
                raise NeverSent from ConnectionRefusedError()

            for _ in range(10):
                with pytest.raises(ConnectionRefusedError):
                    lb.call(refuse)
            lb.resync_now()
            lb.close()

        try:
            assert in_child(child) == ""
        finally:
            go_on.set()
            thread.join()
        lb.close()


def test_children_do_not_go_round_in_step() -> None:
    """Ten children of one parent, forked in the middle of a round: not all of them go on with the same endpoint."""
    addresses = ",".join(f"10.0.0.{number}:80" for number in range(1, 41))
    lb = LoadBalancer(f"static:///{addresses}", policy="round_robin")
    lb.call(lambda attempt: None)

    def child() -> None:
        raise RuntimeError(lb.call(lambda attempt: attempt.endpoint.ip))

    assert len({in_child(child) for _ in range(10)}) > 3


def test_a_child_never_used_needs_no_restart() -> None:
    """Forked before the first call: nothing was running, nothing is restarted until it is needed."""
    lb = balancer(Source())

    def child() -> None:
        assert service_of(lb).opening.now is None
        assert service_of(lb).balancer._errand is None
        lb.wait_ready(5)
        lb.close()

    assert in_child(child) == ""
    assert service_of(lb).opening.now is None
    lb.close()


def test_members_are_held_weakly() -> None:
    """Registering keeps nothing alive."""

    class Member:
        def after_fork_in_child(self) -> None:
            raise AssertionError("gone by now")

    fork.register(Member())
    assert in_child(lambda: None) == ""
