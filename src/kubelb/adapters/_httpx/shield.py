"""Cleaning up although the task is being cancelled.

httpcore gives a connection back in several turns of the event loop, though none of them waits for anything. A native
cancellation (`task.cancel()`, `asyncio.timeout`) that hits between two of them leaves a connection that counts as busy
for ever; httpcore's own shield knows only anyio's cancel scopes. Here such a cancellation is put off until the
coroutine has ended, and comes before an error of the coroutine's own. It is not put off while the coroutine waits for a
real event.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["shielded"]


class shielded:  # noqa: N801  # used as a function: `await shielded(coroutine)`
    """Await a coroutine; a cancellation that comes while it only yields its turn is raised when it has ended."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine = self._coroutine
        cancelled: asyncio.CancelledError | None = None
        try:
            waits_for = coroutine.send(None)
            while True:
                try:
                    yield waits_for
                except asyncio.CancelledError as error:
                    if waits_for is None:
                        cancelled = error
                        waits_for = coroutine.send(None)
                    else:
                        waits_for = coroutine.throw(error)
                except BaseException as error:  # noqa: BLE001
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(None)
        except StopIteration:
            pass
        except Exception:
            if cancelled is None:
                raise
        finally:
            coroutine.close()
        if cancelled is not None:
            raise cancelled
