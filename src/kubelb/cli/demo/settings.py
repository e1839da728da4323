"""What a user may choose, and what both sides share."""

from dataclasses import dataclass

__all__ = ["REPLICAS", "SERVICE", "TIMEOUT", "WORKERS", "Settings"]

SERVICE = "reviews.prod"
REPLICAS = 5
TIMEOUT = 5.0
"""Seconds; httpx's own default, for each side. A failed request counts as this."""
WORKERS = 64
"""Threads a side: requests that are under way at a time, at most; more than either should need."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one performance. `seconds` of traffic at `rate` requests a second, for each side."""

    seconds: float
    rate: float
    seed: int
