"""Where everything is, for those that make calls."""

import itertools
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["Places"]

T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """`web` and `rpc` are pods of a LocalCluster, `pages` hypercorns; all as IP:PORT."""

    kubeconfig: str
    web: list[str]
    rpc: list[str]
    pages: list[str]
    verify: ssl.SSLContext
    _turn: Any = field(default_factory=itertools.count)
    _lock: Any = field(default_factory=threading.Lock)

    def one(self, of: Sequence[T]) -> T:
        """One of them, in turn: what a bare client is given."""
        with self._lock:
            return of[next(self._turn) % len(of)]
