"""`kubelb.hints` around requests."""

import time

import pytest
import requests
from tests.adapters.raw import Peer
from tests.adapters_requests.conftest import URL, in_flight, state

import kubelb
from kubelb import hints
from kubelb.service import service_of


def lost(peer):
    """Takes the request and hangs up."""
    peer.request()
    peer.reset()


def test_the_callers_word_on_repeating(session, raw, balance):
    """A POST is sent again elsewhere inside, and not outside; a GET that must not be, is not."""
    bad, good = raw(lost), raw()
    client = session(balance(bad, good, policy="round_robin", outliers=None))

    def ends(method):
        seen = []
        for _ in range(4):
            try:
                seen.append(client.request(method, URL).status_code)
            except requests.ConnectionError:
                seen.append(0)
        return sorted(seen)

    with hints(idempotent=True):
        assert ends("POST") == [200] * 4
    assert ends("POST") == [0, 0, 200, 200]
    with hints(idempotent=False):
        assert ends("GET") == [0, 0, 200, 200]


def test_a_key_reaches_the_policy(session, service, balance):
    """As part of what is wanted."""
    lb = balance(*service(2))
    seen = []
    pick = service_of(lb).balancer.pick
    service_of(lb).balancer.pick = lambda wanted, **options: seen.append(wanted) or pick(wanted, **options)
    with hints(key="user-7"):
        assert session(lb).get(URL).status_code == 200
    assert [(wanted.key, wanted.idempotent, wanted.replayable) for wanted in seen] == [("user-7", True, True)]


@pytest.mark.parametrize("timeout", [20.0, None])
def test_the_deadline_is_for_all_of_them(session, raw, balance, timeout):
    """What hangs is given up when the block's time is over, and the next request is not even sent."""
    server = raw(Peer.hang)
    client = session(balance(server))
    began = time.monotonic()
    with hints(deadline=0.3):
        with pytest.raises(requests.Timeout):
            client.get(URL, timeout=timeout)
        accepted = server.accepted
        with pytest.raises(kubelb.DeadlineExceeded) as raised:
            client.get(URL, timeout=timeout)
    assert time.monotonic() - began < 2.0
    assert isinstance(raised.value, requests.Timeout)
    assert server.accepted == accepted


def test_the_deadline_bounds_bodies_too(session, raw, balance):
    """However they drip; the endpoint is not to blame."""

    def drip(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        peer.drip(b"x" * 100, 0.05)

    server = raw(drip)
    lb = balance(server)
    began = time.monotonic()
    with hints(deadline=0.4), pytest.raises(requests.ConnectionError, match="timed out"):
        session(lb).get(URL, timeout=None)
    assert 0.3 < time.monotonic() - began < 2.0
    assert (state(lb, server).failures, in_flight(lb)) == (0, 0)
