"""Opening, readiness and closing of a LoadBalancer."""

import asyncio
import gc
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.spelled import spelled
from tests.stalls import elapsed

from core.kit import pod, pods
from kubelb import DiscoveryOptions, LoadBalancer
from kubelb.clock import monotonic
from kubelb.core.table import Difference
from kubelb.errors import Closed, NoEndpoints, NotReady, TargetError, UnknownService
from kubelb.model import Changes, Snapshot
from kubelb.service import service_of

from .kit import Source, balancer, no_threads_left, until

STATIC = "static:///10.0.0.1:80,10.0.0.2:80"


def test_the_constructor_starts_nothing() -> None:
    """No thread, no source, until the first call."""
    before = threading.active_count()
    source = Source()
    lb = balancer(source)
    assert (threading.active_count(), source.started, service_of(lb).balancer.version) == (before, 0, None)
    assert "svc.ns:http" in repr(lb)
    lb.close()
    assert "closed" in repr(lb)
    assert threading.active_count() <= before


def test_a_static_list_is_ready_at_once() -> None:
    """Nothing to open, nothing to wait for."""
    with LoadBalancer(STATIC) as lb:
        lb.wait_ready(0)
        asyncio.run(lb.await_ready(0))
        assert lb.health().synced
        assert lb.health().counts == {"ready": 2}
        assert len(lb.endpoints()) == 2
        lb.resync_now()


@pytest.mark.parametrize("world", ["threads", "asyncio"])
def test_waiting_ends_with_the_first_snapshot(world: str) -> None:
    """In both worlds, well before the timeout."""
    with no_threads_left():
        source = Source(None)
        lb = balancer(source)
        timer = threading.Timer(0.05, lambda: source.say(pods(2)))
        timer.start()
        start = monotonic()
        if world == "threads":
            lb.wait_ready(10)
        else:
            asyncio.run(lb.await_ready(10))
        assert 0.04 < monotonic() - start < 5
        assert lb.health().source == "scripted"
        lb.resync_now()
        assert source.resyncs == 1
        lb.close()
        timer.join()


@pytest.mark.parametrize("world", ["threads", "asyncio"])
@pytest.mark.parametrize(
    ("snapshot", "error"),
    [({"exists": False}, UnknownService), ({"parked": (pod(0, ready=False),)}, NoEndpoints), (None, NotReady)],
)
def test_what_there_is_not_is_said(world: str, snapshot: dict[str, object] | None, error: type[Exception]) -> None:
    """Unknown and empty services at once; time up with what discovery says."""
    with no_threads_left():
        source = Source(None)
        source.error = "connection refused"
        if snapshot is not None:
            source.say((), **snapshot)
        lb = balancer(source)
        start = monotonic()
        with pytest.raises(error) as caught:
            if world == "threads":
                lb.wait_ready(0.05 if snapshot is None else 10)
            else:
                asyncio.run(lb.await_ready(0.05 if snapshot is None else 10))
        assert monotonic() - start < 5
        assert (snapshot is None) == ("connection refused; wait" in str(caught.value))
        lb.close()


def test_a_source_that_cannot_be_built_is_no_use_waiting_for() -> None:
    """wait_ready gives up at once, with the reason."""
    with no_threads_left():
        lb = balancer(Source())

        def make() -> Source:
            raise ImportError("pip install 'kubelb[kubernetes]'")

        lb.make = make
        start = monotonic()
        with pytest.raises(NotReady, match="pip install"):
            lb.wait_ready(10)
        assert monotonic() - start < 5
        assert "pip install" in lb.health().error
        lb.close()


def test_closing_wakes_whoever_waits() -> None:
    """With Closed, in both worlds; closing again changes nothing."""
    with no_threads_left():
        source = Source(None)
        lb = balancer(source)
        ends: list[str] = []

        def wait(way: str) -> None:
            try:
                if way == "wait":
                    lb.wait_ready(20)
                elif way == "await":
                    asyncio.run(lb.await_ready(20))
                elif way == "call":
                    service_of(lb).readiness.timeout = 20
                    lb.call(pytest.fail)  # type: ignore[arg-type]
            except Closed:
                ends.append(way)

        threads = [threading.Thread(target=wait, args=(way,)) for way in ("wait", "await", "call")]
        for thread in threads:
            thread.start()
        opening = service_of(lb).opening
        until(lambda: opening.now is not None and opening.now.source is not None and len(opening.now._waiters) == 3)
        assert elapsed(lb.close).own < 0.1
        lb.close()
        asyncio.run(lb.aclose())
        for thread in threads:
            thread.join(5)
        assert sorted(ends) == ["await", "call", "wait"]
        assert source.stopped >= 1  # twice, where it was being started just then
        with pytest.raises(Closed):
            lb.wait_ready()
        lb.resync_now()


def test_it_closes_as_a_context_manager_too() -> None:
    """with and async with."""
    with LoadBalancer(STATIC) as lb:
        service_of(lb).balancer.pick().release()
    with pytest.raises(Closed):
        service_of(lb).balancer.pick()

    async def main() -> None:
        async with LoadBalancer(STATIC) as lb:
            service_of(lb).balancer.pick().release()
        with pytest.raises(Closed):
            service_of(lb).balancer.pick()

    asyncio.run(main())


