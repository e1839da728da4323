"""The kind of fault: an address that is another pod's by the time it is looked up. Its pod's name stands beside it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
import requests

import kubelb
from kubelb.adapters.grpc import insecure_channel
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.adapters.requests import answered_by, mount
from kubelb.model import Endpoint, Snapshot
from kubelb.service import service_of
from kubelb.testing import Service
from telemetry.kit import Sdk, said

POD = "reviews-7f9c"
NAMED = f"{POD}\x1b[31m\nWARNING"
"""What a cluster says is made fit to be printed."""


def balancer(sdk: Sdk, pods: Service, pod: str = NAMED) -> kubelb.LoadBalancer:
    """One over the first pod, as discovery knows it."""
    lb = kubelb.LoadBalancer(f"static:///{pods[0].address}", policy="round_robin", telemetry=sdk.telemetry())
    ip, port = pods[0].address.rsplit(":", 1)
    service_of(lb)._publish(Snapshot(2, (Endpoint(ip, int(port), pod=pod),)))
    return lb


def by_httpx(lb: kubelb.LoadBalancer) -> Any:
    with httpx.Client(mounts={"all://": Transport(lb)}) as client:
        return client.get("http://reviews.prod").extensions["kubelb"]


def by_asyncio(lb: kubelb.LoadBalancer) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient(mounts={"all://": AsyncTransport(lb)}) as client:
            return (await client.get("http://reviews.prod")).extensions["kubelb"]

    return asyncio.run(main())


def by_requests(lb: kubelb.LoadBalancer) -> Any:
    with requests.Session() as session:
        mount(session, lb, hosts=["reviews.prod"])
        return answered_by(session.get("http://reviews.prod", timeout=5))


@pytest.mark.parametrize("way", [by_httpx, by_asyncio, by_requests])
def test_a_response_names_it(sdk: Sdk, pods: Service, way: Callable[[kubelb.LoadBalancer], Any]) -> None:
    """And so does the attempt's span."""
    with balancer(sdk, pods) as lb:
        assert way(lb) == {"endpoint": pods[0].address, "pod": f"{POD} WARNING", "attempts": 1}
    _, (attempt,) = sdk.call()
    assert said(attempt)["kubelb.endpoint.pod"] == f"{POD} WARNING"


def test_where_none_is_known(sdk: Sdk, pods: Service) -> None:
    """As from DNS: the response has an empty name, and the span no attribute."""
    with balancer(sdk, pods, "") as lb:
        assert by_httpx(lb)["pod"] == ""
    _, (attempt,) = sdk.call()
    assert "kubelb.endpoint.pod" not in said(attempt)


def test_spans_of_grpc_and_of_calls(sdk: Sdk, rpc_pods: Service) -> None:
    """The same attribute."""
    with balancer(sdk, rpc_pods, POD) as lb:
        with insecure_channel(lb) as channel:
            grpc.channel_ready_future(channel).result(10)
            channel.unary_unary("/kubelb.testing.Echo/Unary")(b"", timeout=5, wait_for_ready=True)
        lb.call(lambda attempt: attempt)
    attempts = [span for span in sdk.spans() if not span.name.startswith("kubelb ")]
    assert len(attempts) == 2
    assert {said(span)["kubelb.endpoint.pod"] for span in attempts} == {POD}


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.DEBUG, logger="kubelb")
    yield caplog


def test_the_log_names_it(sdk: Sdk, pods: Service, heard: pytest.LogCaptureFixture) -> None:
    """Of pods that come, and of what happens to them; metrics name none."""

    def ask(attempt: kubelb.Attempt) -> None:
        if attempt.endpoint.ip == "10.0.0.0":
            raise kubelb.NeverSent

    with balancer(sdk, pods, POD) as lb:
        service_of(lb)._publish(Snapshot(3, tuple(Endpoint(f"10.0.0.{n}", 80, pod=f"{POD}{n}") for n in range(3))))
        for _ in range(100):
            lb.call(ask)
        assert POD not in str(sdk.reader.get_metrics_data().to_json())
        service_of(lb)._telling._log._churn.flush()
    lines = [record.getMessage() for record in heard.records]
    assert sum(f"10.0.0.0:80 ({POD}0) ejected" in line for line in lines) == 1
    for line in lines:
        for n in range(3):
            assert f"10.0.0.{n}:80" not in line or f"10.0.0.{n}:80 ({POD}{n})" in line, line
