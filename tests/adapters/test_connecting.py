"""Connects that take their time, by real servers: black holes, and TLS servers that are slow to shake hands.

The kind: a bound of ours that is tighter than the client's own, where leaving leads to nothing. What bare httpx and
requests serve is served, and nothing is begun and thrown away but what the retry budget pays for.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import trustme
from tests.adapters.conftest import state, worlds
from tests.adapters.raw import OK, Peer, RawServer, blackhole
from tests.adapters.world import AioWorld, World

import kubelb
from kubelb import Retry, RetryBudget
from kubelb.adapters.requests import Adapter

pytestmark = pytest.mark.slow

HOST = "reviews.prod"
SLOW = 1.3
NEVER = 30.0


class RequestsWorld:
    """requests by the verbs of a `World`; a pair is what `Timeout(all, connect=)` is to httpx."""

    aio = False

    def __init__(self) -> None:
        self._sessions: list[requests.Session] = []

    def client(self, lb: Any, *, tls: dict[str, Any] | None = None) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        adapter = Adapter(lb, **(tls or {}))
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        self._sessions.append(session)
        return session

    def request(self, client: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
        return client.request(method, url, **options)

    def apart(self, connect: float, others: float) -> Any:
        return (connect, others)

    late = requests.ConnectTimeout

    def end(self) -> None:
        for session in self._sessions:
            session.close()


class Httpx:
    """An httpx `World` with the same two names."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.late = world.httpx.ConnectTimeout

    def apart(self, connect: float, others: float) -> Any:
        return self._world.httpx.Timeout(others, connect=connect)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)


@pytest.fixture(params=[*worlds("sync", "async"), "requests"])
def world(request: pytest.FixtureRequest) -> Iterator[Any]:
    name, _, kind = request.param.partition("-")
    world = RequestsWorld() if not kind else Httpx(World(name) if kind == "sync" else AioWorld(name))
    yield world
    world.end()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def serving(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    return context


def once(peer: Peer) -> None:
    """Answer one request and hang up: the next one needs a handshake of its own."""
    peer.request()
    peer.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))


def asks(world: Any, client: Any, count: int, method: str = "POST", scheme: str = "https", timeout: Any = 5.0) -> Any:
    """So many answers and the seconds that the slowest one took."""
    found, slowest = [], 0.0
    for _ in range(count):
        began = time.monotonic()
        found.append(world.request(client, method, f"{scheme}://{HOST}/", timeout=timeout).status_code)
        slowest = max(slowest, time.monotonic() - began)
    return found, slowest


def begun(servers: list[RawServer]) -> int:
    return sum(server.accepted for server in servers)


@pytest.mark.parametrize("pods", [3, 1])
def test_handshakes_that_are_all_slow_are_waited_for(world: Any, raw, balance, serving, trusting, pods: int) -> None:
    """As the bare client does within its timeout, for a POST as for a GET; none is begun in vain."""
    servers = [raw(once, tls=serving, delay=SLOW) for _ in range(pods)]
    client = world.client(balance(*servers), tls={"verify": trusting})
    assert asks(world, client, 2)[0] == [200, 200]
    assert asks(world, client, 1, "GET")[0] == [200]
    assert begun(servers) == 3


def test_a_handshake_that_takes_more_than_half_of_the_timeout(world: Any, raw, balance, serving, trusting) -> None:
    """Three of five seconds: there is no time for two of them, so there must be time for one."""
    servers = [raw(once, tls=serving, delay=3.0) for _ in range(3)]
    client = world.client(balance(*servers), tls={"verify": trusting})
    assert asks(world, client, 1)[0] == [200]
    assert begun(servers) == 1


def test_one_slow_handshake_among_quick_ones_is_left(world: Any, raw, balance, serving, trusting) -> None:
    """It was never sent, so a POST goes elsewhere; a second is enough once anybody knows how quick the others are."""
    stuck, *quick = servers = [raw(once, tls=serving, delay=delay) for delay in (NEVER, 0.0, 0.0)]
    lb = balance(*servers, policy="round_robin", outliers=None)
    client = world.client(lb, tls={"verify": trusting})
    assert asks(world, client, 3, timeout=20.0)[0] == [200] * 3
    before = state(lb, stuck).failures
    assert before >= 1
    found, slowest = asks(world, client, 3, timeout=20.0)
    assert found == [200] * 3
    assert state(lb, stuck).failures > before
    assert slowest < 4.5
    assert (stuck.delivered, sum(server.delivered for server in quick)) == (0, 6)


def test_a_black_hole_is_left_after_a_second(world: Any, raw, balance) -> None:
    """With one number for everything, and with none; the pod that is tried next has what is left."""
    servers = [raw(once), raw(once)]
    with blackhole() as hole:
        for timeout in (5.0, None):
            lb = balance(hole, *servers, policy="round_robin", outliers=None)
            found, slowest = asks(world, world.client(lb), 3, scheme="http", timeout=timeout)
            assert found == [200] * 3
            assert state(lb, hole).failures >= 1
            assert 0.9 <= slowest < 4.0


def test_a_black_hole_within_a_timeout_of_a_second(world: Any, raw, balance) -> None:
    """A quarter of the time is kept back for the other pod."""
    with blackhole() as hole:
        lb = balance(hole, raw(once), policy="round_robin", outliers=None)
        assert asks(world, world.client(lb), 2, scheme="http", timeout=1.2)[0] == [200, 200]
        assert state(lb, hole).failures >= 1


