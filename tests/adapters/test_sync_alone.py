"""What a sync program pays for: nothing of asyncio, although the asyncio transport is a name of the same module."""

import pickle
import subprocess
import sys

import pytest

from kubelb import lazily

ASYNC_ONLY = "asyncio", "anyio._core", "anyio.abc", "concurrent.futures", "typing_extensions", "subprocess"
"""What httpx alone does not load for a sync client either. (Its httpcore asks whether anyio is there.)"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
@pytest.mark.parametrize("way", ["", ", http1=False, http2=True"])
def test_a_sync_request_loads_nothing_of_asyncio(name, way):
    """The kind: 50 ms of a cold start for an event loop that a sync program never has. To the end of a request, with
    both versions of HTTP; the same request with the bare client says what is not ours.
    """
    program = f"""
import sys, {name}
ALL = {ASYNC_ONLY!r}
def loaded():
    return {{one for one in ALL if one in sys.modules}}
import socket
port = socket.create_server(("127.0.0.1", 0))
address = "127.0.0.1:%d" % port.getsockname()[1]
port.close()
def ask(client, url):
    with client:
        try:
            client.get(url)
        except {name}.ConnectError:
            print("refused")
ask({name}.Client(trust_env=False), "http://" + address)
theirs = loaded()
from kubelb.adapters.{name} import Transport, mounts
ask({name}.Client(transport=Transport("static:///" + address{way})), "http://reviews.prod/")
print(*sorted(loaded() - theirs))
"""
    assert run(program) == ["refused", "refused"]


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_the_asyncio_transport_is_there_as_if_it_had_been_loaded(name):
    """`dir`, `import`, a star, `hasattr`, pickling and `isinstance` know it; it is one class, whose module says so."""
    program = f"""
import sys, pickle, {name}
import kubelb.adapters.{name} as module
assert "AsyncTransport" in dir(module) and "Transport" in dir(module) and "asyncio" not in sys.modules
assert not hasattr(module, "Nothing") and "asyncio" not in sys.modules
try:
    module.Nothing
except AttributeError as error:
    assert "kubelb.adapters.{name}" in str(error) and "Nothing" in str(error)
from kubelb.adapters.{name} import AsyncTransport
assert module.AsyncTransport is AsyncTransport is vars(module)["AsyncTransport"]
assert pickle.loads(pickle.dumps(AsyncTransport)) is AsyncTransport
assert AsyncTransport.__module__ == "kubelb.adapters.{name}" and AsyncTransport.__qualname__ == "AsyncTransport"
transport = AsyncTransport("static:///127.0.0.1:9", hosts=["a"])
assert isinstance(transport, {name}.AsyncBaseTransport) and not isinstance(transport, module.Transport)
assert all(type(one) is AsyncTransport for one in module.async_mounts(transport.lb, hosts=["a"]).values())
from kubelb.adapters.{name} import *
assert async_mounts is module.async_mounts
print("ok")
"""
    assert run(program) == ["ok"]


def test_pickles_of_the_name_load_in_a_fresh_process():
    """What has the class's name in it finds it where nothing has been imported yet."""
    from kubelb.adapters.httpx import AsyncTransport

    program = f"import pickle; print(pickle.loads({pickle.dumps(AsyncTransport)!r}).__name__)"
    assert run(program) == ["AsyncTransport"]


def test_a_later_name_is_looked_up_once():
    """`lazily.later` leaves what it found in the module, where it is found without it from then on."""
    namespace = {"__name__": "here", "there": 1, "__all__": ["there", "RoundRobin"]}
    getter, lister = lazily.later(namespace, RoundRobin="core.policies")
    assert lister() == sorted(["RoundRobin", *namespace])
    assert "RoundRobin" not in namespace
    found = getter("RoundRobin")
    assert namespace["RoundRobin"] is found
