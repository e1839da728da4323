"""One sub-channel: a channel to one endpoint, and what is known of its connection."""

from typing import Any

import grpc

from kubelb.adapters._grpc.shared.losses import Losses
from kubelb.adapters._grpc.shared.watch import Check
from kubelb.core.state import NEVER

__all__ = ["CONNECTING", "FAILING", "IDLE", "READY", "SubChannel", "state_of"]

IDLE, CONNECTING, READY, FAILING = (
    getattr(grpc.ChannelConnectivity, name).value[0] for name in ("IDLE", "CONNECTING", "READY", "TRANSIENT_FAILURE")
)


class SubChannel:
    """A channel to one endpoint, None where it could not be made; `check` asks for its state."""

    __slots__ = ("asked", "channel", "check", "edition", "losses", "words")

    def __init__(self, channel: Any, check: Check, edition: int) -> None:
        self.channel = channel
        self.check = check
        self.edition = edition
        """Of what it was made with."""
        self.losses = Losses()
        self.words = ""
        """Why it cannot connect, as it was last told; "" before that."""
        self.asked = NEVER
        """When that was, or when it could not be made."""


def state_of(sub: SubChannel, connect: bool) -> Any:
    """Ask a sub-channel that another thread may close at this moment."""
    try:
        return sub.check(connect)
    except ValueError:
        return IDLE
