"""Sync calls that go well: every kind, and everything that can be said with one."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import kubelb
from kubelb.adapters import grpc as balanced


@pytest.fixture
def three(server: Any, balance: Any) -> Iterator[tuple[list[Any], Any]]:
    """Three servers and a channel over them, by turns."""
    servers = [server() for _ in range(3)]
    channel = balanced.insecure_channel(balance(*servers, policy="round_robin"))
    grpc.channel_ready_future(channel).result(timeout=10)
    yield servers, channel
    channel.close()


def test_every_call_picks_its_own_endpoint(three: Any) -> None:
    """Thirty calls by turns, ten each, over one connection each."""
    servers, channel = three
    until_all_ready(channel, 3)
    for each in servers:
        each.delivered.clear()
    echo = channel.unary_unary("/test.Echo/UU")
    assert {echo(b"x") for _ in range(30)} == {b"x@" + each.name for each in servers}
    assert [each.delivered["UU"] for each in servers] == [10, 10, 10]


def until_all_ready(channel: Any, count: int) -> None:
    """Wait for a connection to each of so many endpoints."""
    from tests.adapters_grpc.conftest import until

    ready = grpc.ChannelConnectivity.READY.value[0]
    assert until(
        lambda: len(channel.subs) == count and all(s.check(True) == ready for s in channel.subs._subs.values())
    )


def test_one_request_one_response(three: Any) -> None:
    """`__call__`, `with_call` and `future`."""
    _, channel = three
    echo = channel.unary_unary("/test.Echo/UU", None, None)
    assert echo(b"a").startswith(b"a@")
    response, call = echo.with_call(b"b", timeout=10)
    assert (response[:2], call.code(), call.details()) == (b"b@", grpc.StatusCode.OK, "")
    future = echo.future(b"c", timeout=10)
    assert future.result(timeout=10).startswith(b"c@")
    assert (future.code(), future.done(), future.running(), future.cancelled()) == (
        grpc.StatusCode.OK,
        True,
        False,
        False,
    )
    assert future.exception() is None
    assert future.traceback() is None
    assert not future.is_active()
    assert 0 <= future.time_remaining() <= 10
    assert echo.future(b"c").time_remaining() is None


def test_streams_of_responses(three: Any) -> None:
    """Iterated to the end; code and metadata are there then."""
    _, channel = three
    call = channel.unary_stream("/test.Echo/US")(b"r", timeout=10)
    assert call.is_active()
    assert list(call) == [b"r0", b"r1", b"r2"]
    assert (call.code(), call.done()) == (grpc.StatusCode.OK, True)
    assert call.details() == ""
    with pytest.raises(StopIteration):
        next(call)


def test_streams_of_requests(three: Any) -> None:
    """Blocking, with the call, and as a future."""
    _, channel = three
    join = channel.stream_unary("/test.Echo/SU")
    assert join(iter([b"1", b"2"])) == b"1,2"
    assert join([b"1", b"2"]) == b"1,2"  # any iterable will do
    response, call = join.with_call(iter([b"3"]))
    assert (response, call.code()) == (b"3", grpc.StatusCode.OK)
    assert join.future(iter([b"4", b"5"])).result(timeout=10) == b"4,5"


def test_streams_both_ways(three: Any) -> None:
    """One message there, one back; many more than are kept for another attempt."""
    _, channel = three
    chat = channel.stream_stream("/test.Echo/SS")
    call = chat(b"%d" % number for number in range(2000))
    found = [message.partition(b"@") for message in call]
    assert [number for number, _, _ in found] == [b"%d" % number for number in range(2000)]
    assert len({name for _, _, name in found}) == 1  # a stream is picked once


def test_a_conversation(three: Any) -> None:
    """What is sent next depends on what came."""
    import queue

    _, channel = three
    outbox: Any = queue.SimpleQueue()
    call = channel.stream_stream("/test.Echo/SS")(iter(outbox.get, None))
    for word in (b"one", b"two", b"three"):
        outbox.put(word)
        assert next(call).startswith(word)
    outbox.put(None)
    assert list(call) == []


def test_metadata_both_ways(three: Any) -> None:
    """The caller's goes out, the server's comes back: initial, trailing, binary."""
    servers, channel = three

    def behave(method: str, context: Any) -> None:
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last-bin", b"\x00\x01"),))

    for each in servers:
        each.behave = behave
    _, call = channel.unary_unary("/test.Echo/UU").with_call(b"x", metadata=(("tenant", "blue"), ("raw-bin", b"\x07")))
    assert dict(call.initial_metadata())["first"] == "1"
    assert dict(call.trailing_metadata())["last-bin"] == b"\x00\x01"
    future = channel.unary_unary("/test.Echo/UU").future(b"x")
    assert dict(future.initial_metadata())["first"] == "1"
    assert dict(future.trailing_metadata())["last-bin"] == b"\x00\x01"
    stream = channel.unary_stream("/test.Echo/US")(b"x")
    assert dict(stream.initial_metadata())["first"] == "1"
    assert list(stream) == [b"x0", b"x1", b"x2"]
    assert dict(stream.trailing_metadata())["last-bin"] == b"\x00\x01"
    given = [metadata for each in servers for metadata in each.metadata if "tenant" in metadata]
    assert [(metadata["tenant"], metadata["raw-bin"]) for metadata in given] == [("blue", b"\x07")]


def test_compression(server: Any, balance: Any) -> None:
    """The channel's and the call's own reach the server."""
    one = server()
    with balanced.insecure_channel(balance(one), compression=grpc.Compression.Gzip) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        assert echo(b"x" * 1000).startswith(b"x" * 1000)
        assert echo(b"y" * 1000, compression=grpc.Compression.Deflate).startswith(b"y" * 1000)
    assert "grpc-accept-encoding" in one.metadata[0] or one.total == 2


def test_multicallables_are_made_once(three: Any) -> None:
    """Interceptors ask for them with every call; other serializers make another one."""
    _, channel = three
    assert channel.unary_unary("/test.Echo/UU", bytes, bytes) is channel.unary_unary("/test.Echo/UU", bytes, bytes)
    assert channel.unary_unary("/test.Echo/UU") is not channel.unary_unary("/test.Echo/UU", bytes, bytes)
    unhashable = type("S", (), {"__hash__": None, "__call__": lambda self, request: request})()
    assert channel.unary_unary("/test.Echo/UU", unhashable)(b"x").startswith(b"x@")


def test_interceptors_on_top(three: Any) -> None:
    """`grpc.intercept_channel`: they see one call, whatever happens below; sub-channels' callables are made once."""
    _servers, channel = three
    seen: list[str] = []

    class Noting(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.method)
            return continuation(details, request)

        def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.method)
            return continuation(details, request)

    intercepted = grpc.intercept_channel(channel, Noting())
    echo = intercepted.unary_unary("/test.Echo/UU")
    for _ in range(30):
        assert echo(b"x").startswith(b"x@")
    assert echo.future(b"x").result(timeout=10).startswith(b"x@")
    assert list(intercepted.unary_stream("/test.Echo/US")(b"s")) == [b"s0", b"s1", b"s2"]
    assert seen == ["/test.Echo/UU"] * 31 + ["/test.Echo/US"]
    assert len(channel._kept) == 2
    assert all(len(calling.bound) <= 3 for calling in channel._kept.values())


