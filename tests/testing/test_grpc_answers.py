"""A healthy gRPC backend is an ordinary gRPC server that says who it is and what it was asked."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubelb.testing import Backend, LocalCluster, ReceivedCall

from .helpers import until

ECHO = "/kubelb.testing.Echo"
PROTO = """
syntax = "proto3";
package shop;
message Rating { string product = 1; int32 stars = 2; }
service Reviews {
  rpc Get(Rating) returns (Rating);
  rpc All(Rating) returns (stream Rating);
}
"""


@pytest.fixture
def backend(cluster: LocalCluster) -> Backend:
    return cluster.service("reviews.prod:grpc", grpc=True)[0]


@pytest.fixture
def channel(backend: Backend) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(backend.address) as channel:
        yield channel


def generic(service: str, **handlers: grpc.RpcMethodHandler) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(service, handlers)


def test_each_kind_of_call_is_echoed(backend: Backend, channel: grpc.Channel) -> None:
    """Bytes in, bytes out; the initial metadata names the pod."""
    reply, call = channel.unary_unary(f"{ECHO}/Unary").with_call(b"hi", timeout=5.0)
    assert (reply, dict(call.initial_metadata())) == (b"hi", {"x-backend": "reviews-0"})
    stream = channel.unary_stream(f"{ECHO}/ServerStream")(b"hi", timeout=5.0, metadata=[("x-messages", "2")])
    assert dict(stream.initial_metadata()) == {"x-backend": "reviews-0"}
    assert list(stream) == [b"hi", b"hi"]
    assert channel.stream_unary(f"{ECHO}/ClientStream")(iter([b"a", b"b"]), timeout=5.0) == b"ab"
    assert list(channel.stream_stream(f"{ECHO}/BidiStream")(iter([b"a", b"b"]), timeout=5.0)) == [b"a", b"b"]
    assert (backend.requests, backend.in_flight) == (4, 0)
    assert backend.by_path == {f"{ECHO}/{kind}": 1 for kind in ("Unary", "ServerStream", "ClientStream", "BidiStream")}


def test_a_stream_may_be_long_and_slow(backend: Backend, channel: grpc.Channel) -> None:
    """`x-delay` seconds before each message, which an end of the call cuts short; nonsense is refused."""
    call = channel.unary_stream(f"{ECHO}/ServerStream")(b"", metadata=[("x-messages", "2"), ("x-delay", "0.03")])
    began = time.monotonic()
    assert len(list(call)) == 2
    assert time.monotonic() - began >= 0.06
    endless = channel.unary_stream(f"{ECHO}/ServerStream")(b"", metadata=[("x-messages", "9"), ("x-delay", "60")])
    until(lambda: backend.in_flight == 1)
    endless.cancel()
    until(lambda: backend.in_flight == 0)
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream(f"{ECHO}/ServerStream")(b"", timeout=5.0, metadata=[("x-messages", "many")]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_what_was_asked(backend: Backend, channel: grpc.Channel) -> None:
    """The log has method, metadata, message and deadline, and shows no metadata in its repr; `clear` empties it."""
    pairs = [("x-token", "secret"), ("x-two", "a"), ("x-two", "b"), ("x-raw-bin", b"\x00\x01")]
    channel.unary_unary(f"{ECHO}/Unary")(b"hi", timeout=30.0, metadata=pairs)
    channel.stream_unary(f"{ECHO}/ClientStream")(iter([b"a", b"b", b"c"]))
    unary, stream = backend.log
    assert isinstance(unary, ReceivedCall)
    assert isinstance(stream, ReceivedCall)
    assert (unary.path, unary.body, unary.messages) == (f"{ECHO}/Unary", b"hi", 1)
    assert unary.timeout is not None
    assert 0.0 < unary.timeout <= 31.0  # gRPC rounds a deadline up on the wire
    assert [pair for pair in unary.metadata if pair[0].startswith("x-")] == pairs
    assert (unary.headers["x-two"], unary.headers["x-raw-bin"]) == ("a, b", "AAE=")
    assert "secret" not in repr(unary)
    assert (stream.body, stream.messages, stream.timeout) == (b"a", 3, None)
    backend.clear()
    assert (backend.requests, list(backend.log), backend.by_path) == (0, [], {})


def test_a_method_that_nobody_serves_is_a_call_too(backend: Backend, channel: grpc.Channel) -> None:
    """UNIMPLEMENTED, counted."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/x.Y/Z")(b"", timeout=5.0)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary("/x.Y/Z")(iter([b""]), timeout=5.0)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert backend.by_path == {"/x.Y/Z": 2}