def test_a_longer_connect_timeout_that_was_set_apart_is_kept(world: Any, raw, balance) -> None:
    """The caller asked for it, and has a second pod tried only after that."""
    with blackhole() as hole:
        lb = balance(hole, raw(once), policy="round_robin", outliers=None)
        found, slowest = asks(world, world.client(lb), 2, scheme="http", timeout=world.apart(2.5, 20.0))
        assert found == [200, 200]
        assert slowest >= 2.4


def test_a_shorter_connect_timeout_that_was_set_apart_is_kept(world: Any, raw, balance, serving, trusting) -> None:
    """By the handshake too, as by the bare clients: three tries of it, and ConnectTimeout."""
    servers = [raw(once, tls=serving, delay=SLOW) for _ in range(3)]
    client = world.client(balance(*servers), tls={"verify": trusting})
    began = time.monotonic()
    with pytest.raises(world.late):
        asks(world, client, 1, timeout=world.apart(0.3, 20.0))
    assert 0.8 <= time.monotonic() - began < 3.5
    assert begun(servers) == 3


def test_a_handshake_has_a_connect_timeout_of_its_own(world: Any, raw, balance, serving, trusting) -> None:
    """1.3 s of it within a connect timeout of 2 s, although all that quick pods know is milliseconds."""
    server = raw(once, tls=serving)
    lb = balance(server, raw(once, tls=serving), policy="round_robin")
    client = world.client(lb, tls={"verify": trusting})
    asks(world, client, 2)
    server.delay = SLOW
    assert asks(world, client, 2, timeout=world.apart(4.0, 20.0))[0] == [200, 200]
    assert state(lb, server).failures == 0


def test_a_deadline_bounds_a_handshake(world: Any, raw, balance, serving, trusting) -> None:
    """Whatever the client allows, and whatever was set apart."""
    client = world.client(balance(raw(once, tls=serving, delay=NEVER)), tls={"verify": trusting})
    for timeout in (20.0, world.apart(15.0, 20.0), None):
        began = time.monotonic()
        with pytest.raises(world.late), kubelb.hints(deadline=0.5):
            asks(world, client, 1, timeout=timeout)
        assert 0.4 <= time.monotonic() - began < 4.0


def test_without_a_budget_nothing_is_left_early(world: Any, raw, balance, serving, trusting) -> None:
    """An extra try that will not be made is none to hurry for: the first handshake has the whole time."""
    servers = [raw(once, tls=serving) for _ in range(2)]
    lb = balance(*servers, policy="round_robin", retry=Retry(budget=RetryBudget(ratio=0.0, floor=0.0)))
    client = world.client(lb, tls={"verify": trusting})
    asks(world, client, 2)
    for server in servers:
        server.delay = SLOW
    assert asks(world, client, 2)[0] == [200, 200]
    assert begun(servers) == 4


def together(world: Any, client: Any, count: int) -> list[int]:
    """So many answers to requests that are made at once."""
    found: list[int] = []
    if world.aio:

        async def gather() -> Any:
            return await asyncio.gather(*(client.post(f"https://{HOST}/", timeout=10.0) for _ in range(count)))

        return [response.status_code for response in world.run(gather())]
    threads = [
        threading.Thread(target=lambda: found.extend(asks(world, client, 1, timeout=10.0)[0])) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_a_service_that_becomes_slow_is_not_overloaded_by_us(world: Any, raw, balance, serving, trusting) -> None:
    """24 calls at once upon handshakes that took milliseconds before: all are served, within the retry budget."""
    servers = [raw(once, tls=serving) for _ in range(3)]
    floor = 2.0
    lb = balance(*servers, retry=Retry(budget=RetryBudget(ratio=0.0, floor=floor)))
    client = world.client(lb, tls={"verify": trusting})
    asks(world, client, 3)
    for server in servers:
        server.delay = SLOW
    before, began = begun(servers), time.monotonic()
    assert together(world, client, 24) == [200] * 24
    assert begun(servers) - before <= 24 + floor * (time.monotonic() - began + 1)
    before = begun(servers)
    assert asks(world, client, 3)[0] == [200] * 3
    assert begun(servers) - before == 3  # and by then it is known how slow they are


def hello_then(end: str) -> Any:
    """Read the client's hello, and end the handshake so."""

    def script(peer: Peer) -> None:
        peer.sock.recv(65536)
        if end == "reset":
            peer.reset()
        elif end == "nonsense":
            peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    return script


@pytest.mark.parametrize("end", ["closed", "reset", "nonsense"])
def test_a_handshake_that_breaks_off_was_never_sent(world: Any, raw, balance, serving, trusting, end: str) -> None:
    """So a POST goes elsewhere, and is delivered once; the pod has failed."""
    broken, good = raw(hello_then(end)), raw(once, tls=serving)
    lb = balance(broken, good, policy="round_robin", outliers=None)
    client = world.client(lb, tls={"verify": trusting})
    assert asks(world, client, 3)[0] == [200] * 3
    assert good.delivered == 3
    assert state(lb, broken).failures >= 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_slow_handshakes_with_certificates_on_both_sides(
    world: Any, raw, balance, authority, trusting, tmp_path, host: str
) -> None:
    """By IPv6 as by IPv4."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(serving)
    serving.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(serving)
    mine, ca = tmp_path / "client.pem", tmp_path / "ca.pem"
    authority.issue_cert("client.prod").private_key_and_cert_chain_pem.write_to_path(str(mine))
    authority.cert_pem.write_to_path(str(ca))
    servers = [raw(once, tls=serving, delay=SLOW, host=host) for _ in range(2)]
    client = world.client(balance(*servers), tls={"verify": str(ca), "cert": str(mine)})
    assert asks(world, client, 2)[0] == [200, 200]
    assert begun(servers) == 2
