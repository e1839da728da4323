"""What a status means: for the endpoint's health, for retries, and for the caller."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.conftest import state
from tests.adapters.world import World

from kubelb import Retry
from kubelb.adapters.http import retry_after
from kubelb.service import service_of

URL = "http://reviews.prod/"


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_error_is_tried_elsewhere(world, service, balance, status):
    """An idempotent request goes on to another endpoint, and the caller sees its answer alone."""
    svc = service(2)
    svc[0].fail(status)
    lb = balance(*svc, policy="round_robin")
    client = world.client(lb)
    for _ in range(2):
        response = world.get(client, URL)
        assert response.status_code == 200
        assert response.extensions["kubelb"]["endpoint"] == svc[1].address
    failed = state(lb, svc[0])
    assert (failed.failures, failed.consecutive, failed.in_flight) == (svc[0].requests, svc[0].requests, 0)
    assert failed.cost >= 4.9
    assert state(lb, svc[1]).failures == 0


@pytest.mark.parametrize("status", [500, 501, 505, 404, 400, 304])
def test_an_answer_of_the_application_is_not_repeated(world, service, balance, status):
    """It reaches the caller as it is; 5xx but 501 count against the endpoint."""
    svc = service(2)
    for backend in svc:
        backend.fail(status)
    lb = balance(*svc)
    response = world.get(world.client(lb), URL)
    assert response.status_code == status
    assert response.extensions["kubelb"]["attempts"] == 1
    assert svc.requests == 1
    assert sum(s.failures for s in service_of(lb).balancer.states()) == (status in {500, 505})


@pytest.mark.parametrize(
    ("status", "refusals"), [(400, 1), (401, 1), (404, 1), (499, 1), (501, 1), (200, 0), (304, 0), (408, 0), (500, 0)]
)
def test_what_is_a_refusal(world, service, balance, status, refusals):
    """A 4xx is an answer, and one that comes at once is no sign of room: the core is told. 408 took its time."""
    svc = service(1)
    svc[0].fail(status)
    lb = balance(*svc)
    assert world.get(world.client(lb), URL).status_code == status
    seen = state(lb, svc[0])
    assert (seen.refusals, seen.successes, seen.in_flight) == (refusals, status != 500, 0)


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_post_is_not_repeated(world, service, balance, status):
    """A status proves that the request was processed by somebody: a POST has one delivery."""
    svc = service(2)
    for backend in svc:
        backend.fail(status, headers={"retry-after": "0"})
    response = world.request(world.client(balance(*svc)), "POST", URL, content=b"x")
    assert (response.status_code, svc.requests) == (status, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Idempotency-Key": "1"}},
        {"extensions": {"kubelb": {"idempotent": True}}},
    ],
)
def test_a_post_that_may_be_repeated(world, service, balance, options):
    """An Idempotency-Key or the hint is the caller's word."""
    svc = service(2)
    svc[0].fail(503)
    client = world.client(balance(*svc, policy="round_robin"))
    for _ in range(2):
        assert world.request(client, "POST", URL, content=b"x", **options).status_code == 200


def test_a_get_that_must_not_be_repeated(world, service, balance):
    """The hint also takes the word back."""
    svc = service(2)
    for backend in svc:
        backend.fail(503)
    client = world.client(balance(*svc))
    assert world.get(client, URL, extensions={"kubelb": {"idempotent": False}}).status_code == 503
    assert svc.requests == 1


def test_when_every_endpoint_fails_the_last_response_comes_back(world, service, balance):
    """Three tries, three endpoints, and the body of the last one whole."""
    svc = service(3)
    for backend in svc:
        backend.fail(503)
    lb = balance(*svc)
    response = world.get(world.client(lb), URL)
    assert response.status_code == 503
    assert response.extensions["kubelb"]["attempts"] == 3
    assert response.json()["method"] == "GET"
    assert [backend.requests for backend in svc] == [1, 1, 1]
    assert [s.failures for s in service_of(lb).balancer.states()] == [1, 1, 1]


def test_a_discarded_response_gives_its_connection_back(world, service, balance):
    """A 503 with a small body is read, so the pod's next request has the same connection."""
    svc = service(2)
    svc[0].fail(503)
    client = world.client(balance(*svc, policy="round_robin"))
    for _ in range(4):
        world.get(client, URL)
    assert svc[0].requests >= 2
    assert svc[0].connections == 1


def test_a_discarded_response_is_not_waited_for(world, raw, balance):
    """A 503 whose body never comes does not hold up the retry."""
    import time

    def never_ends(peer):
        peer.request()
        peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\nhalf")
        peer.hang()

    bad, good = raw(never_ends), raw()
    lb = balance(bad, good, policy="round_robin")
    client = world.client(lb)
    began = time.monotonic()
    assert [world.get(client, URL).status_code for _ in range(2)] == [200, 200]
    assert time.monotonic() - began < 4.0
    assert state(lb, bad).failures >= 1  # the turns start at random


