"""Kind: one endpoint's trouble that is all endpoints'. What instruments the making of channels, or an option, raises
for one sub-channel: no other suffers, nothing is raised where endpoints are learnt, and people find it where they look.
"""

import asyncio
import random
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import eventually, on_loop, one
from tests.adapters_grpc.conftest import until
from tests.adapters_grpc.test_failures import one as call

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio

WORDS = "its channel could not be made: ValueError: too many values to unpack"


@pytest.fixture
def refuse(monkeypatch: Any) -> set[str]:
    """The targets for which it raises."""
    refused: set[str] = set()
    for module in (grpc, grpc.aio):

        def instrumented(target: str, *said: Any, make: Any = module.insecure_channel, **named: Any) -> Any:
            if target in refused:
                raise ValueError("too many values to unpack")
            return make(target, *said, **named)

        monkeypatch.setattr(module, "insecure_channel", instrumented)
    return refused


@pytest.fixture
def raised(monkeypatch: Any) -> list[Any]:
    """What was raised in threads of kubelb's."""
    found: list[Any] = []
    monkeypatch.setattr("threading.excepthook", found.append)
    return found


@pytest.fixture(autouse=True)
def soon(monkeypatch: Any) -> None:
    """The pause until one is tried again; nothing here depends on its length."""
    monkeypatch.setattr("kubelb.adapters._grpc.shared.subchannels.PAUSE", 0.1)


def reasons(lb: kubelb.LoadBalancer) -> dict[str, str]:
    return {view.address: " ".join(view.reasons) for view in lb.endpoints()}


def test_one_that_cannot_be_made(server: Any, balance: Any, refuse: set[str], raised: list[Any]) -> None:
    """The others serve; it says why among its reasons, and is there as soon as it can be made."""
    servers = [server() for _ in range(3)]
    refuse.add(servers[0].address)
    lb = balance(*servers, policy="round_robin")
    with balanced.insecure_channel(lb) as channel:
        assert until(lambda: call(channel, timeout=20) and all(each.total for each in servers[1:]))
        assert servers[0].total == 0
        found = reasons(lb)
        assert WORDS in found.pop(servers[0].address)
        assert not any(WORDS in words for words in found.values())
        refuse.clear()
        assert until(lambda: call(channel, timeout=20) and servers[0].total)
        assert WORDS not in reasons(lb)[servers[0].address]
    assert raised == []


@on_loop
async def test_and_for_asyncio(server: Any, balance: Any, refuse: set[str], raised: list[Any]) -> None:
    """The same."""
    servers = [server() for _ in range(3)]
    refuse.add(servers[0].address)
    lb = balance(*servers, policy="round_robin")
    async with aio.insecure_channel(lb) as channel:
        while not all(each.total for each in servers[1:]):
            assert await asyncio.wait_for(one(channel, timeout=20), 20)
        assert servers[0].total == 0
        assert WORDS in reasons(lb)[servers[0].address]
        refuse.clear()
        calls: list[Any] = []

        def back() -> bool:
            calls.append(channel.unary_unary("/test.Echo/UU")(b"x", timeout=20))
            return bool(servers[0].total)

        assert await eventually(back)
        assert all([await each for each in calls])
    assert raised == []


def test_none_can_be_made(server: Any, balance: Any, refuse: set[str], raised: list[Any]) -> None:
    """A refusal in words, with the cure; not what was raised, from wherever that came up."""
    servers = [server() for _ in range(2)]
    refuse.update(each.address for each in servers)
    lb = balance(*servers, rng=random.Random(1))
    with balanced.insecure_channel(lb) as channel:
        with pytest.raises(kubelb.Unusable, match=rf"any of 2 endpoints: {WORDS}; grpc.insecure_channel") as caught:
            call(channel, timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "look at `options=`" in lb.health().cure
        refuse.clear()
        assert until(lambda: channel._channel.check_connectivity_state(True) == 2)
        assert call(channel, timeout=20)
    assert raised == []
