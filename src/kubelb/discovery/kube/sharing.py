"""The streams of this process, shared by all that want the same.

    subscribe(key, service) -> Seat    the first begins a stream; `Seat.join` tells what is known already
    leave(seat)                        the last one ends it

A key is a cluster, credentials and a namespace; which of its streams reads a service is decided in `channel.py`.
After a fork the child has none: it begins its own when it is asked to.
"""

import random
import threading
from weakref import WeakValueDictionary

from kubelb.clock import Clock
from kubelb.discovery.kube import places, resolve
from kubelb.discovery.kube.access import Locator
from kubelb.discovery.kube.channel import Channel
from kubelb.discovery.kube.comeback import Comeback
from kubelb.discovery.kube.desk import Seat, Subscriber
from kubelb.discovery.kube.reader import Reader
from kubelb.discovery.kube.stream import Stream
from kubelb.discovery.kube.transport import CONNECT_TIMEOUT, READ_TIMEOUT
from kubelb.itself import loaded
from kubelb.records import record

__all__ = ["Key", "after_fork_in_child", "leave", "subscribe"]


@record(frozen=True, slots=True)
class Key:
    """What services must have in common to share a stream."""

    locator: Locator
    namespace: str
    clock: Clock
    connect_timeout: float = CONNECT_TIMEOUT
    read_timeout: float = READ_TIMEOUT


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.channels: dict[Key, Channel] = {}
        self._comebacks: WeakValueDictionary[tuple[Locator, Clock], Comeback] = WeakValueDictionary()

    def comeback(self, key: Key) -> Comeback:
        """That of the key's API server, for as long as a stream has it."""
        where = key.locator, key.clock
        found = self._comebacks.get(where)
        if found is None:
            found = self._comebacks[where] = Comeback(key.clock)
        return found


_registry = _Registry()


def subscribe(key: Key, service: str, subscriber: Subscriber, rng: random.Random) -> Seat[Reader]:
    """Take a seat; nothing is told before it joins. Raises `RuntimeError` where no thread is to be had."""
    registry = _registry
    with registry.lock:
        channel = registry.channels.get(key) or Channel(registry.lock, key.clock)
        if service in channel.desks:
            return channel.seat(service, subscriber)
        stream = channel.gathering()
        if stream is not None:
            seat = channel.open(service, subscriber, stream)
            stream.joined()
            return seat
        stream = Stream(
            channel,
            key.namespace,
            service,
            key.locator,
            clock=key.clock,
            rng=rng,
            comeback=registry.comeback(key),
            connect_timeout=key.connect_timeout,
            read_timeout=key.read_timeout,
        )
        seat = channel.open(service, subscriber, stream)
        try:
            stream.begin()
        except BaseException:
            channel.leave(seat)
            raise
        channel.streams += (stream,)
        registry.channels[key] = channel
        return seat


def leave(key: Key, seat: Seat[Reader]) -> None:
    """Tell it no more; the last one ends the stream."""
    registry = _registry
    with registry.lock:
        channel = registry.channels.get(key)
        ended = channel.leave(seat) if channel is not None else None
        if channel is not None and not channel.desks:
            del registry.channels[key]
    if ended is not None:
        ended.stop()


def after_fork_in_child() -> None:
    """Forget every stream: their threads are in the parent, and so are the far ends of their connections."""
    global _registry
    before, _registry = _registry, _Registry()
    resolve.after_fork_in_child()
    places.after_fork_in_child()
    plugin = loaded("discovery.kube.plugin")  # in a pod it is never loaded
    if plugin is not None:
        plugin.after_fork_in_child()
    for channel in before.channels.values():
        for stream in channel.streams:
            stream.abandon()
        for desk in channel.desks.values():
            for seat in desk.seats:
                seat.subscriber.orphaned()
