"""Elasticsearch's and OpenSearch's clients, whose nodes are clients of requests or httpx that kubelb is mounted on."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import elastic_transport
import elasticsearch
import httpx
import opensearchpy
import pytest
from tests.companions.pods import counts, in_flight, serving

import kubelb
from kubelb.adapters.httpx import async_mounts
from kubelb.adapters.requests import mount
from kubelb.testing import Received, Reply, Service

URL = "http://search.prod:9200"


def handler(request: Received) -> Reply:
    """A document for a GET, a hit for a search."""
    # Without the first header Elasticsearch's client takes it for another product.
    headers = {"x-elastic-product": "Elasticsearch", "content-type": "application/json"}
    answer: Any = {"_id": "1", "found": True, "_source": {"stars": 5}}
    if request.path.endswith("_search"):
        answer = {"hits": {"total": {"value": 1}, "hits": [answer]}}
    return Reply(200, json.dumps(answer), headers)


@pytest.fixture
def pods() -> Iterator[tuple[Service, kubelb.LoadBalancer]]:
    with serving("search.prod", handler) as pair:
        yield pair


def by_elasticsearch(lb: kubelb.LoadBalancer, **options: Any) -> Any:
    class Node(elastic_transport.RequestsHttpNode):
        def __init__(self, config: elastic_transport.NodeConfig) -> None:
            super().__init__(config)
            mount(self.session, lb)

    return elasticsearch.Elasticsearch(URL, node_class=Node, **options)


def by_opensearch(lb: kubelb.LoadBalancer, **options: Any) -> Any:
    class Connection(opensearchpy.RequestsHttpConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            mount(self.session, lb)

    return opensearchpy.OpenSearch(URL, connection_class=Connection, **options)


BOTH = pytest.mark.parametrize("make", [by_elasticsearch, by_opensearch])


def stars(client: Any) -> int:
    return client.get(index="reviews", id="1")["_source"]["stars"]


def hits(client: Any) -> int:
    return client.search(index="reviews", body={"query": {"match_all": {}}})["hits"]["total"]["value"]


@BOTH
def test_a_client(pods, make):
    """One node to the client, three pods to kubelb; a dead one is not noticed."""
    service, lb = pods
    client = make(lb)
    assert [stars(client) for _ in range(6)] == [5] * 6
    assert counts(service) == [2, 2, 2]
    assert hits(client) == 1
    assert {request.headers["host"] for pod in service for request in pod.log} == {"search.prod:9200"}
    service[0].kill()
    assert [stars(client) for _ in range(6)] == [5] * 6
    assert counts(service)[0] <= 1
    client.close()
    assert in_flight(lb) == 0


@BOTH
@pytest.mark.parametrize(("options", "own"), [({}, 4), ({"max_retries": 0}, 1)], ids=["both repeat", "kubelb alone"])
def test_tries_multiply(pods, make, options, own):
    """Where all pods fail: four tries of the client's times three of kubelb's, one for a POST; or one of its own."""
    service, lb = pods
    for pod in service:
        pod.fail(503)
    client = make(lb, **options)
    with pytest.raises((elasticsearch.ApiError, opensearchpy.TransportError)):
        stars(client)
    assert sum(counts(service)) == own * 3
    with pytest.raises((elasticsearch.ApiError, opensearchpy.TransportError)):
        hits(client)
    assert sum(counts(service)) == own
    client.close()


@BOTH
def test_what_it_raises(pods, make):
    """Its own exceptions, with kubelb's words in them."""
    _, lb = pods
    client = make(lb, max_retries=0)
    lb.close()
    with pytest.raises((elasticsearch.ConnectionError, opensearchpy.ConnectionError)) as caught:
        stars(client)
    error: Any = caught.value
    if make is by_elasticsearch:
        assert "the load balancer is closed" in error.message
    else:
        assert isinstance(error.info, kubelb.Closed)
    client.close()


def test_asyncio(pods):
    """Elasticsearch's asyncio client has a node of httpx's."""
    service, lb = pods

    class Node(elastic_transport.HttpxAsyncHttpNode):
        def __init__(self, config: elastic_transport.NodeConfig) -> None:
            super().__init__(config)
            self.client = httpx.AsyncClient(base_url=self.base_url, mounts=async_mounts(lb))

    async def main() -> None:
        async with elasticsearch.AsyncElasticsearch(URL, node_class=Node) as client:
            answers = await asyncio.gather(*(client.get(index="reviews", id="1") for _ in range(9)))
            assert [answer["_source"]["stars"] for answer in answers] == [5] * 9
            assert counts(service) == [3, 3, 3]
            service[0].kill()
            for _ in range(4):
                assert (await client.get(index="reviews", id="1"))["found"]
            assert counts(service)[0] <= 1

    asyncio.run(main())
    assert in_flight(lb) == 0
