"""One health memory: every client at once on the same load balancer, over pods that speak HTTP and gRPC."""

import random
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.clients import Client
from tests.faults.front import Front
from tests.faults.over_grpc import RPC, STREAM, Gate
from tests.faults.scene import CLIENTS
from tests.waiting import until

import kubelb
from kubelb.testing import LocalCluster

GRPC = {RPC, STREAM}


@pytest.fixture
def crew(cluster: LocalCluster) -> Iterator[Any]:
    """Three pods that speak both, one load balancer, and a client of every kind on it."""
    http = cluster.service(f"both{random.getrandbits(40)}.prod", replicas=3)
    rpc = cluster.service(f"both{random.getrandbits(40)}.prod", replicas=3, grpc=Gate().register)
    fronts = [Front(one.address, other.address) for one, other in zip(http, rpc, strict=True)]
    lb = kubelb.LoadBalancer(
        f"static:///{','.join(front.address for front in fronts)}",
        policy="round_robin",
        outliers=kubelb.OutlierDetection(base_ejection=60.0),
        rng=random.Random(7),
    )
    clients = {kind: kind(lb) for kind in CLIENTS}
    for client in clients.values():
        client.connected(3)
    yield SimpleNamespace(http=http.backends, rpc=rpc.backends, lb=lb, clients=clients)
    for client in clients.values():
        client.close()
    lb.close()
    for front in fronts:
        front.close()
    cluster.delete_service(http)
    cluster.delete_service(rpc)


def states(crew: Any) -> list[str]:
    return [view.state for view in crew.lb.endpoints()]


@pytest.mark.parametrize("first", CLIENTS, ids=lambda kind: kind.name)
def test_who_fails_one_client_is_avoided_by_all(crew: Any, first: type[Client]) -> None:
    """A pod whose gRPC fails while its HTTP is well, or the other way round, is ejected by the calls of one client;
    from then on it gets none of anybody's, whatever they speak.
    """
    if first.family in GRPC:
        crew.rpc[1].fail(grpc.StatusCode.UNAVAILABLE)
    else:
        crew.http[1].fail(503)
    for _ in range(40):
        assert crew.clients[first].ask(Ask(Allowed.YES)).how is How.ANSWERED
    assert states(crew) == ["ready", "ejected", "ready"]
    before = crew.http[1].requests, crew.rpc[1].requests
    for kind, client in crew.clients.items():
        for _ in range(4):
            assert client.ask(Ask(Allowed.NO)).how is How.ANSWERED, kind.name
    assert (crew.http[1].requests, crew.rpc[1].requests) == before
    assert sum(view.in_flight for view in crew.lb.endpoints()) == 0


@pytest.mark.slow
def test_all_at_once(crew: Any) -> None:
    """Every client in a thread of its own, a pod that fails them all from then on: nobody sees an error, the pod is
    ejected once for all of them, and nothing is in flight in the end.
    """
    ends: list[End] = []
    for pod in (crew.http[2], crew.rpc[2]):
        pod.fail()

    def work(client: Client) -> None:
        ends.extend(client.ask(Ask(Allowed.YES)) for _ in range(40))

    threads = [threading.Thread(target=work, args=(client,)) for client in crew.clients.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 40 * len(CLIENTS)
    assert [end for end in ends if end.how is not How.ANSWERED] == []
    assert states(crew) == ["ready", "ready", "ejected"]
    # Five in a row, and what was under way meanwhile.
    assert crew.http[2].requests + crew.rpc[2].requests <= 5 + len(CLIENTS)
    assert until(lambda: sum(view.in_flight for view in crew.lb.endpoints()) == 0, 10.0)
