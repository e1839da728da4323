"""Kind: what others ask of a call object besides its messages: what it is, what it says, whether it can be copied.

grpcio's sync calls are the RpcError that they may end with. Pub/Sub's subscriber opens its stream again, or ends for
good, by whether what its done callback is given is one."""

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.adapters_grpc.aio_kit import eventually, on_loop
from tests.adapters_grpc.conftest import in_flight, until
from tests.adapters_grpc.servers import free_port
from tests.adapters_grpc.test_failures import aborts

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio
from kubelb.service import service_of

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
METHODS = {"unary_unary": "UU", "unary_stream": "US", "stream_unary": "SU", "stream_stream": "SS"}


def begun(channel: Any, kind: str) -> Any:
    """A call of this kind that does not block."""
    callable_ = getattr(channel, kind)(f"/test.Echo/{METHODS[kind]}")
    make = callable_ if kind.endswith("stream") else callable_.future
    return make(iter([b"x"]) if kind.startswith("stream") else b"x", timeout=20)


def read(call: Any) -> Any:
    return list(call) if hasattr(call, "__next__") else call.result()


@pytest.mark.parametrize("dead", [False, True], ids=["failed", "refused"])
@pytest.mark.parametrize("kind", METHODS)
def test_is_the_error_that_it_ends_with(server: Any, balance: Any, kind: str, dead: bool) -> None:
    """From the beginning, for its done callback and for what raises it: status and text without a wait."""
    alone = server()
    alone.behave = aborts(UNAVAILABLE, 99)
    if dead:
        alone.stop()
    with balanced.insecure_channel(balance(alone)) as channel:
        call, given = begun(channel, kind), []
        assert isinstance(call, grpc.RpcError)
        assert isinstance(call, grpc.Call)
        assert isinstance(call, grpc.Future)
        call.add_done_callback(given.append)
        with pytest.raises(grpc.RpcError):
            read(call)
        assert until(lambda: given == [call])
        assert call.code() is UNAVAILABLE
        assert f"status = {UNAVAILABLE}" in repr(call)
        assert call.details() in str(call)
        assert isinstance(call.exception(timeout=20), grpc.RpcError)
        with pytest.raises(grpc.RpcError):
            raise given[0]


@pytest.mark.parametrize("kind", METHODS)
def test_tells_how_far_it_is(server: Any, balance: Any, kind: str) -> None:
    """While it runs, and when it has ended well; asking does not wait."""
    alone, hold = server(), threading.Event()
    alone.behave = lambda method, context: hold.wait(20)
    with balanced.insecure_channel(balance(alone)) as channel:
        call = begun(channel, kind)
        assert "of in-flight RPC /test.Echo/" in repr(call)
        hold.set()
        assert read(call)
        assert "status = StatusCode.OK" in str(call)


@pytest.mark.parametrize("kind", METHODS)
def test_copies(server: Any, balance: Any, kind: str) -> None:
    """A copy of an exception is made from its arguments, which would be another RPC. It is the call itself; what
    cannot be, says so."""
    alone = server()
    with balanced.insecure_channel(balance(alone)) as channel:
        call = begun(channel, kind)
        assert read(call)
        assert copy.copy(call) is call
        assert call.args == ()
        for refused in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"a call cannot be pickled.*keep its code\(\)"):
                refused(call)
        assert alone.total == 1


def of_asyncio(channel: Any) -> Iterator[Any]:
    """One call of each kind, all with their requests."""
    for kind, method in METHODS.items():
        yield getattr(channel, kind)(f"/test.Echo/{method}")([b"x"] if kind.startswith("stream") else b"x", timeout=20)


async def awaited(call: Any) -> Any:
    return [message async for message in call] if hasattr(call, "read") else await call


def kept(error: Any) -> Any:
    return type(error), str(error), error.service, error.counts, error.code(), error.__notes__


def test_copies_of_refusals(balance: Any) -> None:
    """They stay what both catch, with all that they say, and are a finished call; pickled they are kubelb's alone."""
    with balanced.insecure_channel(balance(f"127.0.0.1:{free_port()}")) as channel:
        with pytest.raises(kubelb.Unusable) as caught:
            channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
        error: Any = caught.value
        error.add_note("a note")
        for copied in (copy.copy(error), copy.deepcopy(error)):
            assert copied is not error
            assert kept(copied) == kept(error)
            copied.add_note("its own")
        assert error.__notes__ == ["a note"]
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (kubelb.Unusable, str(error))
        assert (error.done(), error.running(), error.cancelled(), error.cancel()) == (True, False, False, False)
        assert error.exception(timeout=1) is error
        assert error.traceback(timeout=1) is error.__traceback__
        told: list[Any] = []
        error.add_done_callback(told.append)
        assert told == [error]
        with pytest.raises(kubelb.Unusable):
            error.result(timeout=1)


