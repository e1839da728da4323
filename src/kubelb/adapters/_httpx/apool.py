"""httpcore's asyncio pool, which takes the time to close what it has taken out."""

from asyncio import CancelledError
from typing import Any

from kubelb.adapters._httpx.shield import shielded

__all__ = ["unhurried"]


def unhurried(httpcore: Any) -> Any:
    """Return a pool that closes all that it has begun to close.

    Expired and surplus connections are closed one after the other by the next request. If a native cancellation came
    between two of them, or one raised an error, the rest would stay open, and nothing would know them any more.
    """

    class AsyncPool(httpcore.AsyncConnectionPool):  # type: ignore[misc]
        async def _close_connections(self, closing: Any) -> None:
            if closing:  # nearly never, and httpcore's own shield costs 10 us
                cut: BaseException | None = None
                for connection in closing:
                    try:
                        await shielded(super()._close_connections([connection]))
                    except CancelledError as error:
                        cut = error
                    except Exception as error:  # noqa: BLE001
                        cut = cut or error
                if cut is not None:
                    raise cut

    return AsyncPool
