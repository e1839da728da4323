"""What is asyncio's says so under trio: which entry, that trio runs the task, and what to use there.

The kind of fault: a coroutine that goes as long as it has nothing to wait for, and then hangs, or ends in words about
futures that trio does not know, or about an event loop that is not running.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import httpx2
import pytest
import trio

import kubelb
from kubelb.adapters import httpx as for_httpx
from kubelb.adapters import httpx2 as for_httpx2
from kubelb.adapters.grpc import aio
from kubelb.runtime import loops
from kubelb.testing import LocalCluster

TARGET = "static:///127.0.0.1:9"
IN_A_THREAD = "in a thread: await trio.to_thread.run_sync("
SYNC_CLIENT = f"use Transport with the sync Client, {IN_A_THREAD}client.get, url)"
SYNC_CHANNEL = f"use the channels of kubelb.adapters.grpc, {IN_A_THREAD}stub.Method, request)"


async def nothing(_attempt: kubelb.Attempt) -> None:
    pass


async def entered(what: Any) -> None:
    async with what:
        pass


async def messages() -> Any:
    yield b"x"


async def each(call: Any) -> None:
    async for _ in call:
        pass


class Interceptor(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(details, request)


def client(module: Any, adapter: Any, **options: Any) -> Any:
    return module.AsyncClient(transport=adapter.AsyncTransport(TARGET, **options))


def mounted() -> Any:
    return httpx.AsyncClient(mounts={"http://reviews.prod": for_httpx.AsyncTransport(TARGET)})


def channel(**options: Any) -> Any:
    return aio.insecure_channel(TARGET, **options)


LB: dict[str, Callable[[kubelb.LoadBalancer], Awaitable[Any]]] = {
    "LoadBalancer.acall": lambda lb: lb.acall(nothing),
    "LoadBalancer.await_ready": lambda lb: lb.await_ready(5),
    "LoadBalancer.aclose": lambda lb: lb.aclose(),
    "`async with` a LoadBalancer": entered,
}
LB_CURES = {
    "LoadBalancer.acall": f"use call, {IN_A_THREAD}lb.call, fn)",
    "LoadBalancer.await_ready": f"use wait_ready, {IN_A_THREAD}lb.wait_ready)",
    "LoadBalancer.aclose": f"use close, {IN_A_THREAD}lb.close)",
    "`async with` a LoadBalancer": "use `with`",
}
HTTP: dict[str, Callable[[], Awaitable[Any]]] = {
    "httpx": lambda: client(httpx, for_httpx).get("http://reviews.prod/"),
    "httpx2": lambda: client(httpx2, for_httpx2).get("http://reviews.prod/"),
    "httpx, HTTP/2": lambda: client(httpx, for_httpx, http1=False, http2=True).get("http://reviews.prod/"),
    "httpx, mounted": lambda: mounted().get("http://reviews.prod/"),
    "httpx, entered": lambda: entered(client(httpx, for_httpx)),
    "httpx2, entered": lambda: entered(client(httpx2, for_httpx2)),
    "httpx, mounted and entered": lambda: entered(mounted()),
    "httpx, closed": lambda: client(httpx, for_httpx).aclose(),
    "httpx2, closed": lambda: client(httpx2, for_httpx2).aclose(),
}
GRPC: dict[str, Callable[[], Awaitable[Any]]] = {
    "unary_unary": lambda: channel().unary_unary("/a/b")(b"x"),
    "unary_stream": lambda: each(channel().unary_stream("/a/b")(b"x")),
    "stream_unary": lambda: channel().stream_unary("/a/b")(messages()),
    "stream_stream": lambda: each(channel().stream_stream("/a/b")(messages())),
    "written": lambda: channel().stream_stream("/a/b")().write(b"x"),
    "intercepted": lambda: channel(interceptors=[Interceptor()]).unary_unary("/a/b")(b"x"),
    "entered": lambda: entered(channel()),
    "channel_ready": lambda: channel().channel_ready(),
    "wait_for_state_change": lambda: channel().wait_for_state_change(grpc.ChannelConnectivity.IDLE),
    "close": lambda: channel().close(),
}


def refused(entry: Callable[[], Awaitable[Any]]) -> str:
    """Await it under trio, for 5 s at most; returns what the RuntimeError says."""

    async def main() -> None:
        with trio.fail_after(5):
            await entry()

    with pytest.raises(RuntimeError, match="runs on asyncio only, and this task is run by trio: use ") as caught:
        trio.run(main)
    return str(caught.value)


@pytest.mark.parametrize("name", LB)
@pytest.mark.parametrize("target", [TARGET, "dns://127.0.0.1:9/reviews.prod:80"], ids=["known", "to be waited for"])
def test_load_balancer(name: str, target: str):
    """Also where nothing is to be waited for: what goes only until the first failure is no support."""
    with kubelb.LoadBalancer(target) as lb:
        said = refused(lambda: LB[name](lb))
    assert said.startswith(f"{name} runs on asyncio only")
    assert said.endswith(LB_CURES[name])


@pytest.mark.parametrize("name", HTTP)
def test_async_transport(name: str):
    """A request, entering and closing, of both clients."""
    assert refused(HTTP[name]).endswith(SYNC_CLIENT)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # grpcio's own, of what it began
@pytest.mark.parametrize("name", GRPC)
def test_grpc_aio(name: str):
    """Each kind of call, and whatever else of a channel is awaited."""
    assert refused(GRPC[name]).endswith(SYNC_CHANNEL)


def test_local_cluster():
    """Tests run under trio, too: there it is entered as it is in any other."""
    said = refused(lambda: entered(LocalCluster()))
    assert said.startswith("`async with` a LocalCluster")

    async def main() -> int:
        with (
            LocalCluster() as cluster,
            kubelb.LoadBalancer(
                "reviews.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)
            ) as lb,
        ):
            cluster.service("reviews.prod:http")
            return await trio.to_thread.run_sync(lb.call, lambda attempt: attempt.number)

    assert trio.run(main) == 1


def test_the_cure_works():
    """What the message names is what serves under trio: the sync call in a thread."""

    async def main() -> str:
        with kubelb.LoadBalancer(TARGET) as lb:
            return await trio.to_thread.run_sync(lb.call, lambda attempt: attempt.endpoint.authority)

    assert trio.run(main) == "127.0.0.1:9"


def test_asyncio_run_in_a_trio_task():
    """What runs there is a task of asyncio's, whatever is around it."""

    async def called() -> str:
        async with kubelb.LoadBalancer(TARGET) as lb:
            return await lb.acall(answered)

    async def answered(attempt: kubelb.Attempt) -> str:
        return attempt.endpoint.authority

    async def within() -> str:
        return asyncio.run(called())

    assert trio.run(within) == "127.0.0.1:9"


@pytest.mark.parametrize("sniffs", [True, False], ids=["sniffio", "no sniffio"])
def test_a_trio_task_beside_asyncio(monkeypatch: pytest.MonkeyPatch, sniffs: bool):
    """In trio's guest mode asyncio's loop runs in the same thread: its tasks are served, trio's are not."""
    if not sniffs:
        kept = dict(loops.modules)
        kept.pop("sniffio")
        monkeypatch.setattr(loops, "modules", kept)

    async def guest() -> Any:
        with contextlib.suppress(RuntimeError), kubelb.LoadBalancer(TARGET) as lb:
            return await lb.acall(nothing) or "served"
        return "refused"

    async def main() -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        async with asyncio.timeout(10):
            return (await done).unwrap(), await guest()

    assert asyncio.run(main()) == ("refused", "served")
