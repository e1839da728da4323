"""The traffic of one life of a gRPC pod: the tunnels that lead to its server, and the calls that are under way.

A call is known to come through a tunnel by the port of the tunnel's socket, which is its peer.
"""

from __future__ import annotations

import threading
from typing import Protocol

from kubelb.testing._grpc.tunnel import Tunnel
from kubelb.testing.connection import Connection
from kubelb.testing.received_call import ReceivedCall
from kubelb.testing.responder import Responder


class Underway(Protocol):
    """A call, as far as it is counted."""

    received: ReceivedCall
    tunnel: Tunnel | None

    def ring(self) -> None:
        """What sleeps in it looks at what has changed."""


class Traffic:
    """What goes on; `responder` hears of every call that begins and ends until the life is `dead`."""

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.dead = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._working: set[Underway] = set()  # calls whose handlers have not done with them
        self._open: set[Underway] = set()  # these, and those whose status is still to be sent
        self._tunnels: dict[int, Tunnel] = {}

    def lead(self, connection: Connection, address: tuple[str, int]) -> None:
        """Lead a connection to the server at `address`, until either side ends."""
        tunnel = Tunnel(connection, address)
        with self._lock:
            self._tunnels[tunnel.port] = tunnel
        try:
            tunnel.run()
        finally:
            with self._lock:  # before its port can be that of another one
                del self._tunnels[tunnel.port]
            tunnel.close()

    def tunnel(self, peer: str) -> Tunnel | None:
        """The one that a call comes through, by its peer: "ipv4:127.0.0.1:PORT"."""
        with self._lock:
            return self._tunnels.get(int(peer.rpartition(":")[2]))

    def enter(self, call: Underway) -> bool:
        """Count a call whose handler is entered; False when it has come too late."""
        with self._lock:
            if self.dead:
                return False
            self._working.add(call)
            self._open.add(call)
            if call.tunnel is not None:
                call.tunnel.count(+1)
            self.responder.begin(call.received)
            return True

    def finish(self, call: Underway) -> None:
        """A call is not being worked on any more; harmless when repeated."""
        with self._lock:
            self._finish(call)

    def leave(self, call: Underway) -> None:
        """A call is over, for its client, too."""
        with self._lock:
            self._finish(call)
            if call in self._open:
                self._open.remove(call)
                if call.tunnel is not None:
                    call.tunnel.count(-1)
            self._changed.notify_all()

    def settle(self, wait: float = 0.1) -> None:
        """Return when answers that are on their way have gone out, or after `wait` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._open) == len(self._working), wait)
            tunnels = list(self._tunnels.values())
        for tunnel in tunnels:
            tunnel.flush()

    def ring(self) -> None:
        """Wake the calls that sleep in a fault."""
        with self._lock:
            calls = list(self._working)
        for call in calls:
            call.ring()

    def die(self) -> None:
        """Take no call any more; those under way belong to none."""
        with self._lock:
            self.dead = True
            calls = list(self._working)
            for call in calls:
                self._finish(call)
        for call in calls:
            call.ring()

    def _finish(self, call: Underway) -> None:
        if call in self._working:
            self._working.remove(call)
            self.responder.finished()
