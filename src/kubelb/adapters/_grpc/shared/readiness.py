"""Whether another pick may say something else than the last one: connections have come up, or endpoints have.

grpcio has no way to be told of many channels' states that would not cost a thread for each (see `watch.py`). So what
waits looks, after a millisecond at first and then ever more rarely, and is woken by news of the endpoints meanwhile.
While nothing waits, nothing looks.

A pick is the core's, and the core may know better than to take what is connected: an endpoint that rests, or that is
ejected. So what was READY when a pick failed is no reason to pick again at once, or picks would spin until the other
connections are made. It is one now and then, for a rest ends without news.
"""

from collections.abc import Callable, Collection

import grpc

from kubelb.adapters._grpc.shared.subchannels import POLL, SubChannels
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.model import Request
from kubelb.service import Service

__all__ = ["Poll", "Readiness"]


class Poll:
    """The pauses between looks: doubling from the least to the most."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = POLL[0]

    def pause(self) -> float:
        """Return the next pause in seconds."""
        pause, self._next = self._next, min(2 * self._next, POLL[1])
        return pause


class Readiness:
    """What both of `kubelb.runtime.calls.Connections` and its twin for asyncio need, but for the waiting itself."""

    def __init__(self, lb: Service, subs: SubChannels, *, patient: bool) -> None:
        self.lb = lb
        self.subs = subs
        self.patient = patient
        self.pick: Callable[[Request, Collection[EndpointState]], Lease]
        self.pick = subs.pick_patiently if patient else subs.pick

    def question(self, version: int | None) -> Callable[[], bool]:
        """Return the question whether what has just made a pick say NotReady has changed: connections, or endpoints.

        Where a connection was READY already, it says so all the same after half the longest pause between looks: it may
        have become so since that pick.
        """
        balancer, subs = self.lb.balancer, self.subs
        before, again = subs.ready(), balancer.clock() + POLL[1] / 2

        def over() -> bool:
            if balancer.version != version or balancer.closed:
                return True
            state = subs.connectivity()
            if state is grpc.ChannelConnectivity.READY:
                return balancer.clock() >= again or not subs.ready() <= before
            if state is grpc.ChannelConnectivity.CONNECTING:
                return False
            return not (self.patient and state is grpc.ChannelConnectivity.TRANSIENT_FAILURE)

        return over
