"""Agents that wrap the connections of httpcore, as elastic-apm does to send its trace along: kubelb's are wrapped, too.

The kind: a class of kubelb's takes the place of a library's that agents patch, and what they put around its method is
never called. The trace ended at every transport with `http2=True`, also where the pod spoke HTTP/1.1.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpcore
import httpx
import pytest
import wrapt
from tests.faults.http2_pod import Pod

from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.testing import LocalCluster

HEADER = (b"x-ask", b"traced")
PROTOCOLS = [{}, {"http2": True}, {"http1": False, "http2": True}]


@pytest.fixture
def wrapped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of connections, wrapped as agents do; in here the hosts that they were called for."""
    called: list[str] = []

    def sync(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        called.append(args[0].url.host.decode())
        args[0].headers.append(HEADER)
        return wrapped(*args, **kwargs)

    async def aio(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        called.append(args[0].url.host.decode())
        args[0].headers.append(HEADER)
        return await wrapped(*args, **kwargs)

    for kind, method, around in (
        (httpcore.HTTPConnection, "handle_request", sync),
        (httpcore.AsyncHTTPConnection, "handle_async_request", aio),
    ):
        monkeypatch.setattr(kind, method, wrapt.FunctionWrapper(vars(kind)[method], around))
    return called


@pytest.fixture(params=PROTOCOLS, ids=["HTTP/1.1", "HTTP/2 offered", "HTTP/2"])
def pod(request: Any) -> Iterator[Any]:
    """An address, options for a transport to it, and what tells how many requests came with the header."""
    if request.param.get("http1", True):
        with LocalCluster() as cluster:
            (backend,) = cluster.service("reviews.prod", replicas=1)
            yield backend.address, request.param, lambda: sum("x-ask" in each.headers for each in backend.log)
    else:
        server = Pod()
        yield server.address, request.param, lambda: server.delivered["traced"]
        server.close()


def test_sync(wrapped, pod):
    """Called once for each request, under the Service's name; what it adds reaches the pod."""
    address, options, traced = pod
    with httpx.Client(transport=Transport(f"static:///{address}", **options)) as client:
        assert [client.get("http://reviews.prod/").status_code for _ in range(2)] == [200, 200]
    assert wrapped == ["reviews.prod"] * 2
    assert traced() == 2


def test_asyncio(wrapped, pod):
    """The same for asyncio."""
    address, options, traced = pod

    async def main() -> None:
        async with httpx.AsyncClient(transport=AsyncTransport(f"static:///{address}", **options)) as client:
            assert [(await client.get("http://reviews.prod/")).status_code for _ in range(2)] == [200, 200]

    asyncio.run(main())
    assert wrapped == ["reviews.prod"] * 2
    assert traced() == 2
