"""Switched off, everything goes through the name in the URL: nothing is discovered or picked, and nothing is lost."""

import asyncio
import logging
import os
import threading
from typing import Any

import pytest
import requests
from tests.spelled import spelled

import kubelb
from kubelb.adapters.requests import mount
from kubelb.runtime.switch import switched_off
from kubelb.service import service_of


@pytest.fixture
def by_name(monkeypatch):
    """The operating system finds the Service's name on loopback, and no proxy is asked."""
    import socket

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    real = socket.getaddrinfo

    def find(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name.startswith("reviews."):
            host = "127.0.0.1"
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find)


class Front:
    """A server on 127.0.0.1 at a port of its own."""

    def __init__(self) -> None:
        import http.server

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                front.seen.append(self.headers["Host"])
                self.send_response(200)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"plain")

            def log_message(self, *args: Any) -> None:
                pass

        front = self
        self.seen: list[str] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def front():
    front = Front()
    yield front
    front.close()


TARGET = "reviews.prod:http"


@pytest.mark.parametrize("how", ["environment", "block"])
def test_httpx_goes_through_the_name(world, by_name, front, monkeypatch, how):
    """No thread of discovery begins, no endpoint is known, no proxy is asked; the name in the URL is dialled."""
    if how == "environment":
        monkeypatch.setenv("KUBELB_DISABLE", "1")
    with kubelb.LoadBalancer(
        TARGET, discovery=kubelb.DiscoveryOptions(kubeconfig="/nonexistent"), ready_timeout=0.1
    ) as lb:
        client = world.client(lb)
        url = f"http://reviews.prod:{front.port}/"
        if how == "environment":
            monkeypatch.delenv("KUBELB_DISABLE")  # it was read when the adapter was made
            response = world.get(client, url)
            assert lb.health() == kubelb.Health("disabled", synced=True, age=0.0)
            lb.wait_ready()
            asyncio.run(lb.await_ready())
        else:
            with kubelb.disabled():
                response = world.get(client, url)
        assert (response.text, front.seen) == ("plain", [f"reviews.prod:{front.port}"])
        assert "kubelb" not in response.extensions
        assert service_of(lb).opening.now is None
        if how == "block":
            with pytest.raises(kubelb.NotReady):
                world.get(client, url)


@pytest.mark.parametrize("how", ["environment", "block"])
def test_requests_goes_through_the_name(by_name, front, monkeypatch, how):
    """The same for a session."""
    if how == "environment":
        monkeypatch.setenv("KUBELB_DISABLE", "yes")
    with (
        kubelb.LoadBalancer(
            TARGET, discovery=kubelb.DiscoveryOptions(kubeconfig="/nonexistent"), ready_timeout=0.1
        ) as lb,
        requests.Session() as session,
    ):
        mount(session, lb)
        url = f"http://reviews.prod:{front.port}/"
        if how == "environment":
            assert session.get(url, timeout=5).text == "plain"
        else:
            with kubelb.disabled():
                assert session.get(url, timeout=5).text == "plain"
            with pytest.raises(kubelb.NotReady):
                session.get(url, timeout=5)
        assert front.seen == [f"reviews.prod:{front.port}"]


def test_tls_options_are_kept(world, cluster, by_name):
    """CAs, the client's certificate and the name to verify are those of the transport."""
    svc = cluster.service("secret.prod", replicas=1, tls=True, mtls=True)
    try:
        ip, port = svc[0].address.rsplit(":", 1)
        options = {"verify": cluster.ca_file, "cert": cluster.client_cert, "server_hostname": "secret.prod"}
        lb = kubelb.LoadBalancer("static:///127.0.0.1:9")
        client = world.client(lb, tls=options)
        session = requests.Session()
        mount(session, lb, hosts=[ip], **options)
        with lb, session, kubelb.disabled():
            assert world.get(client, f"https://{ip}:{port}/").status_code == 200
            assert session.get(f"https://{ip}:{port}/", timeout=5).status_code == 200
    finally:
        cluster.delete_service(svc)


def test_a_block_is_a_threads_and_a_tasks_own():
    """Tasks begun inside have it, as has asyncio.to_thread; another thread, and what came before, have not."""
    lb = kubelb.LoadBalancer(
        "reviews.prod:8080", discovery=kubelb.DiscoveryOptions(seed=["127.0.0.1:7"], kubeconfig="/nonexistent")
    )
    pod, name = "127.0.0.1:7", "reviews.prod.svc.cluster.local:8080"

    async def answer(attempt: kubelb.Attempt) -> str:
        return attempt.endpoint.authority

    async def address() -> str:
        return await lb.acall(answer)

    async def main() -> list[str]:
        before = asyncio.create_task(address())
        with kubelb.disabled(), kubelb.disabled():
            inside = asyncio.create_task(address())
            there = await asyncio.to_thread(lb.call, lambda attempt: attempt.endpoint.authority)
        return [await before, await inside, there, await address()]

    with lb:
        assert asyncio.run(main()) == [pod, name, name, pod]
        found = []
        with kubelb.disabled():
            thread = threading.Thread(target=lambda: found.append(lb.call(lambda a: a.endpoint.authority)))
            thread.start()
            thread.join()
        assert found == [pod]


