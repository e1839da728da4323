"""Telling: an event goes to the log, to the counters and to callables of the user's, in this order."""

from collections.abc import Callable

from kubelb.clock import Clock
from kubelb.core.events import Event
from kubelb.telemetry.churn import Later
from kubelb.telemetry.heard import Hear, Heard
from kubelb.telemetry.logs import LogSink
from kubelb.telemetry.watch import Watch

__all__ = ["Telling"]


class Telling:
    """Of one load balancer."""

    def __init__(self, watch: Watch, clock: Clock, later: Later) -> None:
        self._log = LogSink(clock, later)
        self._watch = watch
        self._heard = Heard()

    def tell(self, event: Event, service: str) -> None:
        """Report what happened, under this name: a source may be for another target, an event have an older name."""
        if event.service != service:
            event = event.named(service)
        self._log(event)
        self._watch.count(event)
        self._heard.tell(event)

    def on_event(self, hear: Hear) -> Callable[[], None]:
        """Have a callable hear each from now on; returns what takes it back."""
        return self._heard.add(hear)

    def after_fork_in_child(self) -> None:
        """Locks of our own."""
        self._log.after_fork_in_child()
