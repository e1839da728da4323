"""What can be wrong with a backend, as one frozen value: a healthy one has none, so the hot path tests one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

Delay = float | Callable[[], float]


class Trouble(Enum):
    """How an exchange ends instead of with its answer."""

    HANG = "hang"
    RESET = "reset"
    RESET_AFTER_HEADERS = "reset_after_headers"
    TRUNCATE = "truncate"
    DRIP = "drip"


@dataclass(frozen=True, slots=True)
class BackendFaults:
    """A delay before the answer, a status (of HTTP or of gRPC), an end instead of the answer: they combine."""

    delay: Delay = 0.0
    status: int = 200
    code: grpc.StatusCode | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None
    drip_bytes: int = 1
    drip_delay: float = 0.0

    def seconds(self) -> float:
        """The delay of this request."""
        return self.delay() if callable(self.delay) else self.delay
