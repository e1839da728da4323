"""What a status and a failed attempt mean: for the endpoint's health, for retries, and for the caller."""

import time

import pytest
import requests
from tests.adapters.raw import refused
from tests.adapters_requests.conftest import URL, state

from kubelb import Retry
from kubelb.service import service_of


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_error_is_tried_elsewhere(session, service, balance, status):
    """An idempotent request goes on to another endpoint, and the caller sees its answer alone."""
    svc = service(2)
    svc[0].fail(status)
    lb = balance(*svc, policy="round_robin")
    client = session(lb)
    for _ in range(2):
        response = client.get(URL)
        assert (response.status_code, response.history) == (200, [])
    failed = state(lb, svc[0])
    assert (failed.failures, failed.in_flight) == (svc[0].requests, 0)
    assert svc[0].requests > 0
    assert state(lb, svc[1]).failures == 0


@pytest.mark.parametrize("status", [500, 501, 404, 400])
def test_an_answer_of_the_application_is_not_repeated(session, service, balance, status):
    """It reaches the caller as it is; 5xx but 501 count against the endpoint."""
    svc = service(2)
    for backend in svc:
        backend.fail(status)
    lb = balance(*svc)
    assert session(lb).get(URL).status_code == status
    assert svc.requests == 1
    assert sum(each.failures for each in service_of(lb).balancer.states()) == (status == 500)
    assert sum(each.refusals for each in service_of(lb).balancer.states()) == (status != 500)


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_post_is_not_repeated(session, service, balance, status):
    """A status proves that the request was processed by somebody: a POST has one delivery."""
    svc = service(2)
    for backend in svc:
        backend.fail(status, headers={"retry-after": "0"})
    response = session(balance(*svc)).post(URL, data=b"x")
    assert (response.status_code, svc.requests) == (status, 1)


def test_a_post_with_an_idempotency_key_is_repeated(session, service, balance):
    """The header is the caller's word."""
    svc = service(2)
    svc[0].fail(503)
    client = session(balance(*svc, policy="round_robin"))
    for _ in range(2):
        assert client.post(URL, data=b"x", headers={"Idempotency-Key": "1"}).status_code == 200


def test_when_every_endpoint_fails_the_last_response_comes_back(session, service, balance):
    """Three tries, three endpoints, and the body of the last one whole."""
    svc = service(3)
    for backend in svc:
        backend.fail(503)
    lb = balance(*svc)
    response = session(lb).get(URL)
    assert (response.status_code, response.json()["method"]) == (503, "GET")
    assert [backend.requests for backend in svc] == [1, 1, 1]
    assert [each.failures for each in service_of(lb).balancer.states()] == [1, 1, 1]


def test_a_discarded_response_gives_its_connection_back(session, service, balance):
    """A 503 with a small body is read, so the pod's next request has the same connection."""
    svc = service(2)
    svc[0].fail(503)
    client = session(balance(*svc, policy="round_robin"))
    for _ in range(4):
        client.get(URL)
    assert svc[0].requests >= 2
    assert svc[0].connections == 1


def test_a_discarded_response_is_not_waited_for(session, raw, balance):
    """A 503 whose body never comes does not hold up the retry."""

    def never_ends(peer):
        peer.request()
        peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\nhalf")
        peer.hang()

    bad, good = raw(never_ends), raw()
    lb = balance(bad, good, policy="round_robin")
    client = session(lb)
    began = time.monotonic()
    assert [client.get(URL).status_code for _ in range(2)] == [200, 200]
    assert time.monotonic() - began < 2.0
    assert state(lb, bad).failures >= 1


def test_429_is_load_and_not_a_failure(session, service, balance):
    """Without Retry-After it is the caller's to handle; the endpoint is never ejected."""
    svc = service(2)
    for backend in svc:
        backend.fail(429)
    lb = balance(*svc)
    client = session(lb)
    assert {client.get(URL).status_code for _ in range(12)} == {429}
    assert svc.requests == 12
    assert {each.phase.value for each in service_of(lb).balancer.states()} == {"active"}


@pytest.mark.parametrize("status", [429, 503])
def test_one_that_is_full_is_left_for_another_at_once(session, service, balance, status):
    """Load waited for while others have room: the call took as long as the header said. And it is left alone then."""
    svc = service(2)
    svc[0].fail(status, headers={"Retry-After": "20"})
    lb = balance(*svc, policy="round_robin")
    client = session(lb)
    began = time.monotonic()
    assert {client.get(URL).status_code for _ in range(12)} == {200}
    assert time.monotonic() - began < 15.0
    assert svc[0].requests == 1
    assert sorted(view.state for view in lb.endpoints()) == ["ready", "resting"]


