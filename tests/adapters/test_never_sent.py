"""Kind: "never sent" by the type of an exception, which may come of something else than the connect to the pod."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.world import World

URL = "http://reviews.prod/"
KINDS = ["core ConnectError", "core ConnectTimeout", "core PoolTimeout", "ConnectError", "PoolTimeout", "refused"]


def made(world: World, transport: Any, kind: str) -> Exception:
    """An exception as the client makes it of a connect that failed, of the client's kind or of its core's."""
    if kind == "refused":
        return ConnectionRefusedError(111, "elsewhere")
    core, _, name = kind.rpartition(" ")
    error: Exception = getattr(transport.kit.httpcore if core else world.httpx, name)("elsewhere")
    return error


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_body_whose_producer_cannot_connect(world: World, raw, balance, kind: str, begun: bool) -> None:
    """A body that comes from another service: its own exception comes out, no pod gets it twice or is blamed."""
    servers = [raw(), raw()]
    lb = balance(*servers)
    transport = world.transport(lb)
    client = world.client(lb, mounts={"http://": transport})
    error = made(world, transport, kind)

    def parts() -> Iterator[bytes]:
        if begun:
            yield b"one"
        raise error

    for method in ("POST", "PUT"):
        with pytest.raises(type(error), match="elsewhere") as caught:
            world.request(client, method, URL, content=world.body(parts()))
        assert caught.value is error
    assert sum(view.picks for view in lb.endpoints()) == 2
    assert [view.failures for view in lb.endpoints()] == [0, 0]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_trace_function_that_cannot_connect(world: World, raw, balance, kind: str) -> None:
    """httpcore calls it while a request is on its way: what it raises then does not mean that nothing was sent."""
    servers = [raw(), raw()]
    lb = balance(*servers)
    transport = world.transport(lb)
    client = world.client(lb, mounts={"http://": transport})

    def report(event: str) -> None:
        if event == "http11.receive_response_headers.started":
            raise made(world, transport, kind)

    async def report_later(event: str, info: Any) -> None:
        report(event)

    trace = report_later if world.aio else lambda event, info: report(event)
    with pytest.raises(world.httpx.TransportError, match="elsewhere"):
        world.request(client, "POST", URL, content=b"x", extensions={"trace": trace})
    assert sum(view.picks for view in lb.endpoints()) == 1


def test_a_pod_that_is_not_there_is_still_never_sent(world: World, raw, balance) -> None:
    """The connect to the pod itself: any request goes to another one, also a body that can be produced once."""
    gone, here = raw(), raw()
    gone.close()
    lb = balance(gone, here, policy="round_robin")
    client = world.client(lb)
    for _ in range(4):
        assert world.request(client, "POST", URL, content=world.body([b"one"])).status_code == 200
    assert here.delivered == 4
