"""Internals of others: each private name that kubelb touches is on one page, and is where the page says that it is.

The kind of fault: a release of another package renames something, and the first to notice is a user.
"""

import ast
import asyncio
import importlib
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import opentelemetry.context
import opentelemetry.metrics._internal
import opentelemetry.trace
import pytest
import requests
import urllib3.exceptions
import wrapt

import kubelb

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/development/internals.md").read_text()
LISTED = {part for told in re.findall(r"`([\w.]+)`", PAGE) for part in told.split(".") if part.startswith("_")}

OURS = {
    *("_calling", "_patient", "_opens", "_refusal", "_rpc", "_closed", "_end", "_picking", "_service"),
    *("_asdict", "_fields", "_make", "_replace"),  # public, of named tuples
}
"""Private names that other objects of kubelb's own have."""


def touched() -> set[str]:
    """The private names that are read or set anywhere in the source, but on the object, or class, itself."""
    found: set[str] = set()
    for path in Path(kubelb.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                of = node.value
                itself = isinstance(of, ast.Name) and of.id in {"self", "cls"}
                itself |= isinstance(of, ast.Call) and isinstance(of.func, ast.Name) and of.func.id in {"super", "type"}
                found |= set() if itself else {node.attr}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
                found |= {
                    each.value
                    for each in node.args[1:]
                    if isinstance(each, ast.Constant) and each.value.__class__ is str
                }
    return {name for name in found if name.startswith("_") and not name.endswith("__")}


def test_every_private_name_is_listed() -> None:
    """One that is kubelb's own is in `OURS` here; one of another package's goes on the page, with a check below."""
    assert touched() - OURS <= LISTED
    assert OURS - {"_fields", "_make"} <= touched()


def test_every_listed_name_is_looked_for() -> None:
    """Below, or by the tests of HTTP/2."""
    checked = "".join(
        (ROOT / f"tests/{name}.py").read_text() for name in ("test_internals", "adapters/test_http2_internals")
    )
    below = checked.partition("def test_every_listed_name_is_looked_for")[2]
    assert {name for name in LISTED if name not in below} == set()


def test_the_versions_begin_where_ours_do() -> None:
    """The headings of the page, and the lower bounds in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(each for some in project["optional-dependencies"].values() for each in some)]
    bounds = {name: bound for each in wanted for name, bound in re.findall(r"^([\w-]+)>=([\d.]+)", each)}
    headings = dict(re.findall(r"^## ([\w-]+) ([\d.]+) to", PAGE, re.MULTILINE))
    assert len(headings) == 8
    for name, since in headings.items():
        if name in bounds:
            assert since == bounds[name], name
    assert headings["CPython"] == project["requires-python"].removeprefix(">=")


def test_the_places_are_there() -> None:
    """The kind of fault: a file moves, and the page sends its reader nowhere."""
    source = Path(kubelb.__file__).parent
    for place in re.findall(r"`([\w/]+\.py)`", PAGE):
        if not place.startswith("tests/"):
            assert any((root / place).exists() for root in (source, source / "adapters")), place


def test_cpython() -> None:
    assert sys._getframe().f_code.co_name == "test_cpython"
    assert sys._getframe() in sys._current_frames().values()
    assert hasattr(sys, "_is_gil_enabled") is (sys.version_info >= (3, 13))
    assert sys.modules[__name__].__spec__._initializing is False


def test_opentelemetry() -> None:
    assert hasattr(opentelemetry.trace, "_TRACER_PROVIDER")
    assert hasattr(opentelemetry.metrics._internal, "_METER_PROVIDER")
    keys = "_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"
    assert all(isinstance(getattr(opentelemetry.context, key), str) for key in keys)


def test_wrapt() -> None:
    class Client:
        def send(self) -> str:
            return "sent"

    def around(wrapped: Callable[[], str], instance: object, args: Any, kwargs: Any) -> str:
        return f"{wrapped()} and seen"

    wrapt.wrap_function_wrapper(Client, "send", around)
    assert Client().send() == "sent and seen"
    assert Client.send._self_wrapper is around


@pytest.mark.parametrize("name", ["httpcore", "httpcore2"])
def test_pools_that_are_mended(name: str) -> None:
    core = importlib.import_module(name)
    pool = core.AsyncConnectionPool()
    assert (pool._requests, pool._connections, pool._assign_requests_to_connections()) == ([], [], [])
    assert asyncio.iscoroutinefunction(pool._close_connections)
    streams = importlib.import_module(f"{name}._async.connection_pool").PoolByteStream
    stream = streams(None, "request", pool)
    assert (stream._pool, stream._pool_request) == (pool, "request")


def test_requests_and_urllib3() -> None:
    prepared = requests.Request("POST", "http://reviews.prod", data=iter([b"x"])).prepare()
    assert prepared._body_position is None
    timeout = urllib3.Timeout(connect=1, read=2)
    assert (timeout._connect, timeout._read) == (1, 2)
    error = urllib3.exceptions.MaxRetryError(None, "/x?token=1")  # type: ignore[arg-type]
    assert "/x?token=1" in error._message


def test_grpc() -> None:
    """A channel to an address where nothing listens: every call ends by what grpcio itself says."""
    from kubelb.adapters._grpc.shared.watch import quick_check

    with grpc.insecure_channel("127.0.0.1:1") as channel:
        call = channel.unary_unary("/x/y")
        future = call.future(b"", timeout=5)
        assert future.code() is grpc.StatusCode.UNAVAILABLE
        kind = importlib.import_module("grpc._channel")._MultiThreadedRendezvous
        assert type(future) is kind
        assert future._state.code is grpc.StatusCode.UNAVAILABLE
        assert hasattr(future._state, "response")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=5)
        assert type(caught.value).__name__ == "_InactiveRpcError"
        assert caught.value._state.debug_error_string
        around = grpc.intercept_channel(channel, Around())
        assert around._channel is channel
        assert quick_check(around) is not None


class Around(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """It does nothing."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details, request)


def test_grpc_for_asyncio() -> None:
    """The lists of interceptors, and what a call has below it; `_active_calls` is in some versions only."""

    async def main() -> None:
        kinds = "_unary_unary", "_unary_stream", "_stream_unary", "_stream_stream"
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            assert all(isinstance(getattr(channel, f"{kind}_interceptors"), list) for kind in kinds)
            assert {"_unary_unary_interceptors", "_unary_stream_interceptors"} <= vars(channel).keys()
            assert {"_stream_unary_interceptors", "_stream_stream_interceptors"} <= vars(channel).keys()
            method = channel.unary_unary("/x/y")
            assert hasattr(method, "_interceptors")
            call = method(b"", timeout=5)
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert call._cython_call.is_ok() is False
            responses = importlib.import_module("grpc.aio._interceptor").UnaryStreamCallResponseIterator
            assert responses(call, None)._call is call

    asyncio.run(main())
