"""Addresses for backends: one each in 127.0.0.0/8 where the system has all of it, else 127.0.0.1 for all."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterator

from kubelb.testing.server import listen


class Addresses:
    """Hands out loopback addresses. Two clusters on one machine start at different places by chance.

    `single` is true where only 127.0.0.1 can be bound (macOS) or was asked for: backends then differ by port.
    """

    def __init__(self, *, single: bool = False) -> None:
        self._lock = threading.Lock()
        # Past 127.16: below live the resolvers and mock servers of other tools (127.0.0.53, 127.0.1.1).
        self._hosts = _hosts(random.randrange(16, 250), random.randrange(256))
        self.single = single or not _can_bind("127.16.0.1")

    def next(self) -> str:
        """An address that this cluster has not used before."""
        if self.single:
            return "127.0.0.1"
        return self.unused()

    def unused(self) -> str:
        """The same, also where it cannot be bound: an address of loopback that is not bound."""
        with self._lock:
            return next(self._hosts)


def _hosts(second: int, third: int) -> Iterator[str]:
    while True:
        for fourth in range(1, 255):
            yield f"127.{second}.{third}.{fourth}"
        third += 1
        if third == 256:
            second, third = 16 + (second - 15) % 234, 0


def _can_bind(host: str) -> bool:
    try:
        listen(host, 0).close()
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM):
            return False
        raise
    return True