def test_429_is_load_and_not_a_failure(world, service, balance):
    """Without Retry-After it is the caller's to handle; the endpoint is dearer, never ejected."""
    svc = service(2)
    for backend in svc:
        backend.fail(429)
    lb = balance(*svc)
    client = world.client(lb)
    for _ in range(12):
        assert world.get(client, URL).status_code == 429
    assert svc.requests == 12
    assert {s.consecutive for s in service_of(lb).balancer.states()} == {0}
    assert {s.phase.value for s in service_of(lb).balancer.states()} == {"active"}


@pytest.mark.parametrize("status", [429, 503])
def test_one_that_is_full_is_left_for_another_at_once(world, service, balance, status):
    """Load waited for while others have room: the call took as long as the header said. And it is left alone then."""
    import time

    svc = service(2)
    svc[0].fail(status, headers={"Retry-After": "20"})
    lb = balance(*svc, policy="round_robin")
    client = world.client(lb)
    began = time.monotonic()
    assert {world.get(client, URL).status_code for _ in range(12)} == {200}
    assert time.monotonic() - began < 15.0
    assert svc[0].requests == 1
    assert sorted(view.state for view in lb.endpoints()) == ["ready", "resting"]


@pytest.mark.parametrize("header", [b"Bad Header: 1", b"X:1\r\nno colon"])
def test_an_answer_that_cannot_be_read_is_not_fetched_three_times(world, raw, balance, header):
    """What a service answers taken for what a pod does. One other pod is asked, and neither is blamed in the end."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + header + b"\r\n\r\nok"

    def script(peer):
        while True:
            peer.request()
            peer.send(answer)

    servers = [raw(script) for _ in range(4)]
    lb = balance(*servers, policy="round_robin")
    with pytest.raises(Exception, match=r"(?i)header"):
        world.get(world.client(lb), URL)
    assert sum(server.delivered for server in servers) == 2
    assert {each.consecutive for each in service_of(lb).balancer.states()} == {0}


def test_two_that_say_429_to_one_call_end_it(world, service, balance):
    """A caller's own limit taken for load: it was asked for three times, and all endpoints were given up."""
    svc = service(3)
    for backend in svc:
        backend.fail(429, headers={"Retry-After": "60"})
    lb = balance(*svc)
    assert world.get(world.client(lb), URL).status_code == 429
    assert svc.requests == 2
    assert {view.state for view in lb.endpoints()} == {"ready"}


@pytest.mark.parametrize("hint", ["60", "date"])
def test_a_retry_after_beyond_the_timeout_ends_the_call_at_once(world, service, balance, hint):
    """There is no point in waiting for longer than the caller does."""
    import time

    value = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True) if hint == "date" else hint
    svc = service(1)
    svc[0].fail(429, headers={"Retry-After": value})
    began = time.monotonic()
    assert world.get(world.client(balance(*svc)), URL).status_code == 429
    assert time.monotonic() - began < 4.0
    assert svc.requests == 1


def test_503_with_retry_after_is_tried_elsewhere_at_once(world, service, balance):
    """The hint speaks for that pod, and there are others."""
    svc = service(2)
    svc[0].fail(503, headers={"Retry-After": "60"})
    lb = balance(*svc, policy="round_robin")
    client = world.client(lb)
    assert {world.get(client, URL).status_code for _ in range(2)} == {200}
    assert state(lb, svc[0]).cost >= 50


@pytest.mark.parametrize("nonsense", ["soon", "-5", "", "1.5", "٣", "9" * 400, "Wed, 99 Foo 2026"])
def test_a_nonsense_retry_after(world, service, balance, nonsense):
    """It is no hint, and never an exception."""
    hint = retry_after([(b"Retry-After", nonsense.encode())])
    assert hint is None or hint >= 0


def test_retry_after_dates():
    """A date is counted from the wall clock; one in the past, or without a zone, is no error."""
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert 28 < retry_after([(b"retry-after", format_datetime(soon, usegmt=True).encode())]) <= 30
    assert retry_after([(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 GMT")]) == 0.0
    assert retry_after([(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 -0000")]) == 0.0
    assert retry_after([(b"other", b"1")]) is None


@given(st.binary(max_size=40))
def test_no_retry_after_raises(value):
    """Whatever bytes a server sends."""
    hint = retry_after([(b"Retry-After", value)])
    assert hint is None or hint >= 0


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_one_attempt_only(name, service, balance):
    """`retry=None` means what it says."""
    world = World(name)
    svc = service(2)
    for backend in svc:
        backend.fail(503)
    assert world.get(world.client(balance(*svc, retry=None)), URL).status_code == 503
    assert world.get(world.client(balance(*svc, retry=Retry(attempts=1))), URL).status_code == 503
    assert svc.requests == 2
    world.end()
