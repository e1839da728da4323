"""The sub-channels of one channel: one per endpoint, connected ahead of need, picked among while READY.

    added       made by the first call, and then with each snapshot: connecting begins at once
    READY       may be picked; the question is asked at each pick and costs 0.1 to 0.4 us
    not READY   passed over, and told to connect: a connection that was lost is made again by the next pick, by the
                next call to fail there, or within a quarter of a second while a stream is open there
    removed     closed once nothing is in flight on its endpoint

A connection that is not ready says nothing about the endpoint's health, for it may be this client's own; so it is the
pick that is narrowed, and the endpoint's statistics stay what they are. Those that look at the load balancer are told
of it all the same (`kubelb.runtime.links`).

Where none is READY the whole is in the state that gRPC knows for such a set: CONNECTING while any is on its way, and a
pick is worth waiting for; TRANSIENT_FAILURE where all have failed, and a call fails at once unless it was told to wait.

`make(state)` returns a new channel to an endpoint and the question for its state, `close(channel)` closes it, from
whatever thread notices. `edition()` is another number when what channels are made with has changed: those that are not
READY are then made anew. `closed()` is what a closed channel raises.

What wraps the making of channels, as instrumentations do, may raise for one endpoint and not for others. So one that
could not be made is there all the same, fails like one that cannot connect, and is tried again after a pause.
"""

import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any

import grpc

from kubelb.adapters._grpc.shared.codes import BROKEN
from kubelb.adapters._grpc.shared.lastwords import PAUSE, UNMADE
from kubelb.adapters._grpc.shared.subchannel import CONNECTING, FAILING, IDLE, READY, SubChannel, state_of
from kubelb.adapters._grpc.shared.unreached import Unreached
from kubelb.adapters._grpc.shared.watch import Check
from kubelb.core.balancer import Balancer
from kubelb.core.lease import Lease
from kubelb.core.refusal import Unconnected
from kubelb.core.state import EndpointState
from kubelb.errors import LoadBalancerError, NoEndpoints, NotReady, UnknownService
from kubelb.model import Outcome, Request, Verdict
from kubelb.printable import printable

__all__ = ["POLL", "SubChannels"]

POLL = (0.001, 0.032)
"""Seconds between two looks while something is waited for, at first and at most."""


