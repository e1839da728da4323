"""What `LoadBalancer.on_event` keeps: callables of the user's, which hear each event when it has been counted.

They are called in the thread in which something happened, after every lock was released, so one may look at the load
balancer and even make calls. One that raises has lost its own event and nothing else: it is told once, and goes on
hearing.
"""

from collections.abc import Callable
from contextlib import suppress
from types import CoroutineType
from typing import TypeAlias

from kubelb.core.events import Event
from kubelb.printable import shown
from kubelb.telemetry.broken import lost

__all__ = ["Hear", "Heard"]

COROUTINE = 0x80
"""The flag of code that ``async def`` makes (`inspect.CO_COROUTINE`)."""

Hear: TypeAlias = Callable[[Event], object]


class Heard:
    """The callables of one load balancer."""

    def __init__(self) -> None:
        self._all: list[_Hearing] = []
        """Added to and taken from by single operations, so that no lock is needed, nor a new one in a forked child."""

    def add(self, hear: Hear) -> Callable[[], None]:
        """Have it hear every event from now on; returns what takes it back. TypeError for what is no callable."""
        if not callable(hear):
            raise TypeError(f"on_event({shown(hear)}): give a callable that takes an event")
        if getattr(getattr(hear, "__code__", None), "co_flags", 0) & COROUTINE:
            raise TypeError(f"on_event({_name(hear)}): an async function; give one that returns when it is done")
        hearing = _Hearing(hear, self._all)
        self._all.append(hearing)
        return hearing

    def tell(self, event: Event) -> None:
        """Call each with the event; never raises an Exception."""
        for hearing in tuple(self._all):
            hearing.tell(event)


class _Hearing:
    """One registration, so that one callable may be registered twice and taken back once."""

    def __init__(self, hear: Hear, among: "list[_Hearing]") -> None:
        self._hear = hear
        self._among = among

    def __call__(self) -> None:
        """Take it back; too late, and a second time, is no error."""
        with suppress(ValueError):  # two threads may take it back at once
            self._among.remove(self)

    def tell(self, event: Event) -> None:
        try:
            _finish(self._hear(event))
        except Exception as error:  # noqa: BLE001 - the application's own
            lost(f"on_event({_name(self._hear)})", error)


class NotAwaited(TypeError):
    """An async function was given to `on_event`, and nothing would await what it returns."""


def _finish(made: object) -> None:
    if type(made) is CoroutineType:
        made.close()
        raise NotAwaited


def _name(hear: Hear) -> str:
    return str(getattr(hear, "__qualname__", None) or type(hear).__qualname__)