@on_loop
async def test_copies_of_refusals_for_asyncio(balance: Any) -> None:
    """The same of an AioRpcError."""
    async with aio.insecure_channel(balance(f"127.0.0.1:{free_port()}")) as channel:
        with pytest.raises(kubelb.Unusable) as caught:
            await channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
        error: Any = caught.value
        error.add_note("a note")
        for copied in (copy.copy(error), copy.deepcopy(error)):
            assert isinstance(copied, grpc.aio.AioRpcError)
            assert kept(copied) == kept(error)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (kubelb.Unusable, str(error))


@on_loop
async def test_calls_of_asyncio(server: Any, balance: Any) -> None:
    """grpc.aio's, of their kind; the text says how far they are."""
    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        await channel.channel_ready()
        for call in of_asyncio(channel):
            assert isinstance(call, grpc.aio.Call)
            assert not isinstance(call, grpc.RpcError)
            assert "of in-flight RPC /test.Echo/" in repr(call)
            assert await awaited(call)
            assert await call.code() is grpc.StatusCode.OK
            assert "status = StatusCode.OK" in repr(call)
        alone.behave = aborts(UNAVAILABLE, 99)
        for call in of_asyncio(channel):
            with pytest.raises(grpc.aio.AioRpcError):
                await awaited(call)
            assert await eventually(lambda call=call: "status = StatusCode.UNAVAILABLE" in repr(call))
        for call in of_asyncio(channel):
            assert call.cancel()
            assert "status = StatusCode.CANCELLED" in repr(call)


class Bare(grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Makes bare generators of streams, as OpenTelemetry's does; the RPC begins when it is first read."""

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        yield from continuation(details, request)

    intercept_stream_stream = intercept_unary_stream


@pytest.fixture
def bare(monkeypatch: Any) -> None:
    make = grpc.insecure_channel
    wrapped = lambda *said, **named: grpc.intercept_channel(make(*said, **named), Bare())  # noqa: E731
    monkeypatch.setattr(grpc, "insecure_channel", wrapped)


STREAMS = ["unary_stream", "stream_stream"]


class Around:
    """What an agent puts around a call: it says that it is what it holds, and is no exception. Datadog's does so."""

    def __init__(self, call: Any) -> None:
        self.call = call

    @property
    def __class__(self) -> Any:
        return type(self.call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call, name)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self.call)


class Mute(Around):
    """And one that cannot say how it has ended."""

    def code(self) -> Any:
        raise KeyError("mine")


class Late(Mute):
    """And hands itself to its callbacks."""

    def add_done_callback(self, fn: Any) -> None:
        self.call.add_done_callback(lambda _: fn(self))


class Puts(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, kind: type[Around]) -> None:
        self.kind = kind

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return self.kind(continuation(details, request))

    intercept_unary_unary = intercept_stream_unary = intercept_stream_stream = intercept_unary_stream


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
def test_a_future_that_cannot_say_how_it_ended(server: Any, balance: Any, monkeypatch: Any, kind: str) -> None:
    """Kind: an end that is never told, as what was to tell it raised. What the interceptor raised is told."""
    make = grpc.insecure_channel
    monkeypatch.setattr(
        grpc, "insecure_channel", lambda *said, **named: grpc.intercept_channel(make(*said, **named), Puts(Late))
    )
    lb = balance(server())
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        call, given = begun(channel, kind), []
        call.add_done_callback(given.append)
        with pytest.raises(KeyError, match="mine"):
            call.result(timeout=10)
        assert until(lambda: given == [call])
        assert until(lambda: in_flight(lb) == 0)
    assert service_of(lb).balancer.states()[0].failures == 0


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("around", [Around, Mute])
@pytest.mark.parametrize("watched", [False, True], ids=["plain", "traced"])
def test_what_an_agent_puts_around_a_call(
    server: Any, balance: Any, monkeypatch: Any, kind: str, around: Any, watched: bool
) -> None:
    """Kind: what raises in the thread of gRPC's that ends all calls of a connection. It ended the thread: that call was
    in flight for ever, and so was each one after it. An error, a cancel and what comes after them are as they should.
    """
    make = grpc.insecure_channel
    monkeypatch.setattr(
        grpc, "insecure_channel", lambda *said, **named: grpc.intercept_channel(make(*said, **named), Puts(around))
    )
    alone = server()
    options = {"telemetry": kubelb.Telemetry(tracer_provider=TracerProvider())} if watched else {}
    lb = balance(alone, **options)
    with balanced.insecure_channel(lb) as channel:
        assert read(begun(channel, kind))
        alone.behave = aborts(UNAVAILABLE, 1)
        with pytest.raises(grpc.RpcError) as caught:
            read(begun(channel, kind))
        assert caught.value.code() is UNAVAILABLE
        assert until(lambda: in_flight(lb) == 0)
        call = begun(channel, kind)
        call.cancel()
        assert until(lambda: in_flight(lb) == 0)
        assert read(begun(channel, kind))
        assert until(lambda: in_flight(lb) == 0)
    assert service_of(lb).balancer.states()[0].failures == (0 if around is Mute and kind in STREAMS else 1)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("kind", STREAMS)
