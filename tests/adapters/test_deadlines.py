"""Time: what bounds one read, all tries up to the headers, and the whole call; and the strategies of tenacity."""

import time
from typing import Any

import pytest
import tenacity
from tests.adapters.conftest import in_flight, state
from tests.adapters.raw import OK, Peer, half
from tests.adapters.world import World
from tests.waiting import until

from kubelb import DeadlineExceeded, DiscoveryOptions, LoadBalancer, NotReady, Retry
from kubelb.adapters._httpx.timeouts import Timeouts

URL = "http://reviews.prod/"
SOON: dict[str, Any] = {"extensions": {"kubelb": {"deadline": 0.5}}}
CONFLICT = b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


def hang(peer: Peer) -> None:
    peer.request()
    peer.hang()


def drip_headers(peer: Peer) -> None:
    peer.request()
    peer.drip(OK, 0.2)


def drip_body(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n")
    peer.drip(b"fourteen bytes", 0.1)


def test_how_long_ago_the_time_was_over() -> None:
    """Of the last operation, by the smaller of its own timeout and the end of all; unknown where there is no end."""
    now = [100.0]
    timeouts = Timeouts({"read": 0.5}, 101.0, None, lambda: now[0])
    assert timeouts.overdue() is None
    assert timeouts.left("read") == 0.5
    now[0] = 100.6
    assert timeouts.overdue() == pytest.approx(0.1)
    assert timeouts.left("write") == pytest.approx(0.4)
    now[0] = 101.5
    assert timeouts.overdue() == pytest.approx(0.5)
    endless = Timeouts({"read": 0.5}, None, None, lambda: now[0])
    assert endless.left("read") == 0.5
    assert endless.overdue() is None


def always(answer: bytes) -> Any:
    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(answer)

    return script


@pytest.mark.slow
def test_no_headers_in_time_for_a_get(world: World, raw, balance) -> None:
    """A read timeout that leaves time of the call's largest timeout is followed by another endpoint."""
    bad, good = raw(hang), raw()
    lb = balance(bad, good, policy="round_robin")
    client = world.client(lb, timeout=world.httpx.Timeout(20.0, read=0.5))
    assert [world.get(client, URL).status_code for _ in range(2)] == [200, 200]
    assert bad.delivered in {1, 2}  # a retry takes a turn, too
    assert good.delivered == 2
    assert state(lb, bad).failures == bad.delivered
    assert in_flight(lb) == 0


def test_no_headers_in_time_for_a_post(world: World, raw, balance) -> None:
    """It may have been processed: ReadTimeout, delivered once."""
    servers = [raw(hang), raw(hang)]
    lb = balance(*servers)
    client = world.client(lb, timeout=world.httpx.Timeout(20.0, read=0.3))
    with pytest.raises(world.httpx.ReadTimeout):
        world.request(client, "POST", URL, content=b"pay")
    assert sum(server.delivered for server in servers) == 1
    assert in_flight(lb) == 0


def test_the_largest_timeout_bounds_all_tries(world: World, raw, balance) -> None:
    """Where one try has used it up there is no other."""
    servers = [raw(hang), raw(hang), raw(hang)]
    lb = balance(*servers)
    with pytest.raises(world.httpx.ReadTimeout) as caught:
        world.get(world.client(lb, timeout=0.4), URL)
    assert not getattr(caught.value, "__notes__", [])
    assert sum(server.delivered for server in servers) == 1
    assert in_flight(lb) == 0


@pytest.mark.parametrize("options", [SOON, {"timeout": 0.5}])
def test_dripping_headers(world: World, raw, balance, options: dict[str, Any]) -> None:
    """Each read is quick and all of them would take eight seconds: deadline and timeout bound their sum."""
    servers = [raw(drip_headers), raw(drip_headers)]
    lb = balance(*servers)
    client = world.client(lb, timeout=20.0)
    began = time.monotonic()
    with pytest.raises(world.httpx.ReadTimeout):
        world.get(client, URL, **options)
    assert time.monotonic() - began < 5.0
    assert sum(server.delivered for server in servers) == 1
    assert in_flight(lb) == 0


def test_a_deadline_bounds_the_body(world: World, raw, balance) -> None:
    """A body that is still dripping then ends with ReadTimeout, and its endpoint has not failed."""
    server = raw(drip_body)
    lb = balance(server)
    with pytest.raises(world.httpx.ReadTimeout, match="deadline"):
        world.get(world.client(lb), URL, **SOON)
    assert state(lb, server).failures == 0
    assert in_flight(lb) == 0


@pytest.mark.slow
def test_a_timeout_does_not_bound_the_body(world: World, raw, balance) -> None:
    """The client's timeout holds for each read of it, as without kubelb."""
    lb = balance(raw(drip_body))
    assert world.get(world.client(lb, timeout=1.0), URL).text == "fourteen bytes"


def test_a_hang_in_the_body(world: World, raw, balance) -> None:
    """One read longer than the read timeout ends it: ReadTimeout, a failure, no retry."""
    server = raw(half)
    lb = balance(server)
    with pytest.raises(world.httpx.ReadTimeout):
        world.get(world.client(lb, timeout=0.4), URL)
    assert (server.delivered, state(lb, server).failures) == (1, 1)
    assert in_flight(lb) == 0


def test_a_deadline_that_is_over(world: World, raw, balance) -> None:
    """kubelb refuses, and the client's users catch it as a timeout; nothing is sent."""
    server = raw()
    lb = balance(server)
    with pytest.raises(DeadlineExceeded) as caught:
        world.get(world.client(lb), URL, extensions={"kubelb": {"deadline": 0.0}})
    assert isinstance(caught.value, world.httpx.TimeoutException)
    assert server.accepted == 0


@pytest.mark.parametrize(
    ("timeout", "hints", "patience", "refused", "caught"),
    [
        (0.2, {}, 30.0, DeadlineExceeded, "TimeoutException"),
        (30.0, {"deadline": 0.2}, 30.0, DeadlineExceeded, "TimeoutException"),
        (30.0, {}, 0.2, NotReady, "ConnectError"),
    ],
    ids=["timeout", "deadline", "ready_timeout"],
)
def test_waiting_for_the_first_endpoints(
    world: World, timeout: float, hints: dict[str, float], patience: float, refused: type[Exception], caught: str
) -> None:
    """It ends with whichever bound comes first, and says what discovery is stuck on, and what to do about it."""
    with LoadBalancer(
        "reviews.prod:http", discovery=DiscoveryOptions(kubeconfig="/nowhere/config"), ready_timeout=patience
    ) as lb:
        lb.resync_now()
        assert until(lambda: lb.health().error.startswith("there is no kubeconfig"), 20.0)
        client = world.client(lb, timeout=timeout)
        began = time.monotonic()
        with pytest.raises(refused, match=r"no kubeconfig at /nowhere/config.*DiscoveryOptions\(kubeconfig=") as error:
            world.get(client, URL, extensions={"kubelb": hints})
        assert time.monotonic() - began < 10.0
    assert isinstance(error.value, getattr(world.httpx, caught))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_strategy_that_judges_results(world: World, raw, balance, method: str) -> None:
    """tenacity's `retry_if_result` sees the response; it cannot make a POST go out twice."""
    bad, good = raw(always(CONFLICT)), raw()
    judge = tenacity.retry_if_result(lambda response: response.status_code == 409)
    lb = balance(bad, good, policy="round_robin", retry=Retry(retry=judge))
    client = world.client(lb)
    found = sorted(world.request(client, method, URL).status_code for _ in range(2))
    assert found == ([200, 200] if method == "GET" else [200, 409])
    if method == "GET":
        assert bad.delivered in {1, 2}  # a retry takes a turn, too
        assert good.delivered == 2
    else:
        assert (bad.delivered, good.delivered) == (1, 1)
    assert in_flight(lb) == 0


def test_a_strategy_that_stops(world: World, raw, balance) -> None:
    """tenacity's `stop_after_delay` ends the tries although attempts are left, with the last response."""
    server = raw(always(BUSY))
    retry = Retry(attempts=1000, budget=None, wait=tenacity.wait_fixed(0.05), stop=tenacity.stop_after_delay(0.5))
    lb = balance(server, retry=retry)
    response = world.get(world.client(lb, timeout=20.0), URL)
    assert response.status_code == 503
    assert 2 <= response.extensions["kubelb"]["attempts"] == server.delivered < 20
    assert in_flight(lb) == 0
