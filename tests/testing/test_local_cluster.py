"""A cluster begins, ends, and hides what is secret; over TLS and in asyncio too."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import urllib3
from tests.stalls import elapsed

import kubelb.testing
from kubelb.testing import LocalCluster

from .helpers import ask, event, until, watching


def test_it_ends_within_a_second_whatever_is_under_way(http: urllib3.PoolManager) -> None:
    """Watches, hanging and slow requests, streams, frozen: no thread, no descriptor, no warning is left."""
    threads, descriptors = threading.active_count(), open_descriptors()
    cluster = LocalCluster().start()
    svc = cluster.service("reviews.prod", replicas=5)
    svc[0].hang()
    svc[1].slow(60.0)
    svc[2].drip(1, 60.0)
    socks = [socket.create_connection((backend.host, backend.port)) for backend in svc]
    for sock in socks[:3]:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    socks[3].sendall(b"GET /stream?chunks=1000&size=100000 HTTP/1.1\r\nHost: x\r\n\r\n")
    svc[4].drain(grace=60.0)
    with watching(cluster, http):
        until(lambda: sum(backend.in_flight for backend in svc) == 4)
        cluster.api.freeze()
        assert elapsed(cluster.close).own < 1.0
    cluster.close()
    for sock in socks:
        sock.close()
    http.clear()
    gc.collect()
    until(lambda: threading.active_count() <= threads)  # those of tests before may end meanwhile
    assert open_descriptors() <= descriptors
    assert "closed" in repr(cluster)
    with pytest.raises(RuntimeError, match="closed"):
        cluster.service("x")


def open_descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        return 0


def test_fifty_clusters_leave_nothing(http: urllib3.PoolManager) -> None:
    """Started and closed in turn."""
    LocalCluster().start().close()
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(50):
        with LocalCluster() as cluster:
            svc = cluster.service("reviews.prod", replicas=2)
            http.request("GET", f"http://{svc[0].address}/")
    http.clear()
    gc.collect()
    assert threading.active_count() <= threads
    assert open_descriptors() <= descriptors + 1


def test_its_folder_goes_with_it() -> None:
    """The kubeconfig is private to its owner, and gone afterwards."""
    with LocalCluster() as cluster:
        path = Path(cluster.kubeconfig)
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        config = json.loads(path.read_text())
        assert config["clusters"][0]["cluster"] == {"server": cluster.url}
        assert config["users"][0]["user"] == {"token": cluster.token}
        other = json.loads(Path(cluster.kubeconfig_for("t", namespace="prod")).read_text())
        assert (other["users"][0]["user"]["token"], other["contexts"][0]["context"]["namespace"]) == ("t", "prod")
        assert Path(cluster.serviceaccount, "namespace").read_text() == "default"
    assert not path.exists()


def test_before_it_is_started_it_says_so() -> None:
    """A service needs a running cluster."""
    with pytest.raises(RuntimeError, match="has not been started"):
        LocalCluster().service("reviews.prod")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_holds_nothing_open(cluster: LocalCluster) -> None:
    """A kill is a reset and a closed port also while a child lives, and the child cannot close its parent's cluster."""
    backend = cluster.service("reviews.prod")[0]
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        until(lambda: backend.connections == 1)
        reading, writing = os.pipe()
        hearing, saying = os.pipe()
        child = os.fork()
        if child == 0:
            cluster.close()
            os.write(saying, b"x")
            os.read(reading, 1)
            os._exit(0)
        os.read(hearing, 1)  # a child lets go of what it inherits as soon as it runs, which may be later than now
        backend.kill()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((backend.host, backend.port), timeout=1.0)
        os.write(writing, b"x")
        os.waitpid(child, 0)
        for end in (reading, writing, hearing, saying):
            os.close(end)
    assert Path(cluster.kubeconfig).exists()
    backend.heal()
    assert backend.answers()