def test_a_bare_iterator_says_how_it_ended(server: Any, balance: Any, kind: str) -> None:
    """Kind: methods of a call that what is underneath has not. Each answers; none raises AttributeError."""
    alone = server()
    with balanced.insecure_channel(balance(alone)) as channel:
        call = begun(channel, kind)
        assert (call.is_active(), call.running(), call.done(), call.cancelled()) == (True, True, False, False)
        assert call.initial_metadata() == ()
        assert read(call)
        assert (call.is_active(), call.running(), call.done(), call.cancelled()) == (False, False, True, False)
        assert (call.code(), call.details(), call.trailing_metadata()) == (grpc.StatusCode.OK, "", ())
        assert (call.exception(), call.traceback(), call.result()) == (None, None, None)
        assert not call.cancel()
        alone.behave = aborts(UNAVAILABLE, 99)
        call = begun(channel, kind)
        with pytest.raises(grpc.RpcError) as caught:
            read(call)
        assert call.exception() is caught.value
        assert call.code() is UNAVAILABLE
        assert call.done()
        with pytest.raises(grpc.RpcError):
            call.result()


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("kind", STREAMS)
def test_cancelling_a_bare_iterator(server: Any, balance: Any, kind: str) -> None:
    """Between two messages it is cancelled, and says so to all that ask; its RPC ends, nothing is in flight."""
    alone = server()
    lb = balance(alone)
    with balanced.insecure_channel(lb) as channel:
        callable_ = getattr(channel, kind)(f"/test.Echo/{METHODS[kind]}")
        for messages in (0, 1):
            call = callable_(iter([b"x"] * 5) if kind == "stream_stream" else b"x", timeout=20)
            for _ in range(messages):
                assert next(call)
            assert call.cancel()
            assert not call.cancel()
            assert (call.cancelled(), call.done(), call.code()) == (True, True, grpc.StatusCode.CANCELLED)
            assert service_of(lb).balancer.states()[0].in_flight == 0
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is grpc.StatusCode.CANCELLED
            with pytest.raises(grpc.FutureCancelledError):
                call.result()
            assert until(lambda: alone.active == 0)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("messages", [0, 1])
def test_one_that_is_being_read_cannot_be_cancelled(server: Any, balance: Any, kind: str, messages: int) -> None:
    """It says no, and what reads goes on; it said yes and did nothing."""
    alone, hold = server(), threading.Event()
    alone.between = lambda number: hold.wait(20) if number == messages else None
    with balanced.insecure_channel(balance(alone)) as channel:
        callable_ = getattr(channel, kind)(f"/test.Echo/{METHODS[kind]}")
        call = callable_(iter([b"x"] * 3) if kind == "stream_stream" else b"x", timeout=20)
        for _ in range(messages):
            assert next(call)
        got: list[Any] = []
        reader = threading.Thread(target=lambda: got.extend(call))
        reader.start()
        assert until(lambda: call._inner is not None and call._inner.gi_running)
        assert not call.cancel()
        assert not call.cancelled()
        assert call.is_active()
        hold.set()
        reader.join(20)
        assert len(got) == 3 - messages
        assert call.code() is grpc.StatusCode.OK


class Broken(Bare):
    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        stream = continuation(details, request)
        yield from [next(stream) for _ in range(self.after)]
        raise KeyError("mine")

    intercept_stream_stream = intercept_unary_stream
    after = 0


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("after", [0, 1])
def test_a_bare_iterator_that_raises_its_own(
    server: Any, balance: Any, monkeypatch: Any, kind: str, after: int
) -> None:
    """What reads gets it; the call is over and in flight nowhere, and its endpoint not to blame."""
    make = grpc.insecure_channel
    broken = Broken()
    broken.after = after
    wrapped = lambda *said, **named: grpc.intercept_channel(make(*said, **named), broken)  # noqa: E731
    monkeypatch.setattr(grpc, "insecure_channel", wrapped)
    lb = balance(server())
    with balanced.insecure_channel(lb) as channel:
        call = begun(channel, kind)
        with pytest.raises(KeyError, match="mine"):
            read(call)
        assert call.done()
        assert call.code() is grpc.StatusCode.UNKNOWN
        assert isinstance(call.exception(), KeyError)
        assert service_of(lb).balancer.states()[0].in_flight == 0
        assert service_of(lb).balancer.states()[0].failures == 0
