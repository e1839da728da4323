"""TLS for asyncio: the service's name, client certificates, files that are renewed, credentials of a call."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from tests.adapters_grpc.aio_kit import eventually, on_loop, ways
from tests.adapters_grpc.conftest import connected
from tests.adapters_grpc.test_aio_failures import every_kind, result_of
from tests.adapters_grpc.test_tls import AS, NAME, served, trusting, write

from kubelb.adapters.grpc import TlsFiles, aio
from kubelb.service import service_of

TOKEN = "Bearer of-a-test"


class Token(grpc.AuthMetadataPlugin):
    """Gives a token for whatever it is asked for, and notes that."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, context: Any, callback: Any) -> None:
        self.asked.append(context.service_url)
        callback((("authorization", TOKEN),), None)


class NoToken(grpc.AuthMetadataPlugin):
    def __call__(self, context: Any, callback: Any) -> None:
        callback((), ValueError("no token"))


@on_loop
async def test_credentials_of_a_call(server: Any, balance: Any) -> None:
    """Of every kind: they reach the server, with a token made for the service's name."""
    authority, plugin = trustme.CA(), Token()
    token = grpc.metadata_call_credentials(plugin)
    alone = server(credentials=served(authority, NAME))
    async with aio.secure_channel(balance(alone), trusting(authority), AS) as channel:
        for way in ways:
            assert await way(channel, timeout=20, credentials=token)
    assert [metadata["authorization"] for metadata in alone.metadata] == [TOKEN] * len(ways)
    assert set(plugin.asked) == {f"https://{NAME}/test.Echo"}


@on_loop
async def test_credentials_that_fail(server: Any, balance: Any) -> None:
    """A plugin without a token for anybody: gRPC's own UNAVAILABLE, and no endpoint of one stays away for it.

    Core's words for it are such as any server can write, so it is taken for what its status says.
    """
    authority = trustme.CA()
    alone = server(credentials=served(authority, NAME))
    lb = balance(alone)
    async with aio.secure_channel(lb, trusting(authority), AS) as channel:
        for call in every_kind(channel, timeout=20, credentials=grpc.metadata_call_credentials(NoToken())):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await result_of(call)
            assert caught.value.code() is await call.code() is grpc.StatusCode.UNAVAILABLE
            assert not getattr(caught.value, "__notes__", [])
    assert alone.total == 0
    assert [view.state for view in lb.endpoints()] == ["ready"]


@on_loop
async def test_credentials_without_tls(server: Any, balance: Any) -> None:
    """gRPC's own refusal where the call is made; of a call that waits for a connection, where it is awaited."""
    alone = server()
    lb = balance(alone)
    token = grpc.metadata_call_credentials(Token())
    async with aio.insecure_channel(lb) as channel:
        with pytest.raises(grpc.aio.UsageError, match="only valid on secure channels"):
            await asyncio.wait_for(channel.unary_unary("/test.Echo/UU")(b"x", credentials=token), 20)
        with pytest.raises(grpc.aio.UsageError, match="only valid on secure channels"):
            channel.unary_unary("/test.Echo/UU")(b"x", credentials=token)
    assert alone.total == 0
    assert service_of(lb).balancer.states()[0].failures == 0


@on_loop
async def test_the_services_name_is_verified(server: Any, balance: Any) -> None:
    """A certificate for the name is taken on a pod's address; one for another service has no connection, so no call."""
    authority = trustme.CA()
    right = server(credentials=served(authority, NAME))
    wrong = server(credentials=served(authority, "other.prod.svc.cluster.local", "127.0.0.1"))
    async with aio.secure_channel(balance(right, wrong), trusting(authority), AS) as channel:
        for _ in range(20):
            assert await channel.unary_unary("/test.Echo/UU")(b"x", timeout=20) == b"x@" + right.name
    assert wrong.total == 0


@on_loop
async def test_client_certificates_that_are_renewed(server: Any, balance: Any, tmp_path: Path) -> None:
    """mTLS from files: the open connection goes on, the next one is made with what is in the files by then."""
    old, new = trustme.CA(), trustme.CA()
    alone = server(credentials=served(old, NAME, clients=old))
    write(tmp_path, old, old)
    files = TlsFiles(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    async with aio.secure_channel(balance(alone), files, AS) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        assert await echo(b"x", timeout=20)
        write(tmp_path, new, new)
        assert await echo(b"x", timeout=20)
        alone.stop(0)
        assert await eventually(lambda: connected(channel) == 0)
        alone._credentials = served(new, NAME, clients=new)
        alone.start()
        assert await echo(b"x", timeout=30, wait_for_ready=True)
        assert len(channel.subs) == 1
        assert await eventually(lambda: not channel._closing)
    async with aio.secure_channel(balance(alone), TlsFiles(tmp_path / "ca.pem"), AS) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/test.Echo/UU")(b"x", timeout=5)
