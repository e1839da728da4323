"""How the state of a sync sub-channel is learnt.

grpcio's public way is `Channel.subscribe`: a thread for each sub-channel, woken five times a second, and 0.1 to 0.2 s
to close each. Underneath lies a question that costs 0.4 us and no thread, `check_connectivity_state`, which is what
grpcio's own polling asks. It is private, so it is looked for (also below the interceptors that instrumentations put on
every channel) and where it is missing the public way is taken.

For asyncio the same question is public: `grpc.aio.Channel.get_state`.

What a subscription has told is as old as it takes two threads to run: milliseconds, on a busy machine. A call that
begins meanwhile on a connection that is lost fails like those that were on it. That it was never sent cannot be known
(`codes.py`), so it is tried again only where it may be repeated.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

__all__ = ["Check", "quick_check", "subscribed_check"]

Check: TypeAlias = Callable[[bool], Any]
"""Asks for the state, as an integer; True: begin to connect where that has not been begun."""


def quick_check(channel: Any) -> Check | None:
    """Return the quick question, None where this grpcio has it no more."""
    for _ in range(16):  # interceptors lie in layers; more than a few are unheard of
        check = getattr(channel, "check_connectivity_state", None)
        if callable(check):
            found: Check = check
            return found
        channel = getattr(channel, "_channel", None)
        if channel is None:
            return None
    return None


def subscribed_check(channel: grpc.Channel) -> Check:
    """Return the same question, answered from what a subscription has told last."""
    watch = _Subscription(channel)
    return watch.check


class _Subscription:
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._connecting = False
        self._latest: int = grpc.ChannelConnectivity.IDLE.value[0]

    def check(self, connect: bool) -> int:
        if connect and not self._connecting:
            with self._lock:
                begin = not self._connecting
                self._connecting = True
            if begin:
                self._channel.subscribe(self._told, try_to_connect=True)
        return self._latest

    def _told(self, state: grpc.ChannelConnectivity) -> None:
        self._latest = state.value[0]
        if state is grpc.ChannelConnectivity.IDLE:  # a connection was lost; the next question begins a new one
            self._connecting = False
            self._channel.unsubscribe(self._told)
