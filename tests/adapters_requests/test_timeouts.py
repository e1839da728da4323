"""requests' timeout: its largest part bounds all tries up to the headers; bodies have the read timeout, each read."""

import contextlib
import time

import pytest
import requests
from tests.adapters.raw import OK, blackhole
from tests.adapters_requests.conftest import URL, in_flight, state
from urllib3.util import Timeout

from kubelb.adapters._requests.bounds import Bounds, Limits
from kubelb.service import service_of

MARGIN = 1.5
"""Seconds that a busy machine may add."""


@contextlib.contextmanager
def takes(least: float, most: float):
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began < most + MARGIN


def hang(peer) -> None:
    peer.request()
    peer.hang()


def test_how_long_ago_the_time_was_over():
    """Of the last read or write, by the smaller of its own timeout and the end of all; unknown before one."""
    now = [100.0]
    bounds = Bounds(Limits((5.0, 0.5)), 101.0, None, lambda: now[0], patience=None, state=None, number=1, place=None)
    assert bounds.overdue() is None
    assert bounds.left() == 0.5
    now[0] = 100.4
    assert bounds.overdue() is None
    now[0] = 100.6
    assert bounds.overdue() == pytest.approx(0.1)
    assert bounds.left() == pytest.approx(0.4)
    now[0] = 101.5
    assert bounds.overdue() == pytest.approx(0.5)
    with pytest.raises(TimeoutError):
        bounds.left()
    assert bounds.overdue() == pytest.approx(0.5)


@pytest.mark.slow
def test_a_pod_that_does_not_answer_is_left_after_a_second(session, raw, balance):
    """With one number for everything, and with none; then another endpoint is tried, also for a POST."""
    good = raw()
    with blackhole() as dead:
        lb = balance(dead, good, policy="round_robin")
        client = session(lb)
        for timeout in (30.0, None):
            with takes(0.8, 2.0):  # one of the two begins there, or both
                assert {client.post(URL, timeout=timeout).status_code for _ in range(2)} == {200}
    assert good.delivered == 4


@pytest.mark.parametrize("timeout", [(0.2, 5.0), Timeout(connect=0.2, read=5.0)])
def test_the_clients_own_connect_timeout_is_kept(session, balance, timeout):
    """Where it is shorter; what comes back is requests' ConnectTimeout."""
    with blackhole() as dead:
        lb = balance(dead, retry=None)
        client = session(lb)
        with takes(0.2, 0.2), pytest.raises(requests.ConnectTimeout):
            client.get(URL, timeout=timeout)
    assert state(lb, dead).failures == 1


@pytest.mark.parametrize("timeout", [0.5, (0.5, 0.4), (0.1, 0.5), Timeout(total=0.5)])
def test_the_largest_part_bounds_all_tries(session, raw, balance, timeout):
    """Three endpoints hang: the call ends after half a second, not after three."""
    servers = [raw(hang) for _ in range(3)]
    lb = balance(*servers)
    client = session(lb)
    with takes(0.4, 0.5), pytest.raises(requests.ReadTimeout):
        client.get(URL, timeout=timeout)
    assert in_flight(lb) == 0


@pytest.mark.slow
def test_a_read_timeout_goes_on_elsewhere_within_the_largest_part(session, raw, balance):
    """A short read timeout and a long connect timeout: idempotent requests find the endpoint that answers."""
    bad, good = raw(hang), raw()
    lb = balance(bad, good, policy="round_robin")
    client = session(lb)
    assert {client.get(URL, timeout=(5.0, 0.3)).status_code for _ in range(2)} == {200}
    assert state(lb, bad).failures >= 1
    lb = balance(raw(hang), raw(hang))
    client = session(lb)
    with pytest.raises(requests.ReadTimeout):
        client.post(URL, timeout=(5.0, 0.2))
    assert sum(each.failures for each in service_of(lb).balancer.states()) == 1


def test_dripping_headers_are_bounded(session, raw, balance):
    """urllib3's timeout begins anew with each byte; ours does not."""

    def drip(peer):
        peer.request()
        peer.drip(OK * 5, 0.05)

    client = session(balance(raw(drip)))
    with takes(0.4, 0.4), pytest.raises(requests.ReadTimeout):
        client.get(URL, timeout=0.4)


@pytest.mark.slow
def test_a_body_may_take_longer_than_the_timeout(session, raw, balance):
    """Each read of it has the read timeout; one that takes longer is requests' own error, and blames the endpoint."""

    def drip(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")
        peer.drip(b"0123456789", 0.1)
        peer.hang()

    server = raw(drip)
    lb = balance(server)
    response = session(lb).get(URL, timeout=0.6, stream=True)
    got: list[bytes] = []
    with pytest.raises(requests.ConnectionError, match="Read timed out"):
        got.extend(response.iter_content(1))
    assert b"".join(got) == b"0123456789"
    assert (state(lb, server).failures, in_flight(lb)) == (1, 0)


@pytest.mark.slow
def test_an_upload_that_nobody_reads_is_bounded(session, raw, balance):
    """The read timeout is that of a single write too; nothing is repeated, for a part of it was sent."""

    def deaf(peer):
        time.sleep(1.5)

    servers = raw(deaf), raw(deaf)
    lb = balance(*servers)
    client = session(lb)
    body = b"x" * 30_000_000
    with takes(0.4, 0.4), pytest.raises(requests.ConnectionError):
        client.post(URL, data=body, timeout=0.4)
    assert sum(server.accepted for server in servers) == 1


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [1.0, (1.0, 20.0), Timeout(connect=1.0, read=20.0)])
def test_a_slow_handshake_counts_as_connecting(session, raw, balance, timeout):
    """A server that never answers the TLS hello: ConnectTimeout after the connect timeout, and never sent."""

    def deaf(peer):
        peer.hang()

    server = raw(deaf)
    lb = balance(server, retry=None)
    client = session(lb)
    with takes(0.8, 1.0), pytest.raises(requests.ConnectTimeout):
        client.post("https://reviews.prod/", timeout=timeout)


@pytest.mark.parametrize(
    ("timeout", "apart"),
    [
        (5, False),
        (5.0, False),
        (None, False),
        ((5, 5), False),
        ((3.05, 27), True),
        ((None, 5), False),
        (Timeout(5), False),
        (Timeout(total=5), False),
        (Timeout(connect=None, read=5), False),
        (Timeout(connect=3), True),
        (Timeout(connect=3, read=3), False),
        (Timeout(connect=3, total=9), True),
    ],
)
def test_when_a_connect_timeout_was_set_apart(timeout, apart):
    """By a number of its own; one number, even said twice, is for everything, and None is no bound to keep to."""
    assert Limits(timeout).apart is apart


@pytest.mark.parametrize("timeout", [-1, "soon", (1, 2, 3), True])
def test_no_timeout_at_all(session, balance, timeout):
    """What requests refuses is refused, before anything is picked."""
    client = session(balance("127.0.0.1:9"))
    with pytest.raises(ValueError, match="imeout"):
        client.get(URL, timeout=timeout)