def test_generated_stubs(three: Any, reviews: Any) -> None:
    """Code from grpcio-tools: a servicer on one side, a stub on the other, all four kinds."""
    from concurrent import futures

    pb2, pb2_grpc = reviews.pb2, reviews.pb2_grpc

    class Reviews(pb2_grpc.ReviewsServicer):
        def Get(self, request: Any, context: Any) -> Any:
            return pb2.Review(book=request.book, stars=5)

        def List(self, request: Any, context: Any) -> Any:
            for stars in range(3):
                yield pb2.Review(book=request.book, stars=stars)

        def Add(self, requests: Any, context: Any) -> Any:
            return pb2.Summary(count=sum(1 for _ in requests))

        def Chat(self, requests: Any, context: Any) -> Any:
            for query in requests:
                yield pb2.Review(book=query.book)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    pb2_grpc.add_ReviewsServicer_to_server(Reviews(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with balanced.insecure_channel(f"static:///127.0.0.1:{port}") as channel:
        stub = pb2_grpc.ReviewsStub(channel)
        assert stub.Get(pb2.Query(book="b")).stars == 5
        assert stub.Get.future(pb2.Query(book="b")).result(timeout=10).book == "b"
        assert [review.stars for review in stub.List(pb2.Query(book="b"))] == [0, 1, 2]
        assert stub.Add(iter([pb2.Review()] * 4)).count == 4
        assert [review.book for review in stub.Chat(iter([pb2.Query(book=c) for c in "abc"]))] == ["a", "b", "c"]
        with pytest.raises(grpc.RpcError) as caught:
            stub.Get("not a message")
        assert caught.value.details() == "Exception serializing request!"
    server.stop(0)


def test_the_timeout_reaches_the_server(server: Any, balance: Any) -> None:
    """As the time that is left of it; without one the server sees none, and with hints that of the block."""
    one, left = server(), []
    one.behave = lambda method, context: left.append(context.time_remaining())
    with balanced.insecure_channel(balance(one)) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        echo(b"x", timeout=30)
        echo(b"x")
        with kubelb.hints(deadline=20):
            echo(b"x")
            echo(b"x", timeout=10)
            echo.future(b"x", timeout=40).result(timeout=10)
            list(channel.unary_stream("/test.Echo/US")(b"x"))
    assert 20 < left[0] < 31
    assert left[1] is None or left[1] > 1e6
    assert [5 < each < 21 for each in left[2:]] == [True] * 4
    assert left[3] < 11


def test_dialled_over_ipv6(server: Any, balance: Any) -> None:
    """An address in brackets."""
    one = server(host="::1")
    with balanced.insecure_channel(balance(one)) as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"x") == b"x@" + one.name


def test_the_authority_is_the_services_name(server: Any) -> None:
    """In full, from the target; an option of the user's replaces it."""
    from kubelb.adapters._grpc.shared.options import default_authority, sub_options
    from kubelb.target import parse_target

    name = default_authority(parse_target("reviews.prod:grpc"), "cluster.local")
    assert name == "reviews.prod.svc.cluster.local"
    assert dict(sub_options(name, None))["grpc.default_authority"] == name
    own = sub_options(name, [("grpc.default_authority", "mine"), ("grpc.enable_http_proxy", 1)])
    assert [value for key, value in own if key == "grpc.default_authority"] == ["mine"]
    assert [value for key, value in own if key == "grpc.enable_http_proxy"] == [1]
    assert default_authority(parse_target("static:///127.0.0.1:80"), "cluster.local") is None
    assert default_authority(parse_target("dns:///db.example.org:80"), "cluster.local") == "db.example.org"


def test_a_proxy_of_the_environment_is_not_asked(server: Any, balance: Any, monkeypatch: Any) -> None:
    """It would be asked for pod addresses."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    one = server()
    with balanced.insecure_channel(balance(one)) as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"x", timeout=10).startswith(b"x@")