@pytest.mark.parametrize(
    ("target", "options", "address"),
    [
        ("reviews.prod:8080", {}, "reviews.prod.svc.cluster.local:8080"),
        ("reviews.prod:http", {"fallback_port": 80}, "reviews.prod.svc.cluster.local:80"),
        ("reviews.prod:http", {"fallback_port": 80, "cluster_domain": "k8s.test"}, "reviews.prod.svc.k8s.test:80"),
        ("dns:///db.example:5432", {"fallback_port": 1}, "db.example:5432"),
        ("dns+srv:///_http._tcp.db.example", {"fallback_port": 80}, "db.example:80"),
        ("static:///127.0.0.1:9,127.0.0.2:9", {}, "127.0.0.1:9"),
    ],
)
def test_a_call_has_the_services_own_name(target, options, address):
    """Once, with what is left of the time; and its error comes as it is."""
    calls = []

    def fail(attempt: kubelb.Attempt) -> None:
        calls.append((attempt.endpoint.authority, attempt.number, attempt.timeout))
        raise kubelb.NeverSent from ConnectionError("refused")

    with kubelb.LoadBalancer(target, **spelled(options)) as lb, kubelb.disabled():
        with pytest.raises(ConnectionError, match="refused"):
            lb.call(fail, deadline=2.0)
        assert calls == [(address, 1, 2.0)]

        async def afail(attempt: kubelb.Attempt) -> None:
            fail(attempt)

        with pytest.raises(ConnectionError, match="refused"):
            asyncio.run(lb.acall(afail, deadline=2.0))
        assert len(calls) == 2
        with pytest.raises(kubelb.DeadlineExceeded):
            lb.call(fail, deadline=0)
        with pytest.raises(kubelb.DeadlineExceeded, match="no answer"):
            asyncio.run(lb.acall(lambda attempt: asyncio.sleep(5), deadline=0.01))
        with pytest.raises(TypeError):
            lb.call(lambda attempt: asyncio.sleep(0))


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("reviews.prod=127.0.0.1:7+127.0.0.1:8", "127.0.0.1:7"),
        ("reviews.prod:http=reviews.prod.svc.cluster.local:80", "reviews.prod.svc.cluster.local:80"),
        ("other.prod=127.0.0.1:7", "reviews.prod.svc.cluster.local:9"),
    ],
)
def test_the_address_that_the_environment_gives(monkeypatch, entry, address):
    """Both variables count: on a laptop no Service's name is found, and a port's number needs no release."""
    monkeypatch.setenv("KUBELB_TARGETS", entry)
    with kubelb.LoadBalancer(TARGET, discovery=kubelb.DiscoveryOptions(fallback_port=9)) as lb, kubelb.disabled():
        assert lb.call(lambda attempt: attempt.endpoint.authority) == address


def test_a_port_without_a_number_is_refused():
    """Only the API server knows it: the error says what to give."""
    with (
        kubelb.LoadBalancer(TARGET) as lb,
        kubelb.disabled(),
        pytest.raises(kubelb.NoEndpoints, match="fallback_port="),
    ):
        lb.call(lambda attempt: None)


@pytest.mark.parametrize("value", ["1", "true", " YES ", "on", "please"])
def test_what_switches_off(monkeypatch, caplog, value):
    """Anything but a no; and a line of the log says so, and what has no address then."""
    monkeypatch.setenv("KUBELB_DISABLE", value)
    assert switched_off()
    with caplog.at_level(logging.WARNING, "kubelb"):
        kubelb.LoadBalancer(TARGET).close()
    assert "reviews.prod:http: KUBELB_DISABLE is set" in caplog.text
    assert "gRPC and LoadBalancer.call are refused" in caplog.text
    assert "fallback_port=" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "kubelb"):
        kubelb.LoadBalancer(TARGET, discovery=kubelb.DiscoveryOptions(fallback_port=80)).close()
    assert "KUBELB_DISABLE is set" in caplog.text
    assert "refused" not in caplog.text


@pytest.mark.parametrize("value", ["", "0", "False", "no", "OFF"])
def test_what_does_not(monkeypatch, value):
    """The usual ways to say no."""
    monkeypatch.setenv("KUBELB_DISABLE", value)
    assert not switched_off()


def test_a_forked_child_opens_connections_of_its_own(world, by_name, front):
    """What a parent has opened on the plain way is the parent's."""
    if world.aio:
        return
    with kubelb.LoadBalancer(TARGET) as lb, kubelb.disabled():
        client = world.client(lb)
        url = f"http://reviews.prod:{front.port}/"
        world.get(client, url)
        transport = client._transport
        assert len(transport._plain) == 1
        child = os.fork()
        if child == 0:
            os._exit(len(transport._plain))
        assert os.waitpid(child, 0)[1] == 0
        assert world.get(client, url).text == "plain"
