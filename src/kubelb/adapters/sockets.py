"""Socket options: what finds a node that has vanished, and leaves a slow pod alone.

A node that loses its power or its network says no goodbye: its connections look idle, or slow, for ever. Time cannot
tell such a pod from one that thinks for ten minutes; the kernel at the other end can, for it acknowledges a probe
whatever its process does. So the question is put to that, by what `keep_alive` returns:

    SO_KEEPALIVE        ask at all
    TCP_KEEPIDLE    20  seconds without a byte, then the first probe (macOS calls it TCP_KEEPALIVE)
    TCP_KEEPINTVL   10  seconds from a probe to the next one
    TCP_KEEPCNT      3  probes without an answer, and the connection has ended: after 50 s
    TCP_USER_TIMEOUT 45 seconds for which what was sent may stay unacknowledged: no probe is sent meanwhile, and the
                        system's own bound is some 15 minutes (Linux alone has this option)

Linux counts no probes where the last one is set: it ends the connection at the first probe that is due after those
seconds, which is the fourth here, after 50 s, too. What is read and written on such a connection then raises what its
client calls a broken connection.

One thing that is alive is ended, too: a pod that for 45 s takes in nothing of an upload. Its kernel does answer, but
only that it has no room, and to Linux that is no acknowledgement.
"""

import errno
import socket
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeAlias

from kubelb.core.causes import arguments, cause, chain
from kubelb.core.options import number
from kubelb.masking import masked
from kubelb.printable import shown

__all__ = ["SocketOption", "aborted", "check_options", "gone", "keep_alive"]

SocketOption: TypeAlias = (
    tuple[int, int, int] | tuple[int, int, bytes] | tuple[int, int, bytearray] | tuple[int, int, None, int]
)
"""What `socket.setsockopt` takes, as httpx and urllib3 have it: level, name, value; or level, name, None, length."""

_GONE = {getattr(errno, name) for name in ("ETIMEDOUT", "EHOSTUNREACH", "EHOSTDOWN") if hasattr(errno, name)}
"""The second where the last thing that was heard of it is that nothing on its network knows it any more."""
_MOST = 32767
"""Linux takes no more seconds, Windows no more probes than 255, of which none needs as many."""


def keep_alive(
    *, idle: int = 20, interval: int = 10, probes: int = 3, unacknowledged: float | None = 45.0
) -> tuple[SocketOption, ...]:
    """Return socket options that end a connection to a vanished node, ``idle + interval * probes`` seconds later.

    - `idle`: seconds without a byte before the peer's kernel is asked whether it is there;
    - `interval`: seconds from one such probe to the next;
    - `probes`: how many may stay without an answer;
    - `unacknowledged`: seconds for which bytes may be sent and not acknowledged, None for the system's bound (15 min).
      A pod that takes in nothing of an upload for so long is ended as well, although it is there.

    The defaults are those of every HTTP adapter: an idle connection is found within 50 s, one with bytes under way
    within 45 s. A pod that is slow to answer is never ended. What this system does not have is left out. Raises
    ValueError for numbers that no system takes.

    >>> client = httpx.Client(transport=Transport(lb, socket_options=keep_alive(idle=5, interval=5)))  # doctest: +SKIP
    """
    given: dict[str, object] = {"idle": idle, "interval": interval, "probes": probes}
    for name, value in given.items():
        if not isinstance(value, int) or not 1 <= value <= _MOST:
            raise ValueError(f"keep_alive({name}={shown(value)}): give a whole number from 1 to {_MOST}")
    if unacknowledged is not None and not 0 < number(unacknowledged) <= _MOST:
        raise ValueError(
            f"keep_alive(unacknowledged={shown(unacknowledged)}): give seconds, more than 0 and up to {_MOST}, or None"
        )
    options: list[SocketOption] = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    first = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"
    values = {first: idle, "TCP_KEEPINTVL": interval, "TCP_KEEPCNT": probes}
    if unacknowledged is not None:
        values["TCP_USER_TIMEOUT"] = max(1, round(unacknowledged * 1000))
    for name, value in values.items():
        if (option := getattr(socket, name, None)) is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return tuple(options)


def check_options(given: Any) -> tuple[SocketOption, ...]:
    """Return the options of every connection: those that were given and no others, `keep_alive()` for None.

    Raises TypeError for what are none, and ValueError for one that this system refuses: at a connection it would look
    like a pod that cannot be reached.
    """
    if given is None:
        return _defaults()
    cure = "give tuples as socket.setsockopt takes them, such as (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)"
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"socket_options={shown(given)}: {cure}")
    options = tuple(given)
    for option in options:
        if not isinstance(option, tuple | list) or len(option) not in {3, 4}:
            raise TypeError(f"socket_options=[{masked(repr(option))}]: {cure}")
        try:
            refused = _refusal(tuple(option))
        except (TypeError, OverflowError) as error:
            raise TypeError(f"socket_options=[{masked(repr(option))}]: {error}; {cure}") from None
        if refused is not None:
            raise ValueError(f"socket_options=[{masked(repr(option))}]: this system refuses it: {refused.strerror}")
    hashable: Any = (
        tuple(bytes(each) if isinstance(each, bytearray) else each for each in option) for option in options
    )
    return tuple(hashable)  # urllib3 makes keys of them


def gone(error: BaseException | None) -> bool:
    """Whether the kernel has given the peer of a connection up, at the bottom of what a client wraps around that.

    To Python it is a TimeoutError, as the end of a timer of this process is; but a timer's has no number.
    """
    return any(isinstance(each, OSError) and each.errno in _GONE for each in chain(error, cause, arguments))


def aborted(error: OSError) -> OSError:
    """Return the same error as one of a connection, for those that would take it for the end of a timer."""
    return ConnectionAbortedError(error.errno, error.strerror)


@cache
def _defaults() -> tuple[SocketOption, ...]:
    """Return the keep-alive options that this system takes.

    A sandbox may refuse an option that the system's headers define. No caller has asked for it, so it is left out.
    """
    return tuple(option for option in keep_alive() if _refusal(option) is None)


def _refusal(option: tuple[Any, ...]) -> OSError | None:
    """Return how the system refuses an option, on a socket that goes nowhere; None where it takes it."""
    refusal = None
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # no such family here, or no descriptor left: there is nothing to learn
            continue
        with probe:
            try:
                probe.setsockopt(*option)
            except OSError as error:
                refusal = error
            else:
                return None
    return refusal
