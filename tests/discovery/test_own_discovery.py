"""A Discovery of the user's own in the place of a target: the contract, what breaks it, and every client over it."""

import asyncio
import math
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
import requests

from kubelb import (
    DiscoveryOptions,
    Endpoint,
    Health,
    LoadBalancer,
    NoEndpoints,
    NotReady,
    Snapshot,
    TargetError,
    UnknownService,
    disabled,
)
from kubelb.adapters.grpc import insecure_channel
from kubelb.adapters.httpx import AsyncTransport, Transport, mounts
from kubelb.adapters.requests import mount
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Event
from kubelb.discovery.own import OwnDiscovery
from kubelb.service import service_of
from kubelb.testing import LocalCluster

from .test_stop import wait_for


class Registry:
    """A source in the test's hands."""

    def __init__(self, *endpoints: Endpoint, name: str = "registry:reviews") -> None:
        self.name = name
        self.notify: Callable[[], None] = lambda: None
        self.version = 0
        self.news: Any = None
        self.raises: Exception | None = None
        self.told: Any = Health("registry", synced=True, age=0.0)
        self.started = self.stopped = self.resyncs = 0
        if endpoints:
            self.say(*endpoints)

    def __str__(self) -> str:
        return self.name

    def say(self, *endpoints: Endpoint, **fields: Any) -> None:
        self.version += 1
        self.news = Snapshot(self.version, endpoints, **fields)
        self.notify()

    def start(self, notify: Callable[[], None]) -> None:
        self.started += 1
        self.notify = notify

    def poll(self, now: float) -> Any:
        if self.raises:
            raise self.raises
        news, self.news = self.news, None
        return news if isinstance(news, tuple) else (news, None)

    def health(self) -> Any:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    def resync_now(self) -> None:
        self.resyncs += 1

    def stop(self) -> None:
        self.stopped += 1


def pod(number: int, port: int = 80) -> Endpoint:
    return Endpoint(f"10.0.0.{number}", port)


def heard_by_the_hook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What threads raise from now on: the traceback that the user sees. Within a test, for pytest has a hook, too."""
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: seen.append(told.exc_type))
    return seen


def test_it_is_used_named_resynced_and_stopped() -> None:
    """Its name stands where the target's would; what it publishes is picked from; `close` stops it once."""
    source = Registry(pod(1), pod(2))
    lb = LoadBalancer(source, policy="round_robin")
    assert source.started == 0
    assert lb.health().source == "registry:reviews"
    lb.wait_ready(5.0)
    assert {lb.call(lambda attempt: attempt.endpoint.ip) for _ in range(4)} == {"10.0.0.1", "10.0.0.2"}
    assert str(lb.target) == "registry:reviews"
    assert "registry:reviews" in repr(lb)
    assert lb.health().source == "registry"
    source.say(pod(3))
    wait_for(lambda: [view.address for view in lb.endpoints()] == ["10.0.0.3:80"], 5.0)
    lb.resync_now()
    assert source.resyncs == 1
    lb.close()
    lb.close()
    assert (source.started, source.stopped) == (1, 1)


def test_its_class_names_it_where_it_has_no_words() -> None:
    """An address of memory is no name for a metric."""

    class Consul(Registry):
        __str__ = object.__str__

    assert str(LoadBalancer(Consul()).target) == "Consul"
    assert str(LoadBalancer(Registry(name="a\x1b[31m b")).target) == "a b"


