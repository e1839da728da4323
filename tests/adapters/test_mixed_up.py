"""A transport in a client of another kind: an error that names the right one, before anything is sent."""

import asyncio
import importlib
from typing import Any

import pytest

import kubelb

TWIN = {"httpx": "httpx2", "httpx2": "httpx"}


@pytest.fixture
def lb():
    with kubelb.LoadBalancer("static:///127.0.0.1:9") as lb:
        yield lb


def of(name: str) -> tuple[Any, Any]:
    return importlib.import_module(name), importlib.import_module(f"kubelb.adapters.{name}")


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_sync_in_asyncio_and_the_other_way_round(name, lb, monkeypatch):
    """The first use of the client says it, whether as a context or by a request; and it can be closed."""
    monkeypatch.setenv("NO_PROXY", "a.b")
    httpx, adapter = of(name)
    right = f"from kubelb.adapters.{name} import Transport$"
    for options in ({"transport": adapter.AsyncTransport(lb)}, {"mounts": adapter.async_mounts(lb, hosts=["a.b"])}):
        client = httpx.Client(**options)
        with pytest.raises(TypeError, match=right):
            client.get("http://a.b/")
        client.close()
        with pytest.raises(TypeError, match=right), httpx.Client(**options):
            pass

    async def main() -> None:
        right = f"from kubelb.adapters.{name} import AsyncTransport$"
        for options in ({"transport": adapter.Transport(lb)}, {"mounts": adapter.mounts(lb, hosts=["a.b"])}):
            client = httpx.AsyncClient(**options)
            with pytest.raises(TypeError, match=right):
                await client.get("http://a.b/")
            await client.aclose()
            with pytest.raises(TypeError, match=right):
                async with httpx.AsyncClient(**options):
                    pass

    asyncio.run(main())


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_the_twin_modules_mixed(name, service, balance):
    """httpx2's client with httpx's transport would deliver the request and then fail: now nothing is delivered."""
    svc = service(1)
    lb = balance(*svc)
    _, adapter = of(name)
    client_module, _ = of(TWIN[name])
    with (
        client_module.Client(transport=adapter.Transport(lb)) as client,
        pytest.raises(TypeError, match=f"from kubelb.adapters.{TWIN[name]} import Transport$"),
    ):
        client.post("http://reviews.prod/")
    with pytest.raises(TypeError, match=f"from kubelb.adapters.{TWIN[name]} import Transport$"):
        client_module.Client(transport=adapter.AsyncTransport(lb)).post("http://reviews.prod/")

    async def main() -> None:
        async with client_module.AsyncClient(transport=adapter.AsyncTransport(lb)) as client:
            with pytest.raises(TypeError, match=f"from kubelb.adapters.{TWIN[name]} import AsyncTransport$"):
                await client.post("http://reviews.prod/")
        with pytest.raises(TypeError, match=f"from kubelb.adapters.{TWIN[name]} import AsyncTransport$"):
            await client_module.AsyncClient(transport=adapter.Transport(lb)).post("http://reviews.prod/")

    asyncio.run(main())
    assert svc.requests == 0


def test_a_target_of_its_own_ends_with_a_client_of_the_wrong_kind():
    """Closing such a client closes the load balancer that was made for it."""
    httpx, adapter = of("httpx")
    transport = adapter.AsyncTransport("static:///127.0.0.1:9")
    httpx.Client(transport=transport).close()
    with pytest.raises(kubelb.Closed):
        transport.lb.wait_ready()
    transport = adapter.Transport("static:///127.0.0.1:9")
    asyncio.run(httpx.AsyncClient(transport=transport).aclose())
    with pytest.raises(kubelb.Closed):
        transport.lb.wait_ready()


def test_a_request_of_no_known_module(lb):
    """It is told what it was."""
    _, adapter = of("httpx")
    with pytest.raises(TypeError, match="a request of builtins, not of httpx; give it to a client of httpx"):
        adapter.Transport(lb).handle_request(object())
