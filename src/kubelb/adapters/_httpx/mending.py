"""What a request that did not end well leaves in httpcore's pool is taken out of it.

A cancellation is never put off before the headers are here: it ends a request where it finds it, as with the bare
client. Where it finds it between two turns of httpcore's own work (a second one in the clean-up after the first, one
that comes with a timeout, one between the end of connecting and the first use of the connection), that connection
counts as busy although no request has it. So may the one that a request was given in the turn in which its time for the
pool was over. And the close of a response can be cut: it waits for the connection's lock, which another request holds
that was given the same connection and came second; httpcore begins a close once, and never ends what was cut.

So the pool is looked through after each request that ended with an exception, and after each body that was cut. In the
pool's own terms: a connection is idle, or closed, or a request of the pool holds it; every other one is lost.
"""

from asyncio import CancelledError
from contextlib import suppress
from typing import Any

from kubelb.adapters._httpx.shield import shielded

__all__ = ["close", "cut", "mend"]


async def mend(pool: Any, ended: Any = None) -> None:
    """Close what is lost in an `httpcore.AsyncConnectionPool`, and let the requests that queue have its place.

    `ended` is a request of the pool that has ended, although the pool was not told.
    """
    with suppress(Exception):  # what ended the request is told, and nothing else
        requests = pool._requests  # noqa: SLF001  # there is no public way
        if ended in requests:
            requests.remove(ended)
        held = {id(request.connection) for request in requests}
        lost = [
            connection
            for connection in pool.connections
            if id(connection) not in held and not (connection.is_idle() or connection.is_closed())
        ]
        if lost or ended is not None:
            for connection in lost:
                pool._connections.remove(connection)  # noqa: SLF001
            lost += pool._assign_requests_to_connections()  # noqa: SLF001
            await pool._close_connections(lost)  # noqa: SLF001


async def close(stream: Any) -> None:
    """Close the stream of an `httpcore.Response`: all of it, even if this is cancelled."""
    try:
        await shielded(stream.aclose())
    except CancelledError:
        await cut(stream)
        raise


async def cut(stream: Any) -> None:
    """A cancellation came while the stream was read or closed: close it, also where that had begun and was cut."""
    try:
        await shielded(stream.aclose())
    finally:
        await mend(getattr(stream, "_pool", None), getattr(stream, "_pool_request", None))
