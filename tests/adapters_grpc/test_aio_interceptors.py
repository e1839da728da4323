"""Interceptors of asyncio that do what they should not, and calls that they hold up: nothing hangs, nothing is said
behind anybody's back."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import eventually, on_loop, one, ways
from tests.adapters_grpc.conftest import in_flight
from tests.adapters_grpc.servers import free_port
from tests.adapters_grpc.test_aio_failures import UNAVAILABLE, aborts, every_kind, result_of

import kubelb
from kubelb.adapters._grpc.aio.interceptors import KINDS, flat
from kubelb.adapters.grpc import aio
from kubelb.service import service_of


def each_kind(intercept: Any) -> list[Any]:
    """One interceptor for each kind of call, all of which do this."""

    async def method(self: Any, continuation: Any, details: Any, request: Any) -> Any:
        return await intercept(continuation, details, request)

    return [type("Mine", (kind,), {f"intercept_{name}": method})() for kind, name in KINDS.items()]


async def raises(continuation: Any, details: Any, request: Any) -> Any:
    raise KeyError("mine")


async def raises_late(continuation: Any, details: Any, request: Any) -> Any:
    await asyncio.sleep(0.001)
    call = await continuation(details, request)
    call.cancel()
    raise KeyError("mine")


@pytest.mark.parametrize("intercept", [raises, raises_late])
@pytest.mark.parametrize("ask", ["result", "code", "nothing"])
@on_loop
async def test_one_that_raises(server: Any, balance: Any, ask: str, intercept: Any) -> None:
    """Whoever awaits the call gets it; it is done, called back, in flight nowhere, and no endpoint is to blame."""
    lb = balance(server())
    async with aio.insecure_channel(lb, interceptors=each_kind(intercept), idempotent=True) as channel:
        await channel.channel_ready()
        for call in every_kind(channel):
            told: list[Any] = []
            call.add_done_callback(told.append)
            if ask == "code":
                assert await asyncio.wait_for(call.code(), 10) is grpc.StatusCode.UNKNOWN
            if ask != "nothing":
                with pytest.raises(KeyError, match="mine"):
                    await asyncio.wait_for(result_of(call), 10)
            assert await eventually(call.done)
            assert await eventually(lambda told=told: told)
            assert told == [call]
            assert not call.cancelled()
            assert not call.cancel()
        assert in_flight(lb) == 0
    assert service_of(lb).balancer.states()[0].failures == 0


@on_loop
async def test_one_that_raises_at_a_second_try(server: Any, balance: Any) -> None:
    """The flow ends with it, too."""
    tries: list[Any] = []

    async def second(continuation: Any, details: Any, request: Any) -> Any:
        tries.append(request)
        if len(tries) == 2:
            raise KeyError("mine")
        return await continuation(details, request)

    alone = server()
    alone.behave = aborts(UNAVAILABLE, 99)
    lb = balance(alone, retry=kubelb.Retry(wait=kubelb.FullJitter(0, 0)))
    async with aio.insecure_channel(lb, interceptors=each_kind(second), idempotent=True) as channel:
        await channel.channel_ready()
        for call in every_kind(channel):
            tries.clear()
            with pytest.raises(KeyError, match="mine"):
                await asyncio.wait_for(result_of(call), 10)
            assert len(tries) == 2
    assert in_flight(lb) == 0


@on_loop
async def test_one_that_raises_what_grpc_raises(server: Any, balance: Any) -> None:
    """Is judged as a server's would be: UNAVAILABLE is tried elsewhere where it may be."""
    tries: list[Any] = []

    async def at_first(continuation: Any, details: Any, request: Any) -> Any:
        tries.append(request)
        if len(tries) == 1:
            raise grpc.aio.AioRpcError(UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "as told", "")
        return await continuation(details, request)

    lb = balance(server(), server())
    async with aio.insecure_channel(lb, interceptors=each_kind(at_first), idempotent=True) as channel:
        for way in ways:
            tries.clear()
            assert await asyncio.wait_for(way(channel), 20)
            assert len(tries) == 2


