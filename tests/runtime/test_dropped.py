"""A load balancer that is dropped without `close()`: its discovery ends by itself, and it is collected at once."""

import gc
from collections.abc import Callable
from typing import Any
from weakref import ref

import grpc
import httpx
import pytest
import requests
from tests.spelled import spelled

import kubelb
import kubelb.adapters.grpc
import kubelb.adapters.httpx
import kubelb.adapters.requests
from kubelb.runtime import feed as feeds
from kubelb.runtime.weakly import weakly
from kubelb.service import service_of
from kubelb.testing import LocalCluster

from .kit import no_threads_left, until


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LOOK", 0.05)


def targets(cluster: LocalCluster) -> dict[str, Any]:
    return {"nameserver": cluster.dns.address, "kubeconfig": cluster.kubeconfig}


def plainly(lb: kubelb.LoadBalancer) -> Any:
    return lb.call(lambda attempt: attempt.endpoint.ip)


def by_httpx(lb: kubelb.LoadBalancer) -> Any:
    with httpx.Client(transport=kubelb.adapters.httpx.Transport(lb)) as client:
        return client.get("http://reviews.prod/").status_code


def by_requests(lb: kubelb.LoadBalancer) -> Any:
    with requests.Session() as session:
        kubelb.adapters.requests.mount(session, lb)
        return session.get("http://reviews.prod/").status_code


@pytest.mark.parametrize("use", [plainly, by_httpx, by_requests], ids=lambda use: use.__name__)
@pytest.mark.parametrize(
    "target", ["kube:///reviews.prod:http", "reviews.prod:http", "dns+srv:///_http._tcp.reviews.prod.svc.cluster.local"]
)
def test_dropped_by_any_user_and_from_any_source(soon: None, target: str, use: Callable[[Any], Any]) -> None:
    """Neither a thread, a stream nor an appointment keeps it alive; the stream and the threads go, too."""
    with no_threads_left(), LocalCluster() as cluster:
        cluster.service("reviews.prod", replicas=2, headless=True)
        lb = kubelb.LoadBalancer(target, **spelled(targets(cluster)))
        lb.wait_ready()
        assert use(lb)
        held = ref(service_of(lb))
        del lb
        gc.collect()
        until(lambda: held() is None)
        until(lambda: cluster.api.watchers == 0)


def test_dropped_under_a_channel(soon: None) -> None:
    """A gRPC channel keeps its load balancer, and lets it go."""
    with no_threads_left(), LocalCluster() as cluster:
        cluster.service("echo.prod:grpc", grpc=True)
        channel = kubelb.adapters.grpc.insecure_channel(
            kubelb.LoadBalancer("kube:///echo.prod:grpc", **spelled(targets(cluster)))
        )
        assert isinstance(channel, grpc.Channel)
        assert channel.unary_unary("/kubelb.testing.Echo/Unary")(b"x", timeout=5.0) == b"x"
        channel.close()
        del channel
        gc.collect()
        until(lambda: cluster.api.watchers == 0)


def sees_all_of(lb: kubelb.LoadBalancer, svc: Any) -> None:
    """Scale up, and have the client that alone holds `lb` find everybody."""
    seen: set[str] = set()
    with httpx.Client(transport=kubelb.adapters.httpx.Transport(lb)) as client:
        assert client.get("http://reviews.prod/").status_code == 200
        del lb
        gc.collect()
        svc.scale(3)

        def everybody() -> bool:
            seen.add(client.get("http://reviews.prod/").headers["x-backend"])
            return len(seen) == 3

        until(everybody)


def test_who_is_used_is_not_dropped(soon: None) -> None:
    """A client that holds it is enough: many looks later it still hears of changes."""
    with LocalCluster() as cluster:
        svc = cluster.service("reviews.prod")
        sees_all_of(kubelb.LoadBalancer("kube:///reviews.prod:http", **spelled(targets(cluster))), svc)
        gc.collect()
        until(lambda: cluster.api.watchers == 0)


def test_a_method_of_nobody_does_nothing() -> None:
    """Called while its object lives, with what it is given; afterwards None."""

    class Counter:
        def add(self, one: int, other: int = 0) -> int:
            return one + other

    counter = Counter()
    add = weakly(counter.add)
    assert add(1, other=2) == 3
    del counter
    assert add(1) is None
