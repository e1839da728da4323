"""Tests of a service that calls `reviews.prod`, without Kubernetes: `pytest examples/testing_with_localcluster.py`."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

import kubelb
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.testing import LocalCluster, Service


@pytest.fixture
def reviews(kubelb_cluster: LocalCluster) -> Service:
    return kubelb_cluster.service("reviews.prod", replicas=3)


@pytest.fixture
def client(kubelb_cluster: LocalCluster, reviews: Service) -> Iterator[httpx.Client]:
    with (
        kubelb.LoadBalancer(
            reviews.address,
            discovery=kubelb.DiscoveryOptions(
                kubeconfig=kubelb_cluster.kubeconfig, nameserver=kubelb_cluster.dns.address
            ),
        ) as lb,
        httpx.Client(mounts={"http://reviews.prod": Transport(lb)}) as client,
    ):
        lb.wait_ready()
        yield client


def test_a_dead_pod_is_nobodys_problem(reviews: Service, client: httpx.Client) -> None:
    reviews[0].kill()
    for _ in range(100):
        assert client.get("http://reviews.prod/ratings/7").status_code == 200
    assert reviews[1].requests + reviews[2].requests == 100


def test_a_failing_pod_is_retried_elsewhere(reviews: Service, client: httpx.Client) -> None:
    reviews[0].fail(503)
    answers = [client.get(f"http://reviews.prod/ratings/{number}").json() for number in range(30)]
    assert {answer["backend"] for answer in answers} == {"reviews-1", "reviews-2"}


def test_what_we_send(reviews: Service, client: httpx.Client) -> None:
    client.post("http://reviews.prod/ratings", json={"stars": 5}, headers={"x-tenant": "blue"})
    (request,) = [request for backend in reviews for request in backend.log]
    assert (request.method, request.path, json.loads(request.body)) == ("POST", "/ratings", {"stars": 5})
    assert (request.headers["host"], request.headers["x-tenant"]) == ("reviews.prod", "blue")


def test_the_api_server_may_be_away(kubelb_cluster: LocalCluster, client: httpx.Client) -> None:
    kubelb_cluster.api.down()
    assert client.get("http://reviews.prod/").status_code == 200


def test_a_rolling_restart_under_load(kubelb_cluster: LocalCluster, reviews: Service) -> None:
    async def load() -> list[int]:
        async with (
            kubelb.LoadBalancer(
                reviews.address,
                discovery=kubelb.DiscoveryOptions(
                    kubeconfig=kubelb_cluster.kubeconfig, nameserver=kubelb_cluster.dns.address
                ),
            ) as lb,
            httpx.AsyncClient(mounts={"http://reviews.prod": AsyncTransport(lb)}) as client,
        ):
            await lb.await_ready()
            restart = asyncio.create_task(asyncio.to_thread(reviews.rolling_restart, grace=0.1))
            statuses = []
            while not restart.done():
                statuses.append((await client.get("http://reviews.prod/")).status_code)
            await restart
            return statuses

    assert set(asyncio.run(load())) == {200}
