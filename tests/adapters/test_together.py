"""Every client on one load balancer: what one learns of a pod, the others know."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests
from tests.adapters.conftest import in_flight

import kubelb
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.adapters.requests import mount

URL = "http://reviews.prod/"


def by_httpx(lb: kubelb.LoadBalancer, count: int) -> list[int]:
    with httpx.Client(transport=Transport(lb)) as client:
        return [client.get(URL).status_code for _ in range(count)]


def by_asyncio(lb: kubelb.LoadBalancer, count: int) -> list[int]:
    async def main() -> list[int]:
        async with httpx.AsyncClient(transport=AsyncTransport(lb)) as client:
            return [(await client.get(URL)).status_code for _ in range(count)]

    return asyncio.run(main())


def by_requests(lb: kubelb.LoadBalancer, count: int) -> list[int]:
    with requests.Session() as session:
        mount(session, lb, hosts=["reviews.prod"])
        return [session.get(URL, timeout=5).status_code for _ in range(count)]


def by_call(lb: kubelb.LoadBalancer, count: int) -> list[int]:
    def ask(attempt: kubelb.Attempt) -> int:
        with socket.create_connection(attempt.endpoint.address, timeout=5) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: reviews.prod\r\nConnection: close\r\n\r\n")
            status = int(sock.makefile("rb").readline().split()[1])
        if status >= 500:
            raise ConnectionError(status)
        return status

    return [lb.call(ask, idempotent=True) for _ in range(count)]


CLIENTS = [by_httpx, by_asyncio, by_requests, by_call]


@pytest.mark.parametrize("first", CLIENTS)
def test_who_fails_one_client_is_avoided_by_all(first: Callable[..., list[int]], service: Any, balance: Any) -> None:
    """Ejected because of one client's requests, a pod gets none of the others'."""
    pods = service(3)
    pods[1].fail(503)
    lb = balance(*pods, policy="round_robin", outliers=kubelb.OutlierDetection(base_ejection=60.0))
    assert set(first(lb, 40)) == {200}
    assert [view.state for view in lb.endpoints()] == ["ready", "ejected", "ready"]
    before = pods[1].requests
    for other in CLIENTS:
        assert set(other(lb, 10)) == {200}
    assert pods[1].requests == before
    assert in_flight(lb) == 0


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_one_slow_pod_of_five_gets_little(client: Callable[..., list[int]], service: Any, balance: Any) -> None:
    """By peak EWMA a pod that takes a second gets less than half of its share of 100 requests.

    A peak is remembered: after one hiccup of a busy machine that is longer than the slow pod's second, peak EWMA
    would be right to prefer the slow pod to the one that had it.
    """
    pods = service(5)
    pods[0].slow(1.0)
    lb = balance(*pods)
    assert set(client(lb, 100)) == {200}
    assert 1 <= pods[0].requests < 10
    assert sum(pod.requests for pod in pods) == 100
