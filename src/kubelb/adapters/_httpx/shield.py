"""Cleaning up although the task is being cancelled.

httpcore gives a connection back in several turns of the event loop, though none of them waits for anything. Its own
shield holds off anyio's cancel scopes and knows nothing of a native cancellation (`task.cancel()`, `asyncio.timeout`):
one that hits between two turns leaves a connection that counts as busy for ever. Here such a cancellation is put off:

    while the coroutine only yields its turn       put off
    it waits for a real event                      delivered, as `task.cancel()` at this moment would
    it has ended, whatever with                    raised

Never put off is what belongs to a cancel scope of anyio's: httpcore's timeouts are such scopes, and those of the caller
may lie around them. anyio delivers at every turn until the scope has ended, and code inside may wait for just that.
Whether it delivers here and now is asked of anyio itself: a cancelled scope that no shield hides is an effective
deadline of minus infinity. (Only the words of the exception tell the two apart otherwise, and two cancellations of the
same turn are one exception.)
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from anyio import current_effective_deadline

__all__ = ["shielded"]

CANCELLED = float("-inf")


class shielded:  # noqa: N801  # used as a function: `await shielded(coroutine)`
    """Await a coroutine; a native cancellation that comes while it only yields its turn is raised soon after."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, value = self._coroutine, None
        cancelled: asyncio.CancelledError | None = None
        try:
            waits_for = coroutine.send(None)
            while True:
                if cancelled is not None and waits_for is not None and waits_for.cancel(*cancelled.args[:1]):
                    cancelled = None  # it comes back from there
                try:
                    yield waits_for
                except asyncio.CancelledError as error:
                    if waits_for is None and current_effective_deadline() != CANCELLED:
                        cancelled = error
                        waits_for = coroutine.send(None)
                    else:
                        waits_for = coroutine.throw(error)
                except BaseException as error:  # noqa: BLE001
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(None)
        except StopIteration as stop:
            value = stop.value
        except Exception:
            if cancelled is None:
                raise
        finally:
            coroutine.close()
        if cancelled is not None:
            raise cancelled
        return value