def test_servicers_of_generated_code(cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`add_XServicer_to_server` on the real server of each pod, with the pod that it is."""
    (tmp_path / "kubelb_shop.proto").write_text(PROTO)
    options = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}", *options, "kubelb_shop.proto"], check=True
    )
    monkeypatch.syspath_prepend(tmp_path)
    import kubelb_shop_pb2 as messages
    import kubelb_shop_pb2_grpc as stubs

    class Reviews(stubs.ReviewsServicer):
        def __init__(self, pod: str) -> None:
            self.pod = pod

        def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
            if not request.product:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "which?")
            return messages.Rating(product=f"{request.product}@{self.pod}", stars=5)

        def All(self, request: Any, context: grpc.ServicerContext) -> Any:
            yield from (messages.Rating(stars=stars) for stars in range(3))

    def register(server: grpc.Server, backend: Backend) -> None:
        stubs.add_ReviewsServicer_to_server(Reviews(backend.name), server)

    svc = cluster.service("reviews.prod", replicas=2, grpc=register)
    for backend in svc:
        with grpc.insecure_channel(backend.address) as channel:
            stub = stubs.ReviewsStub(channel)
            assert stub.Get(messages.Rating(product="7"), timeout=5.0).product == f"7@{backend.name}"
            assert [rating.stars for rating in stub.All(messages.Rating(), timeout=5.0)] == [0, 1, 2]
            with pytest.raises(grpc.RpcError) as caught:
                stub.Get(messages.Rating(), timeout=5.0)
            assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "which?")
        assert messages.Rating.FromString(backend.log[0].body).product == "7"
        assert backend.by_path == {"/shop.Reviews/Get": 2, "/shop.Reviews/All": 1}


def test_metadata_of_a_servicer_is_kept(cluster: LocalCluster) -> None:
    """Its own initial and trailing metadata go out, with the pod's name beside them; a failure has no initial ones."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        assert isinstance(context, grpc.ServicerContext)
        context.set_trailing_metadata((("x-cost", "7"),))
        if request == b"fail":
            context.abort(grpc.StatusCode.ABORTED, "as asked")
        context.send_initial_metadata((("x-shard", "3"),))
        return request

    def register(server: grpc.Server, backend: Backend) -> None:
        server.add_generic_rpc_handlers((generic("x.Y", Z=grpc.unary_unary_rpc_method_handler(answer)),))

    backend = cluster.service("reviews.prod", grpc=register)[0]
    with grpc.insecure_channel(backend.address) as channel:
        _, call = channel.unary_unary("/x.Y/Z").with_call(b"", timeout=5.0)
        assert dict(call.initial_metadata()) == {"x-shard": "3", "x-backend": "reviews-0"}
        assert dict(call.trailing_metadata()) == {"x-cost": "7", "x-backend": "reviews-0"}
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/x.Y/Z")(b"fail", timeout=5.0)
        assert dict(caught.value.initial_metadata()) == {}
        assert dict(caught.value.trailing_metadata()) == {"x-cost": "7", "x-backend": "reviews-0"}


def test_a_servicer_of_asyncio_is_told_off(cluster: LocalCluster) -> None:
    """An `async def` method answers UNIMPLEMENTED and says why, instead of a coroutine that nobody awaits."""

    async def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        return request

    def register(server: grpc.Server, backend: Backend) -> None:
        server.add_generic_rpc_handlers((generic("x.Y", Z=grpc.unary_unary_rpc_method_handler(answer)),))

    backend = cluster.service("reviews.prod", grpc=register)[0]
    with grpc.insecure_channel(backend.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/x.Y/Z")(b"", timeout=5.0)
    assert (caught.value.code(), "without `async`" in caught.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, True)


def test_a_port_has_the_name_of_the_address(cluster: LocalCluster) -> None:
    """In the service's name or in `port_name`; "grpc" where nothing is said; not two different ones."""
    assert cluster.service("one.prod:rpc", grpc=True, app_protocol="kubernetes.io/h2c").address == "one.prod:rpc"
    assert cluster.service("two.prod", grpc=True).address == "two.prod:grpc"
    assert cluster.service("three.prod", port_name="web").address == "three.prod:web"
    assert cluster.service("four.prod:web", port_name="web").address == "four.prod:web"
    (piece,) = cluster.slices("prod", "one")
    assert [(port["name"], port.get("appProtocol")) for port in piece["ports"]] == [("rpc", "kubernetes.io/h2c")]
    with pytest.raises(ValueError, match="'web' in its name and 'http'"):
        cluster.service("five.prod:web", port_name="http")
    with pytest.raises(ValueError, match="one of them"):
        cluster.service("five.prod", grpc=True, handler=lambda request: None)
    assert [backend.state for backend in cluster.service("paper.prod", replicas=2, grpc=True, listen=False)] == [
        "ready"
    ] * 2


def test_a_service_whose_servicers_cannot_be_added_is_none(cluster: LocalCluster) -> None:
    """The error is the function's own; nothing listens, the name is free."""
    made: list[Backend] = []

    def register(server: grpc.Server, backend: Backend) -> None:
        made.append(backend)
        if len(made) == 2:
            raise FileNotFoundError("no such servicer")

    with pytest.raises(FileNotFoundError, match="no such servicer"):
        cluster.service("reviews.prod", replicas=3, grpc=register)
    assert [backend.answers() for backend in made] == [False, False]
    assert cluster.service("reviews.prod", grpc=True)[0].answers()


def test_importing_it_does_not_import_grpc() -> None:
    """Nor does an HTTP service; without grpcio a gRPC one says what to install."""
    code = (
        "import sys; from kubelb.testing import LocalCluster, ReceivedCall\n"
        "with LocalCluster() as cluster:\n"
        "    cluster.service('reviews.prod')\n"
        "    print('grpc' in sys.modules)\n"
        "    sys.modules['grpc'] = None\n"
        "    try: cluster.service('other.prod', grpc=True)\n"
        "    except ImportError as error: print(error)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [
        "False",
        "gRPC backends of kubelb.testing need grpcio: pip install 'kubelb[grpc]'",
    ]


def test_over_tls(cluster: LocalCluster) -> None:
    """With a certificate for the service's names, of the cluster's authority; another name is refused."""
    backend = cluster.service("reviews.prod", grpc=True, tls=True)[0]
    credentials = grpc.ssl_channel_credentials(cluster.ca_pem.encode())

    def ask(name: str) -> bytes:
        options = [("grpc.default_authority", name), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(backend.address, credentials, options) as channel:
            reply: bytes = channel.unary_unary(f"{ECHO}/Unary")(b"hi", timeout=5.0)
            return reply

    for name in ("reviews.prod", "reviews.prod.svc", "reviews.prod.svc.cluster.local"):
        assert ask(name) == b"hi"
    with pytest.raises(grpc.RpcError) as caught:
        ask("ratings.prod")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert backend.requests == 3
    backend.reset(times=1)
    with pytest.raises(grpc.RpcError) as caught:
        ask("reviews.prod")
    assert (caught.value.code(), backend.requests) == (grpc.StatusCode.UNAVAILABLE, 4)
    assert ask("reviews.prod") == b"hi"


def test_where_one_address_has_to_do_for_all() -> None:
    """As on macOS: pods of 127.0.0.1 that differ by their ports."""
    with LocalCluster(single_address=True) as cluster:
        svc = cluster.service("reviews.prod", replicas=2, grpc=True)
        svc[0].kill()
        svc[0].heal()
        for backend in svc:
            with grpc.insecure_channel(backend.address) as channel:
                _, call = channel.unary_unary(f"{ECHO}/Unary").with_call(b"", timeout=5.0)
                assert dict(call.initial_metadata()) == {"x-backend": backend.name}
        assert len({backend.port for backend in svc}) == 2
