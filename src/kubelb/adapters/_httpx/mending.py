"""What a cancelled request leaves in httpcore's pool is taken out of it.

A cancellation is never put off before the headers are here: it ends a request where it finds it, as with the bare
client. Where it finds it between two turns of httpcore's own work (a second one in the clean-up after the first, one
that comes with a timeout, one between the end of connecting and the first use of the connection), that connection
counts as busy although no request has it. So the pool is looked through after each cancelled request.

In the pool's own terms: a connection is idle, or closed, or a request of the pool holds it; every other one is lost.
"""

from typing import Any

__all__ = ["mend"]


async def mend(pool: Any) -> None:
    """Close what is lost in an `httpcore.AsyncConnectionPool`, and let the requests that queue have its place."""
    held = {id(request.connection) for request in pool._requests}  # noqa: SLF001  # there is no public way
    lost = [
        connection
        for connection in pool.connections
        if id(connection) not in held and not (connection.is_idle() or connection.is_closed())
    ]
    if lost:
        for connection in lost:
            pool._connections.remove(connection)  # noqa: SLF001
        lost += pool._assign_requests_to_connections()  # noqa: SLF001
        await pool._close_connections(lost)  # noqa: SLF001