@on_loop
async def test_one_that_adds_what_cannot_be_sent(server: Any, balance: Any) -> None:
    """As if the caller had given it: gRPC's own INTERNAL, at once; TypeError for what is no metadata."""
    added: list[Any] = [("Authorization", "s3cret")]

    async def adds(continuation: Any, details: Any, request: Any) -> Any:
        details = grpc.aio.ClientCallDetails(
            details.method, details.timeout, grpc.aio.Metadata(*added), details.credentials, details.wait_for_ready
        )
        return await continuation(details, request)

    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb, interceptors=each_kind(adds), idempotent=True) as channel:
        for call in every_kind(channel):
            with pytest.raises(grpc.aio.AioRpcError, match="'Authorization': use lower-case") as caught:
                await asyncio.wait_for(result_of(call), 10)
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert "s3cret" not in str(caught.value)
        assert alone.total == 0
        added[0] = ("name", 7)
        for call in every_kind(channel):
            with pytest.raises(TypeError, match="'name': give a str, not int"):
                await asyncio.wait_for(result_of(call), 10)
        added[0] = ("name", "fine")
        assert await one(channel)
    assert in_flight(lb) == 0
    assert service_of(lb).balancer.states()[0].failures == 0


def test_only_kinds_that_are_intercepted_are(balance: Any) -> None:
    """Others stay as quick as they are without."""
    mine = each_kind(raises)[1]
    guards = flat(aio.insecure_channel(balance("127.0.0.1:9"), interceptors=[mine]))
    assert [isinstance(each, grpc.aio.UnaryStreamClientInterceptor) for each in guards] == [True] * 3
    assert guards[1] is mine
    assert flat(aio.insecure_channel(balance("127.0.0.1:9"))) == []


LISTS = [f"_{name}_interceptors" for name in KINDS.values()]


def seen_by(told: list[str], name: str) -> list[Any]:
    """One for each kind of call, which put down that they were there."""

    async def intercept(continuation: Any, details: Any, request: Any) -> Any:
        told.append(name)
        return await continuation(details, request)

    return each_kind(intercept)


@pytest.mark.parametrize("private", [False, True], ids=["as grpcio is", "without lists of its own"])
@on_loop
async def test_what_is_appended_to_its_lists(server: Any, balance: Any, monkeypatch: Any, private: bool) -> None:
    """Kind: attributes of a grpcio channel that others rely on. Generated Google clients and pymilvus append to the
    four lists of a channel: later, too, and to a channel whose multicallables and connections are made."""
    if private:  # as a grpcio would be that keeps them elsewhere: what is there when a connection is made counts
        monkeypatch.setattr("kubelb.adapters._grpc.aio.channel.put_into", lambda *_, **__: False)
    told: list[str] = []
    async with aio.insecure_channel(balance(server()), interceptors=seen_by(told, "given")) as channel:
        assert [len(getattr(channel, name)) for name in LISTS] == [1, 1, 1, 1]
        for name, each in zip(LISTS, seen_by(told, "appended"), strict=True):
            getattr(channel, name).append(each)
        for way in ways:
            told.clear()
            assert await way(channel)
            assert told == ["given", "appended"]
        if private:
            return
        for name, late, put in zip(LISTS, seen_by(told, "late"), seen_by(told, "put"), strict=True):
            getattr(channel, name).append(late)
            setattr(channel, name, [put, *getattr(channel, name)])
        for way in ways:
            told.clear()
            assert await way(channel)
            assert told == ["put", "given", "appended", "late"]
        for name in LISTS:
            setattr(channel, name, [])
        for way in ways:
            told.clear()
            assert await way(channel)
            assert told == []


@on_loop
async def test_beside_those_of_an_instrumentation(server: Any, balance: Any, monkeypatch: Any) -> None:
    """What an instrumentation puts on the sub-channels sees the call before the user's, as on a channel of grpcio's."""
    told: list[str] = []
    make = grpc.aio.insecure_channel

    def instrumented(*said: Any, interceptors: Any = None, **named: Any) -> Any:
        return make(*said, interceptors=[*seen_by(told, "instrumentation"), *(interceptors or [])], **named)

    monkeypatch.setattr(grpc.aio, "insecure_channel", instrumented)
    async with aio.insecure_channel(balance(server()), interceptors=seen_by(told, "mine")) as channel:
        for way in ways:
            told.clear()
            assert await way(channel)
            assert told == ["instrumentation", "mine"]


@on_loop
async def test_closing_beside_calls_that_wait(server: Any, balance: Any) -> None:
    """A channel is closed to the last connection, whatever calls of this one and others are doing meanwhile."""
    alone = server()
    async with aio.insecure_channel(balance(f"127.0.0.1:{free_port()}")) as other:
        for call in every_kind(other, wait_for_ready=True):
            asked = [asyncio.ensure_future(question) for question in (result_of(call), call.code())]
            await asyncio.sleep(0)
            channel = aio.insecure_channel(balance(alone))
            assert await one(channel)
            (sub,) = channel.subs._subs.values()
            await channel.close()
            assert sub.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
            call.cancel()
            await asyncio.wait(asked)
            assert await call.code() is grpc.StatusCode.CANCELLED