@pytest.mark.parametrize("status", [429, 503])
def test_without_a_timeout_nothing_is_waited_for(session, service, balance, status):
    """A silent sleep in a call that has no timeout: the answer comes at once, as without kubelb."""
    svc = service(1)
    svc[0].fail(status, headers={"Retry-After": "20"})
    client = session(balance(*svc))
    began = time.monotonic()
    assert client.get(URL, timeout=None).status_code == status
    assert time.monotonic() - began < 15.0
    assert svc.requests == 1


@pytest.mark.parametrize("header", [b"Content-Length: 3", b"\r\n".join(b"X-%d: 1" % n for n in range(120))])
def test_an_answer_that_cannot_be_read_is_not_fetched_three_times(session, raw, balance, header):
    """What a service answers taken for what a pod does. One other pod is asked, and neither is blamed in the end."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + header + b"\r\n\r\nok"

    def script(peer):
        while True:
            peer.request()
            peer.send(answer)

    servers = [raw(script) for _ in range(4)]
    lb = balance(*servers, policy="round_robin")
    with pytest.raises(requests.RequestException):
        session(lb).get(URL)
    assert sum(server.delivered for server in servers) == 2
    assert {each.consecutive for each in service_of(lb).balancer.states()} == {0}


def test_two_that_say_429_to_one_call_end_it(session, service, balance):
    """A caller's own limit taken for load: it was asked for three times, and all endpoints were given up."""
    svc = service(3)
    for backend in svc:
        backend.fail(429, headers={"Retry-After": "60"})
    lb = balance(*svc)
    assert session(lb).get(URL).status_code == 429
    assert svc.requests == 2
    assert {view.state for view in lb.endpoints()} == {"ready"}


def test_a_retry_after_beyond_the_timeout_ends_the_call_at_once(session, service, balance):
    """There is no point in waiting for longer than the caller does."""
    svc = service(1)
    svc[0].fail(429, headers={"Retry-After": "60"})
    began = time.monotonic()
    assert session(balance(*svc)).get(URL).status_code == 429
    assert time.monotonic() - began < 2.0
    assert svc.requests == 1


@pytest.mark.parametrize("retry", [None, Retry(attempts=1)])
def test_one_attempt_only(session, service, balance, retry):
    """It means what it says."""
    svc = service(2)
    for backend in svc:
        backend.fail(503)
    assert session(balance(*svc, retry=retry)).get(URL).status_code == 503
    assert svc.requests == 1


def test_the_users_own_strategy_sees_responses(session, service, balance):
    """tenacity's `retry` may call a 200 worth repeating."""
    from tenacity import retry_if_result

    svc = service(2)
    again = Retry(attempts=2, retry=retry_if_result(lambda response: response.status_code == 200))
    lb = balance(*svc, retry=again)
    client = session(lb)
    assert client.get(URL).status_code == 200
    assert svc.requests == 2
    assert client.get("http://reviews.prod/stream?chunks=9&delay=0.02").status_code == 200
    assert svc.requests == 4
    assert [each.failures for each in service_of(lb).balancer.states()] == [
        0,
        0,
    ]  # a body cut short by us is no fault of theirs


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_is_never_sent(session, service, balance, method):
    """Any request goes on to another endpoint; where there is none, the error names the tries before it."""
    svc = service(1)
    lb = balance(refused(), *svc, policy="round_robin")
    client = session(lb)
    assert [client.request(method, URL).status_code for _ in range(4)] == [200] * 4
    with pytest.raises(requests.ConnectionError) as caught:
        session(balance(refused(), refused(), refused())).request(method, URL)
    assert type(caught.value) is requests.ConnectionError
    assert caught.value.request.url == URL
    assert len(caught.value.__notes__) == 2
    assert caught.value.__notes__[0].endswith("ended with refused")


def test_a_reset_is_requests_connection_error(session, raw, balance):
    """After reading, nobody knows whether it was processed: idempotent requests only go on."""

    def reset(peer):
        peer.request()
        peer.reset()

    servers = [raw(reset) for _ in range(3)]
    lb = balance(*servers)
    with pytest.raises(requests.ConnectionError) as caught:
        session(lb).get(URL)
    assert "disconnected" in caught.value.__notes__[1]
    assert [server.delivered for server in servers] == [1, 1, 1]
    assert [each.failures for each in service_of(lb).balancer.states()] == [1, 1, 1]
    with pytest.raises(requests.ConnectionError):
        session(lb).post(URL, data=b"pay")
    assert sum(server.delivered for server in servers) == 4