def test_a_seed_serves_until_the_first_sync_and_no_longer() -> None:
    """The first pick starts discovery; the seed goes when its snapshot comes, also one told as a change of 0."""
    with no_threads_left():
        source = Source(None)
        lb = balancer(source, seed=["10.9.9.9:80"])
        assert lb.call(lambda attempt: attempt.endpoint.ip) == "10.9.9.9"
        until(lambda: source.started == 1)
        with source.lock:
            source.news = Snapshot(1, pods(2), changes=Changes(0, used=pods(2)))
        source.notify()
        until(lambda: service_of(lb).balancer.version == 1)
        assert {view.address for view in lb.endpoints()} == {"10.0.0.0:80", "10.0.0.1:80"}
        lb.wait_ready()
        lb.close()
    with pytest.raises(TargetError):
        LoadBalancer("svc.ns", discovery=DiscoveryOptions(seed="10.0.0.1:80"))


def test_a_seed_serves_while_discovery_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread to be had for a while: no request fails for it, and discovery begins when there is one."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with no_threads_left():
        source = Source()
        lb = balancer(source, seed=["10.9.9.9:80"])
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for _ in range(3):
                assert lb.call(lambda attempt: attempt.endpoint.ip) == "10.9.9.9"
        # This call begins it, and picks after that: from the seed, or from what a quick thread has found by then.
        assert lb.call(lambda attempt: attempt.endpoint.ip) in {"10.9.9.9", *(pod.ip for pod in pods(3))}
        until(lambda: service_of(lb).balancer.version == 1)
        lb.close()


def test_adapters_are_told_of_what_left_until_they_are_gone() -> None:
    """A bound method is held weakly and called with what each snapshot changed."""

    class Pool:
        def __init__(self) -> None:
            self.left: list[str] = []

        def gone(self, difference: Difference) -> None:
            self.left.extend(state.endpoint.ip for state in difference.removed)

    with no_threads_left():
        source = Source()
        lb = balancer(source)
        kept, lost = Pool(), Pool()
        service_of(lb).on_change(kept.gone)
        service_of(lb).on_change(lost.gone)
        lb.wait_ready()
        del lost
        gc.collect()
        source.say(pods(1))
        until(lambda: kept.left)
        assert sorted(kept.left) == ["10.0.0.1", "10.0.0.2"]
        assert len(service_of(lb)._listeners) == 1
        lb.close()


def test_two_threads_open_one_source() -> None:
    """The first calls of eight threads start discovery once."""
    with no_threads_left():
        source = Source()
        lb = balancer(source)
        threads = [threading.Thread(target=lambda: lb.call(lambda attempt: time.sleep(0.001))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert source.started == 1
        lb.close()


def test_options_out_of_range_are_refused() -> None:
    """By name, with what to give."""
    with pytest.raises(ValueError, match="traffic_policy"):
        LoadBalancer(STATIC, discovery=DiscoveryOptions(traffic_policy="local"))
    with pytest.raises(ValueError, match="max_stale"):
        LoadBalancer(STATIC, discovery=DiscoveryOptions(max_stale=0))
    for port in (0, 65536, "http", True, 80.0):
        with pytest.raises(ValueError, match=f"fallback_port={port!r}: give a number"):
            LoadBalancer(STATIC, discovery=DiscoveryOptions(fallback_port=port))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="policy"):
        LoadBalancer(STATIC, policy="best")
    for patience in (-1, math.nan, "5", None):
        with pytest.raises(ValueError, match=f"ready_timeout={patience!r}: give a number of seconds"):
            LoadBalancer(STATIC, ready_timeout=patience)  # type: ignore[arg-type]
    for domain in ("", ".cluster.local", "cluster..local", "clüster.local", None):
        with pytest.raises(TargetError, match=f"cluster_domain={domain!r}: give"):
            LoadBalancer(STATIC, discovery=DiscoveryOptions(cluster_domain=domain))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value", "cure"),
    [
        ("require_serving", "false", "True or False"),
        ("avoid_terminating", None, "True or False"),
        ("max_stale", "60", "a positive number"),
        ("kubeconfig", 5, "a string, or None"),
        ("zone", b"eu-1a", "a string, or None"),
    ],
)
def test_options_of_another_type_are_refused(option: str, value: Any, cure: str) -> None:
    """When the load balancer is made, not by its first request or on a thread of its own."""
    with pytest.raises((TypeError, ValueError), match=f"{option}={value!r}: give .*{cure}"):
        LoadBalancer("svc.ns:http", **spelled({option: value}))
    LoadBalancer("svc.ns:http", discovery=DiscoveryOptions(kubeconfig=Path("/nowhere"))).close()  # type: ignore[arg-type]  # as `open` takes it


@pytest.mark.parametrize("seed", [[], 5, ["10.0.0.1"], [b"10.0.0.1:80"], ["10.0.0.1:80", "10.0.0.1:80"]])
def test_a_seed_that_is_none_is_named(seed: Any) -> None:
    """The option, and what was wrong with it."""
    with pytest.raises(TargetError, match=r"seed=.*: give 'ip:port' texts, one at least, or None"):
        LoadBalancer("svc.ns", discovery=DiscoveryOptions(seed=seed))


def test_waiting_without_an_end() -> None:
    """Infinity is as long as it takes; NaN and text are no time."""
    with no_threads_left():
        source = Source(None)
        lb = balancer(source, ready_timeout=math.inf)
        timer = threading.Timer(0.05, lambda: source.say(pods(2)))
        timer.start()
        assert lb.call(lambda attempt: attempt.number, deadline=math.inf) == 1
        lb.wait_ready(math.inf)
        asyncio.run(lb.await_ready(math.inf))
        for timeout in (math.nan, "5"):
            with pytest.raises(ValueError, match=f"timeout={timeout!r}: give a number of seconds"):
                lb.wait_ready(timeout)  # type: ignore[arg-type]
        lb.close()
