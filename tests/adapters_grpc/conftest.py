"""What the tests of gRPC share: servers, balancers that must end with nothing in flight, generated code."""

import gc
import importlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes.client  # noqa: F401  on a busy machine that takes seconds, which calls would wait for
import pytest
from tests.adapters_grpc.servers import EchoServer
from tests.spelled import spelled

from kubelb import LoadBalancer
from kubelb.adapters._grpc.shared.subchannel import READY
from kubelb.service import service_of

PROTO = """
syntax = "proto3";
package reviews.v1;
service Reviews {
  rpc Get(Query) returns (Review);
  rpc List(Query) returns (stream Review);
  rpc Add(stream Review) returns (Summary);
  rpc Chat(stream Query) returns (stream Review);
}
message Query { string book = 1; }
message Review { string book = 1; string text = 2; int32 stars = 3; }
message Summary { int32 count = 1; }
"""


def in_flight(lb: LoadBalancer) -> int:
    return sum(state.in_flight for state in service_of(lb).balancer.states())


def connected(channel: Any) -> int:
    """How many sub-channels have a connection. What begins before a loss is seen here may end with the connection."""
    return sum(sub.check(False) == READY for sub in tuple(channel.subs._subs.values()))


def until(condition: Callable[[], Any], timeout: float = 10.0) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def server() -> Iterator[Callable[..., EchoServer]]:
    """Makes servers that are stopped when the test ends."""
    made: list[EchoServer] = []

    def make(**options: Any) -> EchoServer:
        made.append(EchoServer(**options))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def balance() -> Iterator[Callable[..., LoadBalancer]]:
    """Makes load balancers over servers or addresses; when the test ends nothing may be in flight on any."""
    made: list[LoadBalancer] = []

    def make(*servers: Any, **options: Any) -> LoadBalancer:
        addresses = [getattr(server, "address", server) for server in servers]
        options.setdefault("rng", random.Random(7))
        made.append(LoadBalancer(f"static:///{','.join(addresses)}", **spelled(options)))
        return made[-1]

    yield make
    gc.collect()
    for lb in made:
        assert until(lambda lb=lb: in_flight(lb) == 0), service_of(lb).balancer.states()
        lb.close()


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Code that grpcio-tools generates from `PROTO`: `.pb2`, `.pb2_grpc`."""
    from grpc_tools import protoc

    folder: Path = tmp_path_factory.mktemp("protos")
    name = f"reviews_{random.getrandbits(32):08x}"
    (folder / f"{name}.proto").write_text(PROTO)
    arguments = [f"-I{folder}", f"--python_out={folder}", f"--grpc_python_out={folder}", f"{name}.proto"]
    assert protoc.main(["protoc", *arguments]) == 0
    sys.path.insert(0, str(folder))
    try:
        return SimpleNamespace(
            pb2=importlib.import_module(f"{name}_pb2"), pb2_grpc=importlib.import_module(f"{name}_pb2_grpc")
        )
    finally:
        sys.path.remove(str(folder))