@pytest.mark.parametrize("client", ["httpx", "httpx async", "requests", "grpc"])
def test_every_client_goes_over_it(client: str) -> None:
    """The pods get the requests; a change of the set is followed; an adapter of its own load balancer stops it."""
    with LocalCluster() as cluster:
        pods = cluster.service("reviews.prod:http", replicas=3, grpc=register if client == "grpc" else False)
        source = Registry(*(Endpoint(*address(pod.address)) for pod in pods))
        with LoadBalancer(source) as lb:
            ask, close = asking(client, lb)
            lb.wait_ready(5.0)
            wait_for(lambda: (ask(), all(pod.requests > 0 for pod in pods))[1], 5.0)  # gRPC: as it connects
            before = [pod.requests for pod in pods]
            source.say(Endpoint(*address(pods[1].address)))
            wait_for(lambda: len(lb.endpoints()) == 1, 5.0)
            ask()
            assert [pod.requests for pod in pods] == [before[0], before[1] + 1, before[2]]
            close()
            assert source.stopped == 0
        assert source.stopped == 1
        own = Registry(Endpoint(*address(pods[0].address)))
        ask, close = asking(client, own)
        ask()
        close()
        assert own.stopped == 1


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def register(server: grpc.Server, _: object) -> None:
    handlers = {"Get": grpc.unary_unary_rpc_method_handler(lambda request, _: request)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Reviews", handlers),))


def asking(client: str, lb: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """What sends one request, and what closes the client."""
    url = "http://reviews.prod/ratings/7"
    if client == "httpx":
        http = httpx.Client(transport=Transport(lb))
        return lambda: http.get(url).raise_for_status(), http.close
    if client == "httpx async":
        runner = asyncio.Runner()
        ahttp = httpx.AsyncClient(transport=AsyncTransport(lb))

        def end() -> None:
            runner.run(ahttp.aclose())
            runner.close()

        return lambda: runner.run(ahttp.get(url)).raise_for_status(), end
    if client == "requests":
        session = requests.Session()
        mount(session, lb, hosts=["reviews.prod"])
        return lambda: session.get(url, timeout=5.0).raise_for_status(), session.close
    channel = insecure_channel(lb)
    get = channel.unary_unary("/shop.Reviews/Get")
    return lambda: get(b"7", timeout=5.0, wait_for_ready=True), channel.close


def test_it_has_no_host_of_its_own() -> None:
    """Mounts need names; the errors say how to give them."""
    with pytest.raises(ValueError, match="give hosts="):
        mounts(Registry(pod(1)))
    with pytest.raises(ValueError, match="give hosts="):
        mount(requests.Session(), Registry(pod(1)))
    assert mounts(Registry(pod(1)), hosts=["reviews.prod"])


def test_what_is_no_discovery_is_refused() -> None:
    """Half of one, the class itself, options beside it, it in the place of the options, and what is neither."""

    class Half:
        def start(self) -> None: ...

        def poll(self) -> None: ...

    with pytest.raises(
        TypeError, match=r"a Half is no Discovery: it has no health\(\), no resync_now\(\), no stop\(\)"
    ):
        LoadBalancer(Half())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Registry is a class; give an object of it, Registry\(\)"):
        LoadBalancer(Registry)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a Registry in the place of a target takes none of these options"):
        LoadBalancer(Registry(), discovery=DiscoveryOptions(zone="a"))
    with pytest.raises(TypeError, match="a Discovery of your own goes in the place of the target"):
        LoadBalancer("reviews.prod:http", discovery=Registry())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"discovery='slices': give a kubelb.DiscoveryOptions\(...\), or None$"):
        LoadBalancer("reviews.prod:http", discovery="slices")  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="a target is a string"):
        LoadBalancer(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"give a kubelb\.LoadBalancer"):
        Transport(7)  # type: ignore[arg-type]


