"""HTTP/2 with a server that was not written here: hypercorn, over TLS and without, restarted, and with its limits."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.faults.asking import Allowed, Ask, How
from tests.faults.http2_clients import AsyncH2, SyncH2
from tests.faults.over_http import AsyncHttpx, Httpx
from tests.spelled import spelled

import kubelb

pytestmark = [pytest.mark.slow, pytest.mark.heavy]
FOLDER = Path(__file__).parent


class Server:
    """hypercorn in a process of its own, whose output are the markers of what it has processed."""

    def __init__(self, host: str, config: Path, out: Path) -> None:
        with socket.create_server((host, 0)) as probe:
            self.port = probe.getsockname()[1]
        self.host = host
        self.address = f"{host}:{self.port}"
        self._config = config
        self.out = out

    def start(self) -> None:
        command = [sys.executable, "-m", "hypercorn", "-c", str(self._config), "-b", self.address]
        with self.out.open("ab") as out:
            self._process = subprocess.Popen(
                [*command, "hypercorn_program:app"],
                cwd=FOLDER,
                stdout=out,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((self.host, self.port), 1).close()
            except OSError:
                assert time.monotonic() < until, "hypercorn does not listen"
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def processed(self) -> list[str]:
        return [line for line in self.out.read_text().splitlines() if line.isdigit()]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., list[Server]]]:
    made: list[Server] = []

    def serve(count: int, **config: Any) -> list[Server]:
        lines = {"graceful_timeout": 1, "accesslog": "", "errorlog": "", **config}
        file = tmp_path / "hypercorn.toml"
        file.write_text("".join(f"{name} = {value!r}\n" for name, value in lines.items() if value != ""))
        for number in range(1, count + 1):
            made.append(Server(f"127.0.0.{number}", file, tmp_path / f"out{number}"))
            made[-1].start()
        return made

    yield serve
    for server in made:
        server.stop()


def balance(servers: list[Server], **options: Any) -> kubelb.LoadBalancer:
    return kubelb.LoadBalancer(f"static:///{','.join(server.address for server in servers)}", **spelled(options))


@pytest.mark.parametrize("kind", [SyncH2, AsyncH2])
def test_gets_hear_nothing_of_a_limit_of_requests_a_connection(serve: Callable[..., list[Server]], kind: Any) -> None:
    """hypercorn says GOAWAY after so many, with the request at hand as the last, and then cannot answer even that."""
    servers = serve(2, keep_alive_max_requests=30, keep_alive_timeout=60)
    with balance(servers) as lb:
        client = kind(lb)
        ends = Counter(client.ask(Ask(Allowed.YES)).how for _ in range(150))  # far less than 60 s each
        client.close()
        assert ends == {How.ANSWERED: 150}
        assert sum(view.failures for view in lb.endpoints()) == 0


@pytest.mark.parametrize("kind", [SyncH2, AsyncH2])
def test_posts_at_a_limit_of_requests_are_not_repeated_because_they_were_processed(
    serve: Callable[..., list[Server]], kind: Any
) -> None:
    servers = serve(2, keep_alive_max_requests=30, keep_alive_timeout=60)
    with balance(servers) as lb:
        client = kind(lb)
        asks = [Ask(Allowed.NO) for _ in range(150)]
        ends = {ask.marker: client.ask(ask).how for ask in asks}
        client.close()
        assert sum(view.failures for view in lb.endpoints()) == 0
    assert {*ends.values()} <= {How.ANSWERED, How.LOST}
    processed = Counter(marker for server in servers for marker in server.processed())
    assert processed == Counter(ends.keys())  # each of them once, the lost ones too


@pytest.mark.parametrize("kind", [SyncH2, AsyncH2])
def test_gets_survive_a_rolling_restart_of_three(serve: Callable[..., list[Server]], kind: Any) -> None:
    """No error, whatever hypercorn does to its streams when it is told to end.

    Its limit of 1000 requests a connection has a test of its own: here a pod that reaches it while another one is down
    and the third still ejected would leave nowhere to go.
    """
    servers = serve(3, keep_alive_max_requests=1_000_000)
    with balance(servers) as lb:
        client = kind(lb)
        stop = threading.Event()
        ends: Counter[str] = Counter()

        def work() -> None:
            while not stop.is_set():
                end = client.ask(Ask(Allowed.YES))
                ends[f"{end.how.value} {end.own}"] += 1

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for server in servers:
            time.sleep(0.7)
            server.stop()
            time.sleep(0.3)
            server.start()
        time.sleep(0.7)
        stop.set()
        for thread in threads:
            thread.join(30)
        client.close()
        assert set(ends) == {"answered "}, ends
        assert ends["answered "] > 100
        assert all(view.in_flight == 0 for view in lb.endpoints())


@pytest.mark.parametrize("kind", [SyncH2, AsyncH2])
def test_posts_are_never_processed_twice_in_a_rolling_restart(serve: Callable[..., list[Server]], kind: Any) -> None:
    """hypercorn resets the first stream after SIGTERM with NO_ERROR, which is no promise that it was not processed; and
    its data then break that connection. So errors there may be, a few each restart, but nothing is done twice.
    """
    servers = serve(2)
    with balance(servers) as lb:
        client = kind(lb)
        stop = threading.Event()
        ends: dict[str, How] = {}

        def work() -> None:
            while not stop.is_set():
                ask = Ask(Allowed.NO, body=b"x" * 500)
                ends[ask.marker] = client.ask(ask).how

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for server in servers:
            time.sleep(0.7)
            server.stop()
            server.start()
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join(30)
        client.close()
    processed = Counter(marker for server in servers for marker in server.processed())
    assert max(processed.values()) == 1
    answered = {marker for marker, how in ends.items() if how is How.ANSWERED}
    assert answered <= {*processed}
    assert len(ends) - len(answered) <= (4 + 5) * len(servers)  # what was under way, and the five that eject


@pytest.fixture
def ca(tmp_path: Path) -> tuple[str, str, str]:
    authority = trustme.CA()
    issued = authority.issue_cert("reviews.prod")
    files = [tmp_path / name for name in ("ca.pem", "key.pem", "cert.pem")]
    authority.cert_pem.write_to_path(files[0])
    issued.private_key_pem.write_to_path(files[1])
    issued.cert_chain_pems[0].write_to_path(files[2])
    return tuple(map(str, files))  # type: ignore[return-value]


@pytest.mark.parametrize("alpn", [["h2", "http/1.1"], ["http/1.1"]])
@pytest.mark.parametrize("base", [Httpx, AsyncHttpx])
def test_the_protocol_is_the_one_that_was_negotiated(
    serve: Callable[..., list[Server]], ca: tuple[str, str, str], alpn: list[str], base: Any
) -> None:
    """Over TLS, 12 at once: one connection of HTTP/2, or as many as are needed of HTTP/1.1."""
    servers = serve(1, certfile=ca[2], keyfile=ca[1], alpn_protocols=alpn)
    options = {"verify": ssl.create_default_context(cafile=ca[0]), "http1": True, "http2": True}
    with balance(servers) as lb:
        client = type("Kind", (base,), {"make": making(options)})(lb)
        asks = [client.begin(Tls()) for _ in range(12)]
        assert {end.how for end in (going.end() for going in asks)} == {How.ANSWERED}
        response = client.do(client.client.get, "https://reviews.prod/")
        assert response.headers["x-http"] == ("2" if "h2" in alpn else "1.1")
        assert response.http_version == ("HTTP/2" if "h2" in alpn else "HTTP/1.1")
        client.close()
        assert sum(view.failures for view in lb.endpoints()) == 0


class Tls(Ask):
    """A call over https."""


def making(options: dict[str, Any]) -> Any:
    def make(self: Any, client: str, transport: str) -> Any:
        import httpx

        from kubelb.adapters import httpx as adapter

        self.httpx = httpx
        made = getattr(httpx, client)(transport=getattr(adapter, transport)(self.lb, **options), timeout=20)
        self.request = lambda ask: made.build_request(
            ask.method, "https://reviews.prod/", headers={"x-ask": ask.marker}
        )
        return made

    return make
