"""What of others' insides our HTTP/2 stands on: a release that changes it is noticed here, and not by a user."""

import importlib
import inspect
from typing import Any

import h2.config
import h2.connection
import h2.stream
import pytest

CORES = ["httpcore", "httpcore2"]


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("aio", [False, True])
def test_httpcore_has_the_places_that_are_hooked_into(name: str, aio: bool) -> None:
    core: Any = importlib.import_module(name)
    prefix = "Async" if aio else ""
    pool = getattr(core, f"{prefix}ConnectionPool")(http1=True, http2=True)
    for attribute in ("_ssl_context", "_keepalive_expiry", "_http1", "_http2", "_network_backend", "_connections"):
        assert hasattr(pool, attribute), attribute
    assert list(inspect.signature(pool.create_connection).parameters) == ["origin"]
    assert not inspect.signature(pool._assign_requests_to_connections).parameters
    assert list(inspect.signature(pool._close_connections).parameters) == ["closing"]
    assert aio or hasattr(pool._optional_thread_lock, "__enter__")

    connection = pool.create_connection(core.Origin(b"https", b"reviews.prod", 443))
    assert type(connection) is getattr(core, f"{prefix}HTTPConnection")
    assert connection._connection is None
    assert connection._connect_failed is False
    assert connection._origin.scheme == b"https"
    assert hasattr(connection, "_keepalive_expiry")
    assert list(inspect.signature(connection._connect).parameters) == ["request"]
    assert inspect.iscoroutinefunction(connection._connect) is aio
    source = inspect.getsource(getattr(connection, "handle_async_request" if aio else "handle_request"))
    assert "self._connection." in source  # that is where the request goes once it is connected
    assert issubclass(core.ConnectionNotAvailable, Exception)
    one = getattr(core, f"{prefix}HTTP11Connection")
    assert list(inspect.signature(one).parameters) == ["origin", "stream", "keepalive_expiry"]


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("aio", [False, True])
def test_a_connection_answers_all_that_the_pool_asks(name: str, aio: bool) -> None:
    """Every method of httpcore's own HTTP/2 connection that does not begin with an underscore."""
    from kubelb.adapters._httpx.http2 import tasks, threads

    core: Any = importlib.import_module(name)
    theirs = getattr(core, "AsyncHTTP2Connection" if aio else "HTTP2Connection")
    ours = tasks.Connection if aio else threads.Connection
    wanted = {name for name in vars(theirs) if not name.startswith("_") and callable(getattr(theirs, name))}
    assert wanted <= {*dir(ours)}


def test_h2_counts_the_body_where_we_tell_it_not_to() -> None:
    config = h2.config.H2Configuration(client_side=True)
    stream = h2.stream.H2Stream(1, config, inbound_window_size=10, outbound_window_size=10)
    assert stream._expected_content_length is None
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, [(":method", "GET"), (":authority", "x"), (":scheme", "http"), (":path", "/")])
    assert isinstance(connection.streams[1], h2.stream.H2Stream)
