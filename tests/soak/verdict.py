"""What must be true at the end of a soak, each with what was seen.

An exception may come out of kubelb if the bare client raised it in the same soak, or if it is one that every user of
that client has to be ready for (`USUAL`). `UNASKED` is no such thing: a CancelledError that came out although nothing
had cancelled the call. grpc.aio, bare too, now and then lets one out past the scope that had (`PAST_SCOPE`).
"""

import os
import time
from collections import Counter
from collections.abc import Callable

from tests.soak.ledger import Ledger

__all__ = ["CANCELLED", "PAST_SCOPE", "UNASKED", "descriptors", "problems", "until"]

CANCELLED, UNASKED = "cancelled by the caller", "CancelledError that was not asked for"
PAST_SCOPE = "CancelledError past the scope that had asked for it"

_HTTPX = {
    "ok", CANCELLED, "ConnectError", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "TimeoutException",
    "ReadError", "WriteError", "RemoteProtocolError",
}  # fmt: skip
_GRPC = {
    "ok",
    CANCELLED,
    PAST_SCOPE,
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "FutureTimeoutError",
    "FutureCancelledError",
}
USUAL: dict[str, set[str]] = {
    "httpx": _HTTPX,
    "requests": {"ok", "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ChunkedEncodingError"},
    "grpc": _GRPC,
    "call": {"ok", CANCELLED, "ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError", "TimeoutError",
             "EOFError", "LoadBalancerError", "OSError"},
}  # fmt: skip
SPARE = 4
"""Descriptors that gRPC's core may hold more at the end than before: its pollers are the process's."""


def descriptors() -> Counter[str]:
    """What this process has open, by kind: sockets, pipes, ..."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{name}").partition(":")[0]] += 1
        except OSError:
            continue
    return found


def problems(ledger: Ledger, delivered: Counter[str]) -> list[str]:
    """Return what is wrong with how calls ended and with what the pods were given."""
    found: list[str] = []
    for client, ends in ledger.ends.items():
        if client.startswith("bare "):
            continue
        bare = ledger.ends.get(f"bare {client}", Counter())
        usual = USUAL[client.split()[0]]
        found += [f"{client}: {count} x {how}" for how, count in ends.items() if how not in usual and how not in bare]
        if not ends["ok"]:
            found.append(f"{client}: none of {ends.total()} calls was answered")
    twice = [mark for mark in ledger.once if delivered[mark] > 1]
    lost = [mark for mark in ledger.answered if not delivered[mark]]
    found += [f"delivered {delivered[mark]} times: {mark}" for mark in twice]
    found += [f"answered, but never delivered: {mark}" for mark in lost]
    return found


def until(true: Callable[[], object], seconds: float) -> bool:
    """Whether it becomes true."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
