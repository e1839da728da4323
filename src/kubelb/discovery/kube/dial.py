"""A name with several addresses, dialled as RFC 8305 says (happy eyeballs): the first that answers is taken.

    the families take turns; an address is tried 250 ms after the one before it, or at once when all before it failed

So an address that swallows packets (an IPv6 that is not routed, a host that is down) costs a quarter of a second and
not a whole timeout. At most `MOST` addresses are tried, each for the timeout at most, and every socket but the one that
is returned is closed. Stopping the stream ends the dial at once: a `dup` of each socket hangs on the lifeline.
"""

import errno
import os
import selectors
import socket
from collections.abc import Callable, Sequence

from kubelb.clock import Clock, monotonic
from kubelb.discovery.kube.lifeline import CutError, Lifeline
from kubelb.discovery.kube.resolve import Address

__all__ = ["DELAY", "MOST", "dial", "interleaved", "most_telling"]

DELAY = 0.25
"""Seconds: the Connection Attempt Delay that RFC 8305 recommends."""
MOST = 8
"""Addresses that are tried. A name that has more gives them in another order to the next client."""

Prepare = Callable[[int], socket.socket]
"""A socket of this family, with its options set; raises `OSError` where this machine does not speak it."""

_PENDING = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}
# From what tells most to what tells least. A machine without IPv6 has no route to an IPv6 address, which says nothing
# of a server that refuses connections on the other one.
_TELLING = (
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED},
    {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE},
    {errno.ETIMEDOUT},
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN},
)


class _Link:
    """A socket on its way, as far as a forked child has to know it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """The families in turn, beginning with that of the first address, each in its own order."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    queues = list(families.values())
    mixed: list[Address] = []
    while any(queues):
        mixed += [queue.pop(0) for queue in queues if queue]
    return mixed[:MOST]


def dial(
    addresses: Sequence[Address], timeout: float, lifeline: Lifeline, prepare: Prepare, *, clock: Clock = monotonic
) -> socket.socket:
    """Return a connected socket that waits `timeout` seconds for each call, the lifeline not on it any more.

    Raises the `OSError` that tells most of why there is none (`TimeoutError` where nothing answered), or `CutError`.
    """
    todo = interleaved(addresses)
    failures: list[OSError] = []
    started: dict[socket.socket, float] = {}
    won: socket.socket | None = None
    with selectors.DefaultSelector() as selector:
        try:
            due = clock()
            while won is None and (todo or started):
                if lifeline.stopped:
                    raise CutError("stopped")
                now = clock()
                if todo and (not started or now >= due):
                    sock = _begin(todo.pop(0), lifeline, prepare, failures)
                    if sock is not None:
                        selector.register(sock, selectors.EVENT_WRITE)
                        started[sock] = now
                        due = now + DELAY
                    continue
                over = min(begun + timeout for begun in started.values())
                for key, _ in selector.select(max(0.0, min(over, due) - now if todo else over - now)):
                    sock = key.fileobj  # type: ignore[assignment]
                    assert sock is not None
                    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not error and _connected(sock):
                        won = sock
                        break
                    failures.append(OSError(error or errno.ECONNABORTED, os.strerror(error or errno.ECONNABORTED)))
                    _drop(sock, started, selector)
                now = clock()
                for sock, begun in list(started.items()):
                    if won is None and now - begun >= timeout:
                        failures.append(TimeoutError(f"no answer within {timeout:g} s"))
                        _drop(sock, started, selector)
            if lifeline.stopped:
                raise CutError("stopped")
            if won is None:
                raise most_telling(failures)
            del started[won]
            won.settimeout(timeout)
            return won
        finally:
            for sock in started:
                sock.close()
            lifeline.let_go()


def most_telling(failures: Sequence[OSError]) -> OSError:
    """The failure to tell of, where each address had its own; the last of those which tell most."""
    if not failures:
        return OSError("no address")

    def rank(failure: OSError) -> int:
        if isinstance(failure, TimeoutError):
            return 2
        return next((place for place, codes in enumerate(_TELLING) if failure.errno in codes), len(_TELLING))

    return min(reversed(failures), key=rank)


def _begin(address: Address, lifeline: Lifeline, prepare: Prepare, failures: list[OSError]) -> socket.socket | None:
    """A socket that connects, or None and one failure more."""
    try:
        sock = prepare(address.family)
    except OSError as error:
        failures.append(error)
        return None
    try:
        sock.setblocking(False)
        lifeline.hold(sock, _Link(sock))
        error_number = sock.connect_ex(address.sockaddr)
        if error_number in _PENDING:
            return sock
        failures.append(OSError(error_number, os.strerror(error_number)))
    except CutError:
        sock.close()
        raise
    except OSError as error:
        failures.append(error)
    sock.close()
    return None


def _connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:  # shut down by `stop` before it was connected
        return False
    return True


def _drop(sock: socket.socket, started: dict[socket.socket, float], selector: selectors.BaseSelector) -> None:
    selector.unregister(sock)
    del started[sock]
    sock.close()
