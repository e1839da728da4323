"""A transport that is mounted is used: nothing in the environment comes before it, and it takes nothing of others."""

import asyncio
import importlib
import os
import ssl
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kubelb
from kubelb.testing import LocalCluster

NAMES = ["reviews.prod", "reviews.prod.svc", "reviews.prod.svc.cluster.local"]
CONTEXT = ssl.create_default_context()
"""One for all clients: making one takes 30 ms."""
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def clean(patch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        patch.delenv(name, raising=False)
        patch.delenv(name.lower(), raising=False)


def chosen(client: Any, url: str) -> Any:
    """The transport for a URL, as the client chooses it; of one that stands for two, the one that it would ask."""
    httpx = importlib.import_module(type(client).__module__.partition(".")[0])
    transport = client._transport_for_url(httpx.URL(url))
    if hasattr(transport, "chosen"):
        return transport.chosen(httpx.Request("GET", url))
    return transport


def mounted(world: Any, lb: Any, **options: Any) -> Any:
    return (world.adapter.async_mounts if world.aio else world.adapter.mounts)(lb, **options)


HOSTS = st.sampled_from(
    [
        *NAMES,
        "a.b",
        "prod",
        "svc",
        "cluster.local",
        "svc.cluster.local",
        "reviews",
        "b",
        "",
        "*",
        "localhost",
        "::1",
        "10.0.0.7",
    ]
)
ENTRIES = st.builds(
    lambda scheme, star, host, dot, port, path: f"{scheme}{star}{host}{dot}{port}{path}",
    st.sampled_from(["", "", "", "http://", "https://", "all://", "ALL://", "HTTP://", "ws://", "ftp://", "http://x@"]),
    st.sampled_from(["", "", ".", "*.", "*"]),
    HOSTS,
    st.sampled_from(["", "", "."]),
    st.sampled_from(["", "", ":80", ":443", ":8080"]),
    st.sampled_from(["", "", "/", "/8", "/api"]),
)
PROXIES = st.sampled_from(["", "http://127.0.0.1:9", "127.0.0.1:9", "http://me:pw@127.0.0.1:9"])


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_nothing_in_the_environment_comes_before_a_mount(name, data):
    """Whatever NO_PROXY and proxies say, in whatever form, each name of the service with each scheme and port is ours.

    And another host goes where it went without us: to the same proxy, or directly.
    """
    httpx: Any = importlib.import_module(name)
    adapter: Any = importlib.import_module(f"kubelb.adapters.{name}")
    entries = data.draw(st.lists(ENTRIES, max_size=3))
    proxies = {variable: data.draw(PROXIES) for variable in VARIABLES[:3]}
    others = [
        "web-0.reviews.prod",
        "other.prod",
        "prod",
        "reviewsxprod",
        "reviews.prod.evil.example",
        "c.b",
        "10.0.0.8",
    ]
    with pytest.MonkeyPatch.context() as patch:
        clean(patch)
        for variable, value in {**proxies, "NO_PROXY": ", ".join(entries)}.items():
            patch.setenv(variable, value)
        try:
            bare = httpx.Client(verify=CONTEXT)
        except (httpx.InvalidURL, ValueError, KeyError):
            return  # httpx takes no such environment
        with bare, kubelb.LoadBalancer("static:///127.0.0.1:9") as lb:
            hosts = [*NAMES, "a.b", "10.0.0.7"]
            with httpx.Client(verify=CONTEXT, mounts=adapter.mounts(lb, hosts=hosts, verify=CONTEXT)) as client:
                for host in hosts:
                    for scheme in ("http", "https", "ws", "wss"):
                        for end in ("", ".", ":443", ":8080"):
                            url = f"{scheme}://{host}{end}/"
                            assert isinstance(chosen(client, url), adapter.Transport), (url, entries)
                for host in others:
                    for url in (f"http://{host}/", f"https://{host}:8080/"):
                        before, after = chosen(bare, url), chosen(client, url)
                        assert not isinstance(after, adapter.Transport), (url, entries)
                        assert type(before._pool) is type(after._pool), (url, entries)


@pytest.mark.parametrize(
    "no_proxy", ["reviews.prod", "localhost,.svc,reviews.prod.svc.cluster.local", "http://reviews.prod/"]
)
def test_requests_reach_the_pods_beside_a_proxy(world, service, balance, monkeypatch, no_proxy):
    """With the service in NO_PROXY, as corporate clusters have it, and a proxy that is dead."""
    clean(monkeypatch)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    svc = service(1)
    client = world.client(None, mounts=mounted(world, balance(*svc), hosts=NAMES))
    for host in NAMES:
        assert world.get(client, f"http://{host}/").extensions["kubelb"]["endpoint"] == svc[0].address
    assert svc.requests == 3


def test_other_hosts_that_an_exception_names_go_directly(world, service, balance, monkeypatch):
    """An exception matches what is below a name, too: that is neither the service's nor the proxy's."""
    clean(monkeypatch)
    mine, other = service(1), service(1)
    name = "localhost.test"
    monkeypatch.setenv("NO_PROXY", f"http://*{name}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    made = mounted(world, balance(*mine), hosts=[name])
    both = made[f"http://*{name}"]
    client = world.client(None, mounts={**made, f"http://{other[0].address}": both})
    assert "kubelb" not in world.get(client, f"http://{other[0].address}/").extensions
    assert world.get(client, f"http://{name}/").extensions["kubelb"]
    assert (mine.requests, other.requests) == (1, 1)
    assert "directly" in repr(both)
    plain = both._ours._plain
    assert len(plain) == 1
    child = os.fork()  # connections of what goes directly are the parent's, too
    if child == 0:
        both._ours.after_fork_in_child()
        os._exit(len(both._ours._plain))
    assert os.waitpid(child, 0)[1] == 0
    assert both._ours._plain is plain


def test_what_goes_directly_belongs_to_a_loop(monkeypatch, service, balance):
    """A client that is used in a second loop has connections of the first one no more, directly or not."""
    clean(monkeypatch)
    from kubelb.adapters.httpx import async_mounts

    other = service(1)
    monkeypatch.setenv("NO_PROXY", "http://*localhost.test")
    with kubelb.LoadBalancer(f"static:///{service(1)[0].address}") as lb:
        both = async_mounts(lb, hosts=["localhost.test"])["http://*localhost.test"]

        async def ask() -> object:
            request = httpx.Request("GET", f"http://{other[0].address}/", headers={"connection": "close"})
            response = await both.handle_async_request(request)
            await response.aread()
            return both._ours._plain[0]

        assert asyncio.run(ask()) is not asyncio.run(ask())
        asyncio.run(both.aclose())


def test_every_name_of_a_service_is_mounted(sync_world):
    """Those that the transport serves, the short one of the own namespace included; and no other."""
    with pytest.MonkeyPatch.context() as patch:
        clean(patch)
        patch.setenv("KUBELB_NAMESPACE", "prod")
        for target, names in (("reviews.prod:http", NAMES), ("reviews:http", ["reviews", *NAMES])):
            with kubelb.LoadBalancer(target) as lb:
                made = sync_world.adapter.mounts(lb)
                assert sorted(made) == sorted(f"all://{name}{dot}" for name in names for dot in ("", "."))
                assert len(set(map(id, made.values()))) == 1


def test_several_services_in_one_client(world, service, balance, monkeypatch):
    """Joined as dicts, each keeps its own names."""
    clean(monkeypatch)
    monkeypatch.setenv("NO_PROXY", ".x.y,x.y,a.x.y")
    one, two = service(1), service(1)
    client = world.client(
        None,
        mounts={
            **mounted(world, balance(*one), hosts=["a.x.y"]),
            **mounted(world, balance(*two), hosts=["b.x.y", "::1", "münchen.example"]),
        },
    )
    assert world.get(client, "http://a.x.y/").extensions["kubelb"]["endpoint"] == one[0].address
    for host in ("b.x.y", "[::1]:81", "münchen.example"):
        assert world.get(client, f"http://{host}/").extensions["kubelb"]["endpoint"] == two[0].address


def test_a_list_without_names_cannot_be_mounted(world):
    """It says what to give instead."""
    with kubelb.LoadBalancer("static:///127.0.0.1:9") as lb, pytest.raises(ValueError, match=r"give hosts=\['NAME'\]"):
        mounted(world, lb)


def test_a_target_of_its_own_is_closed_with_the_client(world, cluster: LocalCluster, service):
    """As with a transport."""
    svc = service(1)
    name = f"{svc.name}.{svc.namespace}"
    made = mounted(world, f"kube:///{svc.address}", hosts=[name])
    lb = next(iter(made.values())).lb
    world.close(world.client(None, mounts=made))
    with pytest.raises(kubelb.Closed):
        lb.wait_ready(timeout=0.1)
