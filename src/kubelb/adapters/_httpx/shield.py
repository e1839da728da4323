"""Cleaning up although the task is being cancelled.

httpcore gives a connection back in several turns of the event loop, though none of them waits for anything. A native
cancellation (`task.cancel()`, `asyncio.timeout`) that hits between two of them leaves a connection that counts as busy
for ever; httpcore's own shield knows only anyio's cancel scopes. Here such a cancellation is put off until the
coroutine has ended, and comes before an error of the coroutine's own. It is not put off while the coroutine waits for a
real event.

A request that is cancelled cleans up inside httpcore, where a second cancellation would do the same harm: two timeouts
that end at nearly the same time, a server that shuts down meanwhile. There only those after the first are put off.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["cancelled_once", "shielded"]


class shielded:  # noqa: N801  # used as a function: `await shielded(coroutine)`
    """Await a coroutine; a cancellation that comes while it only yields its turn is raised when it has ended."""

    __slots__ = ("_coroutine",)
    cleaning = True
    """Whether the coroutine cleans up from its beginning."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, cleaning, value = self._coroutine, self.cleaning, None
        cancelled: asyncio.CancelledError | None = None
        try:
            waits_for = coroutine.send(None)
            while True:
                try:
                    yield waits_for
                except asyncio.CancelledError as error:
                    if cleaning and waits_for is None:
                        cancelled = error
                        waits_for = coroutine.send(None)
                    else:
                        cleaning = True
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


class cancelled_once(shielded):  # noqa: N801
    """Await a coroutine that may be cancelled, and cleans up then: further cancellations are put off until it has."""

    __slots__ = ()
    cleaning = False