class SubChannels:
    """See the module. Picks may come from any thread; for asyncio everything happens on one loop."""

    def __init__(
        self,
        balancer: Balancer,
        make: Callable[[EndpointState], tuple[Any, Check]],
        close: Callable[[Any], None],
        edition: Callable[[], int],
        closed: Callable[[], Exception],
    ) -> None:
        self._balancer = balancer
        self._make = make
        self._close = close
        self._edition = edition
        self._closed = closed
        self._abandoned: list[object] = []
        self.dropped: Callable[[EndpointState], None] = _nothing
        """Called when what was made for a state's channel is of no more use."""
        self.unreached = Unreached(balancer, lambda: tuple(self._subs.items()))
        """Those that cannot connect, and their words."""
        self._reset()

    def _reset(self) -> None:
        self._begun = self._balancer.clock()
        self._lock = threading.Lock()
        self._subs: dict[EndpointState, SubChannel] = {}
        self.leaving: set[EndpointState] = set()
        """Those whose endpoint is gone, and which are still open."""
        self.started = False
        """Whether any connection has been asked for yet."""
        self.closed = False
        self.unreached.forget()

    # Picking

    def pick(self, request: Request, avoid: Collection[EndpointState] = ()) -> Lease:
        """Pick among the endpoints whose connection is ready; NotReady where it is worth waiting for one."""
        try:
            return self._balancer.pick(request, avoid, self._usable)
        except Unconnected as error:
            raise self.unreached.explained(error) from None

    def pick_patiently(self, request: Request, avoid: Collection[EndpointState] = ()) -> Lease:
        """The same for a call that waits for as long as it has time: whatever may pass is NotReady.

        Limits and open circuits are no such thing: what they refuse is refused at once (as in gRFC A32).
        """
        try:
            return self._balancer.pick(request, avoid, self._usable)
        except Unconnected as refused:
            error: LoadBalancerError = self.unreached.explained(refused)
        except (NoEndpoints, UnknownService) as refused:
            error = refused
        raise NotReady(error.service, error.reason, error.counts) from None

    def _usable(self, state: EndpointState) -> bool:
        try:
            if self._subs[state].check(False) == READY:
                return True
        except (KeyError, ValueError):  # there is none yet, or another thread closes it at this moment
            pass
        return self._usable_now(state)

    def _usable_now(self, state: EndpointState) -> bool:
        sub = self._subs.get(state)
        if sub is None:
            sub = self.get(state)
            if not self.started:
                self.connect()
        return bool(self._connecting(state, sub) == READY)

    def _connecting(self, state: EndpointState, sub: SubChannel) -> Any:
        """Return the state of a sub-channel, which begins to connect if it has not: by what is in the files now."""
        if (found := state_of(sub, False)) == READY:
            return found
        now = self._balancer.clock()
        sub.losses.passed_over(state.picks, now)
        if sub.edition != self._edition() or (sub.channel is None and now - sub.asked >= PAUSE):
            sub = self._renewed(state, sub)
        return state_of(sub, True)

    def get(self, state: EndpointState) -> SubChannel:
        """Return the sub-channel of an endpoint, made and connecting where there was none."""
        with self._lock:
            if self.closed:
                raise self._closed()
            sub = self._subs.get(state)
            if sub is None:
                sub = self._subs[state] = self._new(state)
                if state.removed:  # picked in the moment it went away
                    self.leaving.add(state)
        return sub

    def _new(self, state: EndpointState) -> SubChannel:
        edition = self._edition()
        try:
            sub = SubChannel(*self._make(state), edition)
        except Exception as error:  # noqa: BLE001  # of this endpoint, or of all: each is told of by itself
            sub = SubChannel(None, _unmade, edition)
            sub.words = printable(f"{UNMADE}{type(error).__name__}: {error}")
            sub.asked = self._balancer.clock()
        sub.check(True)
        return sub

    def _renewed(self, state: EndpointState, old: SubChannel) -> SubChannel:
        """Make a sub-channel anew that has no connection, nor anything in flight, and that is not what it would be."""
        with self._lock:
            if state.leases or self._subs.get(state) is not old:
                return self._subs.get(state, old)
            sub = self._subs[state] = self._new(state)
        self.dropped(state)
        if old.channel is not None:
            self._close(old.channel)
        return sub

    # What has become of a call

    def left(self, lease: Lease) -> bool:
        """Whether the channel that a call ran on was closed with all others, or is a parent process's."""
        return self.closed or lease.start < self._begun

    def blamed(self, outcome: Outcome, lease: Lease) -> Outcome:
        """Name the incident of a call that failed with others, as its connection was lost; returns the outcome."""
        error: Any = outcome.error
        if outcome.verdict is Verdict.FAILED and error.code() in BROKEN and (sub := self._subs.get(lease.state)):
            now = self._balancer.clock()
            if state_of(sub, False) != READY:
                sub.losses.failed(lease.start, now)
                if lease.state.in_use:
                    state_of(sub, True)
            trust = error.code() is grpc.StatusCode.UNAVAILABLE
            among = lease.state.in_flight > 1
            outcome.incident = sub.losses.of(lease.start, now, error.details() or "", trust=trust, among=among)
        return outcome

    def look(self) -> bool:
        """Have a connection wherever calls run that had one; returns whether any do.

        What a server has announced to end goes on while its streams last: the next ones are to find another there.
        """
        busy = False
        for state, sub in tuple(self._subs.items()):
            if state.leases:
                busy = True
                if state.in_use:
                    self._connecting(state, sub)
        return busy

    # The whole

    def connectivity(self, connect: bool = True) -> grpc.ChannelConnectivity:
        """Return the state of the whole, as gRPC sums up the states of many."""
        if self.closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if connect and not self.started:
            self.connect()
        if not self._subs:
            return grpc.ChannelConnectivity.CONNECTING if connect else grpc.ChannelConnectivity.IDLE
        subs = [(state, sub) for state, sub in tuple(self._subs.items()) if self._balancer.serves(state)]
        seen = {self._connecting(state, sub) if connect else state_of(sub, False) for state, sub in subs}
        if READY in seen:
            return grpc.ChannelConnectivity.READY
        if CONNECTING in seen or (connect and IDLE in seen):
            return grpc.ChannelConnectivity.CONNECTING
        if IDLE in seen:
            return grpc.ChannelConnectivity.IDLE
        return grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def ready(self) -> set[EndpointState]:
        """Return the endpoints whose connection is ready, whether or not the core would pick them."""
        return {
            state
            for state, sub in tuple(self._subs.items())
            if state_of(sub, False) == READY and self._balancer.serves(state)
        }

    def connect(self) -> None:
        """Have a sub-channel for every endpoint in use, and close those of endpoints that are gone."""
        if not self.closed:
            self.started = True
            for state in self._balancer.states():
                if state.in_use and state not in self._subs:
                    self.get(state)
        self.leave(state for state in tuple(self._subs) if state.removed)

    def leave(self, states: Iterable[EndpointState] = ()) -> None:
        """Close the sub-channels of these as soon as nothing is in flight on them, and of those that left before."""
        with self._lock:
            self.leaving.update(state for state in states if state in self._subs)
            idle = [state for state in self.leaving if not state.leases]
            self.leaving.difference_update(idle)
            closing = [self._subs.pop(state) for state in idle]
        for state in idle:
            self.dropped(state)
        for sub in closing:
            if sub.channel is not None:
                self._close(sub.channel)

    def take_all(self) -> list[Any]:
        """Close the whole: no more picks; returns the channels that there were."""
        with self._lock:
            self.closed = True
            subs, self._subs = self._subs, {}
            self.leaving.clear()
        return [sub.channel for sub in subs.values() if sub.channel is not None]

    def forget(self) -> None:
        """Start anew: what these channels belong to, an event loop, is gone."""
        self._reset()

    def abandon(self) -> None:
        """In a forked child: forget them unclosed, for their connections are the parent's."""
        closed = self.closed
        self._abandoned += [self._subs, self.unreached.hearing]
        self._reset()
        self.closed = closed

    def __len__(self) -> int:
        return len(self._subs)


def _unmade(connect: bool) -> Any:  # noqa: ARG001
    return FAILING


def _nothing(state: EndpointState) -> None:
    """For `SubChannels.dropped`, until its owner keeps something for each state."""
