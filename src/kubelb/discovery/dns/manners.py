"""How each nameserver is best asked, as found out by asking: with EDNS, without, or over TCP.

    EDNS over UDP --FORMERR, NOTIMP, BADVERS, an answer that cannot be read; and without EDNS it answers--> PLAIN
         |        --silence twice, and it answered a second try without EDNS--> PLAIN
         |        --silence twice, and it answered over TCP alone--> TCP
         +<-- `KEEP` seconds later, or as soon as it answers a question with EDNS after all

One silence is no proof: a datagram may be lost. Two look-ups in a row are, because each of them costs a second.
Belongs to one asker, and so to one thread.
"""

from enum import Enum
from typing import NamedTuple

from kubelb.model import Address

__all__ = ["KEEP", "Manners", "Way"]

KEEP = 600.0
"""Seconds for which it is remembered: nameservers and firewalls are mended, too."""
PROOF = 2
"""Look-ups in a row that silence must have delayed."""
SULKS = 30.0
"""Seconds for which one that was silent comes last where nameservers take turns."""


class Way(Enum):
    """How a question is sent. Over TCP it needs no EDNS: there is room for 64 KiB."""

    EDNS = "UDP"
    PLAIN = "UDP without EDNS"
    TCP = "TCP"

    @property
    def how(self) -> str:
        """``"UDP"`` or ``"TCP"``."""
        return "TCP" if self is Way.TCP else "UDP"


class _Doubt(NamedTuple):
    way: Way
    times: int
    at: float


class Manners:
    """What is known of the nameservers that were asked. Times are those of the asker's clock."""

    def __init__(self) -> None:
        self._known: dict[Address, tuple[Way, float]] = {}
        self._doubts: dict[Address, _Doubt] = {}
        self._silent: dict[Address, float] = {}

    def way(self, server: Address, now: float) -> Way:
        """How to ask it first."""
        way, until = self._known.get(server, (Way.EDNS, 0.0))
        return way if now < until else Way.EDNS

    def learn(self, server: Address, way: Way, now: float) -> None:
        """It answered in this way what it refused in the one before."""
        self._known[server] = way, now + KEEP
        self._doubts.pop(server, None)

    def suspect(self, server: Address, way: Way, began: float, now: float) -> None:
        """It answered in this way a question, begun at `began`, that it had not answered in time in another."""
        doubt = self._doubts.get(server)
        if doubt is not None and began < doubt.at:  # asked beside the other: one silence, not two
            return
        times = doubt.times + 1 if doubt is not None and doubt.way is way else 1
        if times >= PROOF:
            self.learn(server, way, now)
        else:
            self._doubts[server] = _Doubt(way, times, now)

    def fine(self, server: Address) -> None:
        """It answered with EDNS over UDP."""
        self._known.pop(server, None)
        self._doubts.pop(server, None)

    def silent(self, server: Address, now: float) -> None:
        """It has not answered in time."""
        self._silent[server] = now

    def heard(self, server: Address) -> None:
        """It has answered, in whatever way."""
        self._silent.pop(server, None)

    def sulks(self, server: Address, now: float) -> bool:
        """Whether it was silent not long ago, and has not answered since."""
        return now - self._silent.get(server, float("-inf")) < SULKS