def test_one_that_wants_no_further_poll_may_say_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind: a time that no thread can wait until; the one that keeps the time of the whole process would end."""
    quiet = heard_by_the_hook(monkeypatch)
    source = Registry(pod(1))
    with LoadBalancer(source) as lb:
        lb.wait_ready(5.0)
        for never in (math.inf, 1e300):
            source.news = (None, never)
            source.notify()
            wait_for(lambda: source.news is None, 5.0)
        source.say(pod(2))
        wait_for(lambda: [view.address for view in lb.endpoints()] == ["10.0.0.2:80"], 5.0)
    assert quiet == []


@pytest.mark.parametrize("again", [0.0, 5.0, -math.inf, "notified"])
def test_it_is_polled_twenty_times_a_second_at_most(again: float | str) -> None:
    """Kind: a time that is past, as a delay in its place is, for which a thread would run without a pause; so would it
    for one that calls `notify` within `poll`.
    """
    source = Registry(pod(1))
    polls = 0

    def poll(now: float) -> Any:
        nonlocal polls
        polls += 1
        news, source.news = source.news, None
        if again == "notified":
            source.notify()
            return news, None
        return news, again

    source.poll = poll  # type: ignore[method-assign]
    with LoadBalancer(source) as lb:
        lb.wait_ready(5.0)
        before, began = polls, time.monotonic()
        time.sleep(0.5)
        assert polls - before <= 20 * (time.monotonic() - began) + 3
        assert polls - before >= 1


def test_the_same_failure_has_one_traceback() -> None:
    """Kind: what repeats as long as a registry is away. Another failure, or one after good news, has its own."""
    source = Registry(pod(1))
    own = OwnDiscovery(source, lambda: 0.0, lambda event: None)
    own.start(lambda: None)
    source.raises = ConnectionError("away")
    with pytest.raises(ConnectionError):
        own.poll(1.0)
    assert [own.poll(now) for now in (2.0, 3.0)] == [(None, 3.0), (None, 4.0)]
    source.raises = KeyError("x")
    with pytest.raises(KeyError):
        own.poll(4.0)
    source.raises = None
    assert own.poll(5.0)[0] is not None
    source.raises = KeyError("x")
    with pytest.raises(KeyError):
        own.poll(6.0)


class Unreachable(Registry):
    """One that cannot begin, and whose other methods stand on what it lacks."""

    client: Any

    def start(self, notify: Callable[[], None]) -> None:
        raise ConnectionError("the registry is away")

    def resync_now(self) -> None:
        self.client.refresh()

    def stop(self) -> None:
        self.client.close()


def test_one_that_cannot_begin_gives_callers_no_error_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kind: what another method of it raises ends a request, or hides what a `with` block raised."""
    quiet = heard_by_the_hook(monkeypatch)
    monkeypatch.setattr("kubelb.runtime.readiness.PROBE", 0.0)  # each call asks for news
    with pytest.raises(ZeroDivisionError), LoadBalancer(Unreachable(), ready_timeout=0.05) as lb:
        for _ in range(3):
            with pytest.raises(NotReady, match=r"start\(\) raised ConnectionError"):
                lb.call(lambda attempt: attempt)
            lb.resync_now()
        raise ZeroDivisionError
    assert AttributeError in quiet  # of stop(), which is told


