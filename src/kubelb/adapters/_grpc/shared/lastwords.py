"""Why a connection cannot be made, in core's own words.

A channel's state says that it fails and not why. Core keeps the reason for itself, and for calls: one that is made
while every connect has failed ends at once (0.1 ms), with the last connect's error for its details, and nothing is
sent. So such a call is made on a few of the channels that fail, once a second at most, where a refusal is about to be
explained. It is the health check that gRPC has for every server, for the moment in which the connection is made after
all and the call arrives. It passes no interceptor: no caller has asked for it.

The words are for people. Nothing is decided by them.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio
from grpc import StatusCode

from kubelb.runtime.links import REFUSED, UNREACHABLE

__all__ = ["FEW", "PAUSE", "UNMADE", "aio_asked", "asked", "commonest", "cure"]

PAUSE = 1.0
"""Seconds between two times that channels are asked."""
FEW = 3
"""Channels asked at a time."""
WITHIN = 0.1
"""Seconds for the call, should the channel be about to connect."""
_NO_NETWORK = (
    "connect to remote host",
    "tcp handshaker",
    "nreachable",
    "o route to host",
    "imed out",
    "Timeout occurred",
)
"""In core's words, and in those of the system that it passes on."""
_NOT_SPOKEN = "SETTINGS", "Handshake timed out"
"""Of a peer that takes the connection, and says nothing that gRPC knows."""
CHECK = "/grpc.health.v1.Health/Check"
UNMADE = "its channel could not be made: "
"""Begins the words for one that does not connect because there is none."""

_core = re.compile(r".*last error: (?:[A-Z_]+: )?(?:(?:ipv[46]|unix):\S+: )?", re.DOTALL)
"""What stands before the reason itself: `failed to connect to all addresses; last error: UNKNOWN: ipv4:IP:PORT: `."""


def asked(channel: Any) -> str:
    """Return the reason why a sync channel does not connect; "" where it is not to be had."""
    for _ in range(16):  # instrumentations put interceptors around every channel; below them it has none
        below = getattr(channel, "_channel", None)
        if not isinstance(below, grpc.Channel):
            break
        channel = below
    try:
        channel.unary_unary(CHECK)(b"", timeout=WITHIN)
    except grpc.RpcError as error:
        return _reason(error)
    except ValueError:  # it was closed meanwhile
        pass
    return ""


async def aio_asked(channel: Any) -> str:
    """The same of a channel for asyncio."""
    around = getattr(channel, "_unary_unary_interceptors", None)
    if around is None:
        return ""
    channel._unary_unary_interceptors = []  # noqa: SLF001
    try:
        check = channel.unary_unary(CHECK)
    finally:
        channel._unary_unary_interceptors = around  # noqa: SLF001
    try:
        await check(b"", timeout=WITHIN)
    except grpc.aio.AioRpcError as error:
        return _reason(error)
    except grpc.aio.UsageError:  # it was closed meanwhile
        pass
    return ""


def _reason(error: Any) -> str:
    return _core.sub("", error.details() or "", count=1) if error.code() is StatusCode.UNAVAILABLE else ""


def commonest(words: Iterable[str]) -> str:
    """Return what most of them say, "" where none says anything."""
    said = Counter(each for each in words if each).most_common(1)
    return said[0][0] if said else ""


def cure(words: str, advice: str) -> str:
    """Return what to look at: the port where the host refuses, the network where nothing answers, else `advice`.

    That is about what is spoken, for something answers.
    """
    if words.startswith(UNMADE):
        return "grpc.insecure_channel or secure_channel raised it: look at `options=`, and at what instruments them"
    if "Connection refused" in words:
        return REFUSED
    if any(each in words for each in _NOT_SPOKEN):
        return advice
    return UNREACHABLE if any(each in words for each in _NO_NETWORK) else advice
