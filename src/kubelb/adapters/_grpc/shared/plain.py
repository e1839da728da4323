"""The plain way, while kubelb is switched off: one channel of grpcio's own, to the Service's own name.

    reviews.prod:9090, or fallback_port=9090    reviews.prod.svc.cluster.local:9090
    KUBELB_TARGETS has an entry                 its address, the first where there are several
    reviews.prod:grpc alone                     refused: only the API server knows the number of the Service's port

A call gets grpcio's own call object, so all that grpcio does is as if kubelb was not there. The channel is made by the
first call that needs it, with the credentials, options, compression and interceptors that connections to pods have;
what kubelb adds to these, for pods alone, is left out. It is made anew where the files of its credentials have changed
and its connection is lost, as those are.
"""

import threading
from collections.abc import Callable
from typing import Any

from kubelb.adapters._grpc.shared.options import Options
from kubelb.adapters._grpc.shared.subchannel import IDLE, READY
from kubelb.adapters._grpc.shared.watch import Check

__all__ = ["Plain", "plain_options"]


class Plain:
    """The plain way of one channel.

    `make()` returns a new channel of grpcio's and the question for its state; `edition()` is another number when what
    it would be made with has changed; `closed()` returns what a call on a closed channel raises.
    """

    def __init__(
        self,
        make: Callable[[], tuple[Any, Check]],
        edition: Callable[[], int],
        closed: Callable[[], Exception],
    ) -> None:
        self._make = make
        self._edition = edition
        self._no_more = closed
        self._abandoned: list[object] = []
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[Any, Check, int] | None = None
        self._replaced: list[Any] = []
        """Channels made with files that have changed since: calls may wait on them until all is closed."""

    def channel(self) -> Any:
        """Return grpcio's channel, made where there was none that will do.

        Raises NoEndpoints, as gRPC's users catch it, where the port of the Service is not known.
        """
        kept = self._kept
        if kept is not None and (kept[1](False) == READY or kept[2] == self._edition()):
            return kept[0]
        with self._lock:
            if self._closed:
                raise self._no_more()
            if self._kept is kept:  # else another thread was faster
                edition, before = self._edition(), self.made()
                self._kept = (*self._make(), edition)
                self._replaced += before
            assert self._kept is not None
            return self._kept[0]

    def check(self, connect: bool) -> int:
        """Return its state, as core counts; `connect`: make it and begin to connect where that has not been begun."""
        if connect:
            self.channel()
        kept = self._kept
        return IDLE if kept is None else int(kept[1](connect))

    def made(self) -> list[Any]:
        """Return the channel if there is one."""
        kept = self._kept
        return [] if kept is None else [kept[0]]

    def take(self) -> list[Any]:
        """Close the whole: no more calls; returns the channels that there were."""
        with self._lock:
            self._closed = True
            taken, self._kept = [*self.made(), *self._replaced], None
            self._replaced = []
        return taken

    def forget(self) -> None:
        """Start anew: what the channel belongs to, an event loop, is gone."""
        self._forget()

    def abandon(self) -> None:
        """In a forked child: forget it unclosed, for its connection is the parent's."""
        self._abandoned += [self._kept, self._replaced]
        self._forget()


def plain_options(authority: str | None, given: Options) -> Options:
    """Return the options of the plain channel: the user's, the name that pods are called by, too, and no proxy."""
    named = {name for name, _ in given}
    ours = [("grpc.enable_http_proxy", 0), *([("grpc.default_authority", authority)] if authority else [])]
    return (*((name, value) for name, value in ours if name not in named), *given)