@pytest.mark.parametrize(
    ("news", "said"),
    [
        (Snapshot(0, (pod(9),)), r"Snapshot\(version=0\): give whole numbers, upwards from 1"),
        (Snapshot(1, (pod(9),)), r"Snapshot\(version=1\) came after version 1: give each a higher one"),
        (Snapshot(2, (("10.0.0.9", 80),)), r"a Snapshot holds a tuple: give kubelb.Endpoint\(ip, port\)"),  # type: ignore[arg-type]
        (Snapshot(2, (Endpoint("10.0.0.9", "80"),)), r"a Snapshot holds an? \w+: give kubelb.Endpoint\(ip, port\)"),  # type: ignore[arg-type]
        (["10.0.0.9:80"], r"poll\(\) returned a list: give a kubelb.Snapshot, or None"),
        ((None,), r"poll\(\) returned a tuple: give \(Snapshot or None, time of the next poll or None\)"),
        ((None, float("nan")), r"poll\(\) returned the time nan: give seconds as `now` counts them, or None"),
        ((None, "soon"), r"poll\(\) returned the time 'soon': give seconds as `now` counts them, or None"),
    ],
)
def test_what_breaks_the_contract_is_told_and_changes_nothing(
    news: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an event, in `health()`, to threading.excepthook; the last known set stays, and the next good one counts."""
    quiet = heard_by_the_hook(monkeypatch)
    source = Registry(pod(1))
    heard: list[Event] = []
    with LoadBalancer(source) as lb:
        lb.on_event(heard.append)
        lb.wait_ready(5.0)
        source.news = news
        source.notify()
        wait_for(lambda: lb.health().error, 5.0)
        assert re.search(said, lb.health().error), lb.health().error
        assert lb.health().kind == "internal"
        assert [view.address for view in lb.endpoints()] == ["10.0.0.1:80"]
        wait_for(lambda: quiet, 5.0)
        source.version = 2
        source.say(pod(1), pod(2))
        wait_for(lambda: len(lb.endpoints()) == 2 and not lb.health().error, 5.0)
    kinds = [type(event) for event in heard if isinstance(event, DiscoveryFailed | DiscoveryRecovered)]
    assert kinds == [DiscoveryFailed, DiscoveryRecovered]


def test_what_it_raises_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may hold what it choked on. It is asked again; a call meanwhile does not wait for ever, nor a second one."""
    quiet = heard_by_the_hook(monkeypatch)
    source = Registry(pod(1))
    source.raises = ConnectionError("https://user:secret@registry")
    with LoadBalancer(source, ready_timeout=0.2) as lb:
        with pytest.raises(NotReady) as error:
            lb.call(lambda attempt: attempt)
        assert "poll() raised ConnectionError" in error.value.reason
        assert "secret" not in str(error.value) + repr(lb.health())
        assert quiet[0] is ConnectionError
        assert service_of(lb).readiness.first_wait(service_of(lb).opening.now) == 0.0
        source.raises = None
        wait_for(lambda: lb.endpoints(), 5.0)
        assert lb.call(lambda attempt: attempt.endpoint.ip) == "10.0.0.1"


def test_its_health_is_told_and_may_be_wrong() -> None:
    """Its own words on the way into an event and back; what is no Health, or raised, is an error in words."""
    source = Registry(pod(1))
    heard: list[Event] = []
    with LoadBalancer(source) as lb:
        lb.on_event(heard.append)
        lb.wait_ready(5.0)
        source.told = Health("registry", synced=True, error="the registry is away", cure="wait", kind="unreachable")
        source.notify()
        wait_for(lambda: any(isinstance(event, DiscoveryFailed) for event in heard), 5.0)
        (failed,) = (event for event in heard if isinstance(event, DiscoveryFailed))
        assert (failed.service, failed.kind, failed.reason, failed.cure) == (
            *("registry:reviews", "unreachable", "the registry is away", "wait"),
        )
        source.told = None
        assert "health() returned None" in lb.health().error
        source.told = RuntimeError("secret")
        assert lb.health().error == "health() raised RuntimeError"
        source.told = Health("registry", synced=True)
        source.notify()
        wait_for(lambda: any(isinstance(event, DiscoveryRecovered) for event in heard), 5.0)


def test_a_set_without_endpoints_says_why() -> None:
    """Unknown and empty are two things, as with kubelb's own sources."""
    source = Registry()
    source.say(problem="nothing is registered")
    with LoadBalancer(source) as lb:
        with pytest.raises(NoEndpoints, match="nothing is registered"):
            lb.wait_ready(5.0)
        source.say(exists=False, problem="the registry does not know reviews")
        wait_for(lambda: service_of(lb).balancer.version == 2, 5.0)
        with pytest.raises(UnknownService, match="does not know"):
            lb.wait_ready(5.0)


def test_switched_off_there_is_no_service_to_call() -> None:
    """It is no name that DNS knows; HTTP adapters need none."""
    with LoadBalancer(Registry(pod(1))) as lb, disabled(), pytest.raises(NoEndpoints, match="is no Service"):
        lb.call(lambda attempt: attempt)


def test_a_forked_child_starts_it_anew() -> None:
    """On first use there; the parent goes on with its own."""
    source = Registry(pod(1))
    with LoadBalancer(source) as lb:
        lb.wait_ready(5.0)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                lb.call(lambda attempt: attempt)
                wait_for(lambda: source.started == 2, 5.0)
                source.version = 0
                source.say(pod(2))
                wait_for(lambda: [view.address for view in lb.endpoints()] == ["10.0.0.2:80"], 5.0)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert source.started == 1
        assert [view.address for view in lb.endpoints()] == ["10.0.0.1:80"]
