"""Connections: a pool for each endpoint, used again while it is worth it, closed with its endpoint, never a child's."""

import gc
import os
import threading

import pytest
from tests.adapters_requests.conftest import URL, Session, in_flight, until

import kubelb
from kubelb.adapters import _requests
from kubelb.adapters.requests import mount
from kubelb.testing import LocalCluster

STREAM = "http://reviews.prod/stream?chunks=5&delay=0.02"


def test_each_endpoint_keeps_its_connection(session, service, balance):
    """Thirty endpoints, one connection each, however often the rounds go: no limit on the number of hosts."""
    svc = service(30)
    client = session(balance(*svc, policy="round_robin"))
    for _ in range(90):
        client.get(URL)
    assert {backend.requests for backend in svc} == {3}
    assert {backend.connections for backend in svc} == {1}


def test_an_idle_connection_is_not_used_again(session, raw, balance, monkeypatch):
    """After four seconds a server may be about to close it; so it is closed here."""
    monkeypatch.setattr(_requests.connections, "KEEPALIVE", 60.0)
    server = raw()
    client = session(balance(server))
    client.get(URL)
    client.get(URL)
    assert server.accepted == 1
    monkeypatch.setattr(_requests.connections, "KEEPALIVE", 0.0)
    client.get(URL)
    assert server.accepted == 2
    assert until(lambda: server.open == 1)


def test_more_at_once_than_are_kept(session, service, balance):
    """`pool_maxsize` bounds what is kept, not what runs."""
    (backend,) = svc = service(1)
    lb = balance(*svc)
    client = session(lb, pool_maxsize=2)
    responses = [client.get(STREAM, stream=True) for _ in range(5)]
    assert in_flight(lb) == 5
    assert all(response.content for response in responses)
    assert until(lambda: backend.connections == 2)
    with pytest.raises(ValueError, match="pool_maxsize"):
        session(lb, pool_maxsize=0)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["read", "close", "drop"])
def test_a_removed_endpoint_finishes_what_runs(cluster, service, end):
    """Its stream goes on; when that has ended, in any way, the last connection to it is closed."""
    svc = service(1)
    name = f"{svc.name}.{svc.namespace}"
    with (
        kubelb.LoadBalancer(svc.address, discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)) as lb,
        Session() as client,
    ):
        adapter = mount(client, lb)
        old = svc[0]
        assert client.get(f"http://{name}/").status_code == 200
        response = client.get(f"http://{name}/stream?chunks=15&delay=0.05", stream=True)
        parts = response.iter_content(10)
        old.drain(grace=0.1)
        svc.scale(1)
        assert until(lambda: old.address not in {view.address for view in lb.endpoints()}, 5)
        assert next(parts)
        assert client.get(f"http://{name}/").status_code == 200
        assert len(adapter._pools) == 2
        if end == "read":
            assert list(parts)
        elif end == "close":
            response.close()
        del response, parts
        gc.collect()
        assert client.get(f"http://{name}/").status_code == 200
        assert len(adapter._pools) == 1
        assert in_flight(lb) == 0


def test_many_threads_share_an_adapter(session, service, balance):
    """Every answer belongs to its request, and nothing is in flight afterwards."""
    svc = service(4)
    lb = balance(*svc)
    client = session(lb)
    adapter = client.get_adapter(URL)
    wrong = []

    def work(number: int) -> None:
        with Session() as own:
            own.mount("http://", adapter)
            for count in range(40):
                path = f"/{number}/{count}"
                if own.get(f"http://reviews.prod{path}").json()["path"] != path:
                    wrong.append(path)
            own.adapters.clear()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert svc.requests == 320
    assert in_flight(lb) == 0


def test_an_adapter_can_be_used_after_close(session, service, balance):
    """As requests' own: close drops the connections, the next request opens others."""
    (backend,) = svc = service(1)
    client = session(balance(*svc))
    client.get(URL)
    client.close()
    assert until(lambda: backend.connections == 0)
    assert client.get(URL).status_code == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_after_use(session, balance):
    """A child opens connections of its own; the parent's, which it inherited, are as they were."""
    with LocalCluster() as cluster:
        backends = cluster.service("forked.prod", replicas=2)
        lb = balance(*backends)
        client = session(lb)
        adapter = client.get_adapter(URL)
        for _ in range(4):
            client.get(URL)
        with client.get(STREAM, stream=True) as response:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    fresh = in_flight(lb) == 0 == len(adapter._pools)
                    code = 0 if fresh and all(client.get(URL).status_code == 200 for _ in range(20)) else 2
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            assert response.content
        assert all(client.get(URL).status_code == 200 for _ in range(20))
        assert sum(backend.connections for backend in backends) <= 3  # the parent's were used again