def test_async_with() -> None:
    """The loop runs on while the cluster ends."""

    async def use() -> bytes:
        async with LocalCluster() as cluster:
            backend = cluster.service("reviews.prod")[0]
            reader, writer = await asyncio.open_connection(backend.host, backend.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
            return head

    assert asyncio.run(use()).startswith(b"HTTP/1.1 200 OK")


def test_over_tls() -> None:
    """The API and a backend, each verified by the CA; the kubeconfig and the pod's mount carry it."""
    with LocalCluster(tls=True) as cluster:
        http = urllib3.PoolManager(retries=False, ca_certs=cluster.ca_file, timeout=5.0)
        assert cluster.url.startswith("https://127.0.0.1:")
        config = json.loads(Path(cluster.kubeconfig).read_text())
        assert config["clusters"][0]["cluster"]["certificate-authority"] == cluster.ca_file
        assert Path(cluster.serviceaccount, "ca.crt").read_text() == cluster.ca_pem
        svc = cluster.service("reviews.prod", tls=True)
        with watching(cluster, http) as (_, pieces):
            assert event(next(pieces))[0] == "ADDED"
        cluster.api.wait_for_watchers(0)
        assert ask(cluster, http).status == 200
        for name in ("reviews.prod", "reviews.prod.svc", "reviews.prod.svc.cluster.local"):
            assert tls_get(cluster, svc[0].host, svc[0].port, name).startswith(b"HTTP/1.1 200 OK")
        with pytest.raises(ssl.SSLCertVerificationError):
            tls_get(cluster, svc[0].host, svc[0].port, "ratings.prod")
        http.clear()


def tls_get(cluster: LocalCluster, host: str, port: int, name: str) -> bytes:
    context = ssl.create_default_context(cafile=cluster.ca_file)
    with (
        socket.create_connection((host, port), timeout=3.0) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return sock.recv(65536)


def test_faults_over_tls() -> None:
    """A kill is a reset, a frozen server does not shake hands, and it closes in time."""
    with LocalCluster(tls=True) as cluster:
        backend = cluster.service("reviews.prod", tls=True)[0]
        context = ssl.create_default_context(cafile=cluster.ca_file)
        with (
            socket.create_connection((backend.host, backend.port), timeout=3.0) as plain,
            context.wrap_socket(plain, server_hostname="reviews.prod") as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
            backend.hang()
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: backend.in_flight == 1)
            backend.kill()
            with pytest.raises(ConnectionResetError):
                socket.socket.recv(sock, 1)  # below TLS: no alert, no FIN
        cluster.api.freeze()
        host, _, port = cluster.url.removeprefix("https://").partition(":")
        with socket.create_connection((host, int(port)), timeout=0.1) as plain, pytest.raises(TimeoutError):
            context.wrap_socket(plain, server_hostname="localhost")
        began = time.monotonic()
    assert time.monotonic() - began < 3.0  # a handshake that nobody answers


def test_without_trustme_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ImportError with the command, and nothing left running."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    threads = threading.active_count()
    with pytest.raises(ImportError, match=r"pip install 'kubelb\[testing\]'"):
        LocalCluster(tls=True).start()
    until(lambda: threading.active_count() <= threads)  # those of tests before may end meanwhile


def test_reprs_keep_secrets(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """No token in any of them."""
    svc = cluster.service("reviews.prod")
    http.request("GET", f"http://{svc[0].address}/", headers={"Authorization": f"Bearer {cluster.token}"})
    shown = [cluster, cluster.api, svc, svc[0], *svc[0].log, *cluster.api.requests, *vars(cluster.api).values()]
    assert cluster.token not in repr(shown)


def test_names_of_services(cluster: LocalCluster) -> None:
    """NAME.NAMESPACE or NAME; not twice."""
    assert cluster.service("reviews").address == "reviews.default:http"
    assert cluster.service("plain.prod", port_name="").address == "plain.prod:8080"
    for bad in ("", "a.b.c", ".prod", "a."):
        with pytest.raises(ValueError, match="NAME or NAME"):
            cluster.service(bad)
    with pytest.raises(ValueError, match="already"):
        cluster.service("reviews.default")
    assert [service.name for service in cluster.services] == ["reviews", "plain"]


def test_slices_by_hand(cluster: LocalCluster) -> None:
    """Whatever is in them; the server adds what servers add."""
    stored = cluster.apply_slice({"metadata": {"name": "odd"}, "addressType": "Smoke", "endpoints": 7})
    assert stored["metadata"]["namespace"] == "default"
    assert stored["endpoints"] == 7
    assert cluster.slices("default") == [stored]
    assert cluster.delete_slice("default", "odd")
    assert not cluster.delete_slice("default", "odd")
    with pytest.raises(ValueError, match=r"metadata\.name"):
        cluster.apply_slice({"metadata": {}})


def test_clusters_side_by_side() -> None:
    """Each has addresses of its own, also with services of the same name."""
    with LocalCluster() as one, LocalCluster() as other:
        hosts = [backend.host for cluster in (one, other) for backend in cluster.service("reviews.prod", replicas=20)]
        assert len(set(hosts)) == 40


def test_a_taken_port_is_replaced_by_another() -> None:
    """Where a server of this machine has 8080 on every address."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))  # never on all addresses: only loopback is ours
        with LocalCluster(single_address=True) as cluster:
            svc = cluster.service("reviews.prod", replicas=2)
            svc.wait_ready()
            assert taken.getsockname()[1] not in {backend.port for backend in svc}


def test_exports_are_lazy_and_complete() -> None:
    """pytest imports the plugin everywhere: that loads neither the cluster nor what it needs."""
    code = (
        "import sys, kubelb.testing.pytest_plugin;"
        "print([m for m in ('msgspec','ssl','asyncio','urllib3','trustme','kubelb.testing.cluster') if m in sys.modules"
        " and m not in before])"
    )
    code = "import sys, pytest; before = set(sys.modules);" + code
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
    for name in kubelb.testing.__all__:
        assert getattr(kubelb.testing, name).__name__ == name
    assert set(kubelb.testing.__all__) <= set(dir(kubelb.testing))
    with pytest.raises(AttributeError):
        kubelb.testing.Nonsense  # noqa: B018


def test_the_fixture(kubelb_cluster: LocalCluster) -> None:
    """A running cluster."""
    assert kubelb_cluster.url.startswith("http://")


@pytest.mark.kubelb_cluster(lag=0.25, zones=["only"])
def test_the_fixture_takes_options(kubelb_cluster: LocalCluster) -> None:
    """By a marker."""
    assert kubelb_cluster.lag == 0.25
    assert kubelb_cluster.service("reviews.prod")[0].zone == "only"
