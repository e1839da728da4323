"""A deadline of zero or less is over already, whatever gives it and whatever client asks: nothing is sent.

Callers hand on what is left of a budget, and that may be nothing. asyncio and gRPC have the same rule.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import requests

import kubelb
from kubelb.adapters import grpc as over_grpc
from kubelb.adapters.grpc import aio
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.adapters.requests import mount
from kubelb.service import service_of

URL = "http://127.0.0.1:1/"
LATE = grpc.StatusCode.DEADLINE_EXCEEDED


async def never(_: kubelb.Attempt) -> None:
    pytest.fail("it was called")


def by_requests(lb: kubelb.LoadBalancer, _: float | None) -> None:
    with requests.Session() as session:
        mount(session, lb, hosts=["127.0.0.1"])
        session.get(URL)


def by_httpx(lb: kubelb.LoadBalancer, deadline: float | None) -> None:
    with httpx.Client(transport=Transport(lb)) as client:
        client.get(URL, extensions={} if deadline is None else {"kubelb": {"deadline": deadline}})


async def by_async_httpx(lb: kubelb.LoadBalancer, deadline: float | None) -> None:
    async with httpx.AsyncClient(transport=AsyncTransport(lb)) as client:
        await client.get(URL, extensions={} if deadline is None else {"kubelb": {"deadline": deadline}})


def by_grpc(lb: kubelb.LoadBalancer, timeout: float | None) -> None:
    with over_grpc.insecure_channel(lb) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.unary_stream("/a.B/C")(b"", timeout=timeout))
        assert caught.value.code() is LATE  # type: ignore[attr-defined]
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/a.B/C").future(b"", timeout=timeout).result()
        assert caught.value.code() is LATE  # type: ignore[attr-defined]
        channel.unary_unary("/a.B/C")(b"", timeout=timeout)


async def by_aio(lb: kubelb.LoadBalancer, left: float | None) -> None:
    async with aio.insecure_channel(lb) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in channel.unary_stream("/a.B/C")(b"", timeout=left):
                pass
        assert caught.value.code() is LATE
        await channel.unary_unary("/a.B/C")(b"", timeout=left)


WAYS: dict[str, tuple[Callable[..., Any], type[Exception]]] = {
    "call": (lambda lb, deadline: lb.call(never, deadline=deadline), kubelb.DeadlineExceeded),
    "acall": (lambda lb, deadline: asyncio.run(lb.acall(never, deadline=deadline)), kubelb.DeadlineExceeded),
    "requests": (by_requests, requests.Timeout),
    "httpx": (by_httpx, httpx.TimeoutException),
    "httpx, asyncio": (lambda lb, deadline: asyncio.run(by_async_httpx(lb, deadline)), httpx.TimeoutException),
    "gRPC": (by_grpc, grpc.RpcError),
    "gRPC, asyncio": (lambda lb, deadline: asyncio.run(by_aio(lb, deadline)), grpc.aio.AioRpcError),
}


@pytest.fixture
def lb() -> Iterator[kubelb.LoadBalancer]:
    """Two endpoints at which nothing listens."""
    with kubelb.LoadBalancer("static:///127.0.0.1:1,127.0.0.2:1", retry=None) as lb:
        yield lb
        assert [(state.picks, state.failures) for state in service_of(lb).balancer.states()] == [(0, 0)] * 2


@pytest.mark.parametrize("deadline", [0, -1.0])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "requests"])
def test_with_the_call(lb: kubelb.LoadBalancer, way: str, deadline: float) -> None:
    """As an argument, an extension, gRPC's own timeout."""
    call, late = WAYS[way]
    with pytest.raises(late) as caught:
        call(lb, deadline)
    assert isinstance(caught.value, kubelb.DeadlineExceeded)


@pytest.mark.parametrize("deadline", [0, -1.0])
@pytest.mark.parametrize("way", WAYS)
def test_around_the_call(lb: kubelb.LoadBalancer, way: str, deadline: float) -> None:
    """`kubelb.hints` says the same; to enter such a block is no error, for it may hold other work."""
    call, late = WAYS[way]
    with kubelb.hints(deadline=deadline), pytest.raises(late) as caught:
        call(lb, None)
    assert isinstance(caught.value, kubelb.DeadlineExceeded)
