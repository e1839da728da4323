"""What public code reads of a channel besides its methods: `channel._channel`, which in grpcio is core's own.

    channel._channel.check_connectivity_state(True)    is it ready? 0 to 4, as core counts: idle, connecting, ready, ...
    channel._channel.target()                          where does it go? what it was given, as bytes
    channel._channel.closed()                          (asyncio) is it of use?

There is no single channel of core's below ours, so these are answered for the whole. Nothing else is answered: what
would act on a single connection is absent here, and so refused.
"""

from typing import Any

__all__ = ["Below"]


class Below:
    """Stands where core's channel does."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def check_connectivity_state(self, try_to_connect: bool) -> int:
        """Return the state of the whole; begin to connect where that has not been begun and is asked for."""
        channel = self._channel
        if channel.passing:
            return int(channel.plain.check(try_to_connect))
        if try_to_connect and not channel.subs.closed:
            channel.start()
        return int(channel.subs.connectivity(try_to_connect).value[0])

    def target(self) -> bytes:
        """Return the load balancer's target."""
        return str(self._channel.lb.target).encode()

    def closed(self) -> bool:
        """Whether the channel was closed."""
        return bool(self._channel.subs.closed)
