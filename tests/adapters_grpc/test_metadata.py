"""Kind: one object that several tries share. An interceptor changes metadata in place: neither the next try nor the
caller may see it."""

from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import each_way, on_loop
from tests.adapters_grpc.test_aio_interceptors import each_kind
from tests.adapters_grpc.test_failures import EACH, aborts

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio

GIVEN = {
    "tuple": lambda: (("a", "b"),),
    "list": lambda: [("a", "b")],
    "Metadata": lambda: grpc.aio.Metadata(("a", "b")),
    "iterator": lambda: iter([("a", "b")]),
    "None": lambda: None,
}
TWICE = kubelb.Retry(wait=kubelb.FullJitter(0, 0))


class Adds(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """An instrumentation's: adds to what it is given where that can be added to."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = details.metadata
        add = getattr(metadata, "append", None) or (lambda pair: getattr(metadata, "add", print)(*pair))
        self.seen.append(sum(key == "x-trace" for key, _ in metadata or ()))
        if isinstance(metadata, list | grpc.aio.Metadata):
            add(("x-trace", "1"))
        return continuation(details, request)

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = intercept_unary_unary


@pytest.mark.parametrize("way", EACH)
@pytest.mark.parametrize("given", GIVEN)
def test_each_try_has_its_own(server: Any, balance: Any, monkeypatch: Any, way: Any, given: str) -> None:
    """Every kind of sync call, whatever the metadata are given as."""
    adds, make = Adds(), grpc.insecure_channel
    monkeypatch.setattr(
        grpc, "insecure_channel", lambda *said, **named: grpc.intercept_channel(make(*said, **named), adds)
    )
    alone, metadata = server(), GIVEN[given]()
    alone.behave = aborts(grpc.StatusCode.UNAVAILABLE, 1)
    with balanced.insecure_channel(balance(alone, retry=TWICE), idempotent=True) as channel:
        assert way(channel, metadata=metadata, timeout=20)
    assert adds.seen == [0, 0]
    if given in ("list", "Metadata"):
        assert list(metadata) == [("a", "b")]


@pytest.mark.parametrize("way", each_way)
@pytest.mark.parametrize("given", GIVEN)
@on_loop
async def test_and_for_asyncio(server: Any, balance: Any, way: Any, given: str) -> None:
    """Every kind of call of asyncio."""
    seen: list[int] = []

    async def adds(continuation: Any, details: Any, request: Any) -> Any:
        seen.append(len(details.metadata.get_all("x-trace")))
        details.metadata.add("x-trace", "1")
        return await continuation(details, request)

    alone, metadata = server(), GIVEN[given]()
    alone.behave = aborts(grpc.StatusCode.UNAVAILABLE, 1)
    lb = balance(alone, retry=TWICE)
    async with aio.insecure_channel(lb, interceptors=each_kind(adds), idempotent=True) as channel:
        assert await way(channel, metadata=metadata, timeout=20)
    assert seen == [0, 0]
    if given in ("list", "Metadata"):
        assert list(metadata) == [("a", "b")]
