"""What a policy sees of a call: everything but the message, where it asks for it, and else nothing."""

import gc
from typing import Any
from weakref import ref

import grpc
import pytest
from tests.adapters.looking import EVERYTHING, Looking, everything
from tests.adapters_grpc.aio_kit import on_loop, ways
from tests.adapters_grpc.test_calls import until_all_ready
from tests.adapters_grpc.test_keys import calls

import kubelb
from kubelb import Needs, hints
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio
from kubelb.model import ANY, IDEMPOTENT

USER = (("other", "x"), ("x-user", "u7"))
NAMED = [("grpc.default_authority", "reviews.prod")]


def pod(request: kubelb.Request) -> Any:
    return request.header("X-Pod")


def test_a_call_goes_where_its_metadata_say(server: Any, balance: Any) -> None:
    """Also where others stand around the policy."""
    servers = [server() for _ in range(3)]
    lb = balance(*servers, policy=kubelb.Subset(Looking(pod), size=9), slow_start=None)
    with balanced.insecure_channel(lb) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        until_all_ready(channel, 3)
        echo = channel.unary_unary("/test.Echo/UU")
        for each in [*servers, *reversed(servers)]:
            answer = echo(b"x", metadata=[("x-pod", each.address)], timeout=10)
            assert answer.partition(b"@")[2] == each.name


@on_loop
async def test_asyncio(server: Any, balance: Any) -> None:
    """The same."""
    servers = [server() for _ in range(3)]
    async with aio.insecure_channel(balance(*servers, policy=Looking(pod), slow_start=None)) as channel:
        await channel.channel_ready()
        echo = channel.unary_unary("/test.Echo/UU")
        for each in [*servers, *reversed(servers)]:
            answer = await echo(b"x", metadata=[("x-pod", each.address)], timeout=10, wait_for_ready=True)
            assert answer.partition(b"@")[2] == each.name


def test_a_call_goes_where_its_method_says(server: Any, balance: Any) -> None:
    """As one that has no metadata at all."""
    servers = [server() for _ in range(2)]
    homes = {"/test.Echo/UU": servers[0].address, "/test.Echo/SS": servers[1].address}
    policy = Looking(lambda request: homes[request.path])
    with balanced.insecure_channel(balance(*servers, policy=policy, slow_start=None)) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        until_all_ready(channel, 2)
        for _ in range(3):
            assert channel.unary_unary("/test.Echo/UU")(b"a", timeout=10).endswith(servers[0].name)
            assert [b"a@" + servers[1].name] == list(channel.stream_stream("/test.Echo/SS")(iter([b"a"]), timeout=10))


def test_everything_that_a_view_shows(server: Any, balance: Any) -> None:
    """Of every kind of call; key and idempotence are said as ever."""
    policy = Looking(lambda request: (everything(request), request.key, request.idempotent), EVERYTHING)
    with balanced.insecure_channel(balance(server(), policy=policy), NAMED) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        calls(channel, metadata=USER, timeout=10)
        kinds = {f"/test.Echo/{kind}" for kind in ("UU", "US", "SU", "SS")}
        seen = set(policy.seen)
        assert seen == {(("POST", kind, "reviews.prod", "u7", "u7", None, None), None, False) for kind in kinds}
        with hints(key="k", idempotent=True):
            channel.unary_unary("/test.Echo/UU")(b"a", timeout=10)
        assert policy.seen == [(("POST", "/test.Echo/UU", "reviews.prod", None, None, None, None), "k", True)]


@pytest.mark.parametrize("way", ways)
@on_loop
async def test_everything_in_asyncio(server: Any, balance: Any, way: Any) -> None:
    """Of every kind and style of call, with grpc.aio's own Metadata or pairs."""
    policy = Looking(lambda request: (request.host, request.header("X-User"), request.path[:11], request.body()))
    async with aio.insecure_channel(balance(server(), policy=policy), NAMED) as channel:
        await channel.channel_ready()
        await way(channel, timeout=10, metadata=grpc.aio.Metadata(*USER))
        await way(channel, timeout=10, metadata=USER)
        await way(channel, timeout=10)
    assert policy.seen == [("reviews.prod", user, "/test.Echo/", None) for user in ("u7", "u7", None)]


@pytest.mark.parametrize(
    ("options", "host"),
    [
        (None, ""),
        ([("grpc.default_authority", "a.b"), ("grpc.default_authority", "c.d")], "c.d"),
        ([(b"grpc.default_authority", b"a.b")], "a.b"),
    ],
)
def test_the_authority_is_the_channels(server: Any, balance: Any, options: Any, host: str) -> None:
    """As the server sees it; a static list has none of its own, and then it is the pod's address."""
    policy = Looking(lambda request: request.host)
    with balanced.insecure_channel(balance(server(), policy=policy), options) as channel:
        channel.unary_unary("/test.Echo/UU")(b"a", timeout=10, wait_for_ready=True)
    assert set(policy.seen) == {host}


def test_a_named_service_is_its_own_authority(server: Any) -> None:
    """In full."""
    with kubelb.LoadBalancer("kube:///reviews.prod:grpc") as lb, balanced.insecure_channel(lb) as channel:
        assert channel.authority == "reviews.prod.svc.cluster.local"


def test_keys_of_bytes(server: Any, balance: Any) -> None:
    """grpcio takes them, so a policy finds them."""
    policy = Looking(lambda request: request.header("x-user"))
    with balanced.insecure_channel(balance(server(), policy=policy)) as channel:
        channel.unary_unary("/test.Echo/UU")(b"a", metadata=[(b"x-user", b"u7")], timeout=10, wait_for_ready=True)
    assert set(policy.seen) == {b"u7"}


@pytest.mark.parametrize(("idempotent", "constant"), [(False, ANY), (True, IDEMPOTENT)])
def test_others_get_the_constants(server: Any, balance: Any, idempotent: bool, constant: Any) -> None:
    """No view is made for a policy that does not look."""
    policy = Looking(lambda request: request, Needs())
    with balanced.insecure_channel(balance(server(), policy=policy), idempotent=idempotent) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        echo(b"a", metadata=USER, timeout=10, wait_for_ready=True)
        echo(b"a", timeout=10)
    assert all(request is constant for request in policy.seen)


def test_a_view_shows_no_secret(server: Any, balance: Any) -> None:
    """In a log line: no metadata, no key."""
    policy = Looking(repr, EVERYTHING)
    with balanced.insecure_channel(balance(server(), policy=policy)) as channel, hints(key="s3cret"):
        channel.unary_unary("/test.Echo/UU")(
            b"s3cret", metadata=[("authorization", "s3cret")], timeout=10, wait_for_ready=True
        )
    assert set(policy.seen) == {"Request(key=***, idempotent=False, replayable=True)"}


class Pairs(list[Any]):
    """A list that can be watched."""


def test_a_view_goes_with_its_call(server: Any, balance: Any) -> None:
    """Nothing of kubelb's keeps what a call was given."""
    with balanced.insecure_channel(balance(server(), policy=Looking(pod))) as channel:
        metadata = Pairs(USER)
        left = ref(metadata)
        channel.unary_unary("/test.Echo/UU")(b"a", metadata=metadata, timeout=10, wait_for_ready=True)
        del metadata
        gc.collect()
        assert left() is None
