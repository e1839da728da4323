"""Caches over requests: hits do not reach a pod, misses are balanced, and an old answer is asked about."""

from collections.abc import Iterator
from email.utils import formatdate

import pytest
import requests
import requests_cache
from cachecontrol import CacheControl, CacheControlAdapter
from tests.companions.pods import counts, in_flight, serving

import kubelb
from kubelb.adapters.requests import Adapter, mount
from kubelb.testing import Received, Reply, Service

URL = "http://reviews.prod"


def handler(request: Received) -> Reply:
    """`/kept` may be kept for a minute, `/asked` must be asked about each time."""
    date = formatdate(usegmt=True)
    if request.path == "/kept":
        return Reply(200, "kept", {"cache-control": "max-age=60", "date": date})
    if request.path == "/asked":
        headers = {"etag": '"a"', "cache-control": "max-age=0", "date": date}
        known = request.headers.get("if-none-match") == '"a"'
        return Reply(304, b"", headers) if known else Reply(200, "asked", headers)
    return Reply(200, "new", {"cache-control": "no-store"})


class Cached(CacheControlAdapter, Adapter):
    """CacheControl before, kubelb behind."""


def cache_control(lb: kubelb.LoadBalancer) -> requests.Session:
    session = requests.Session()
    session.mount("http://reviews.prod/", Cached(lb_or_target=lb))
    return session


def cached_session(lb: kubelb.LoadBalancer) -> requests.Session:
    session = requests_cache.CachedSession(backend="memory", cache_control=True)
    mount(session, lb)
    return session


@pytest.fixture
def pods() -> Iterator[tuple[Service, kubelb.LoadBalancer]]:
    with serving("reviews.prod", handler) as pair:
        yield pair


@pytest.mark.parametrize("make", [cache_control, cached_session])
def test_a_cache(pods, make):
    """Of three answers that may be kept one comes from a pod; misses go to all pods, but to a dead one."""
    service, lb = pods
    with make(lb) as session:
        answers = [session.get(f"{URL}/kept", timeout=5) for _ in range(3)]
        assert [answer.text for answer in answers] == ["kept"] * 3
        assert [getattr(answer, "from_cache", False) for answer in answers] == [False, True, True]
        assert sum(counts(service)) == 1
        answers = [session.get(f"{URL}/asked", timeout=5) for _ in range(3)]
        assert [(answer.status_code, answer.text) for answer in answers] == [(200, "asked")] * 3
        assert sum(counts(service)) == 3
        assert {session.get(f"{URL}/{number}", timeout=5).text for number in range(6)} == {"new"}
        assert counts(service) == [2, 2, 2]
        service[0].kill()
        assert {session.get(f"{URL}/{number}", timeout=5).text for number in range(6)} == {"new"}
        assert counts(service)[0] == 0
        assert in_flight(lb) == 0
        assert {view.failures for view in lb.endpoints() if view.address != service[0].address} == {0}


def test_cachecontrol_mounted_beside_kubelb(pods):
    """A session has one adapter for a request: the longer prefix is kubelb's, and CacheControl is not asked."""
    service, lb = pods
    with CacheControl(requests.Session()) as session:
        mount(session, lb)
        assert [session.get(f"{URL}/kept", timeout=5).text for _ in range(3)] == ["kept"] * 3
    assert sum(counts(service)) == 3
