"""The API server's own record of the requests for slices that reached it, by its audit log."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

__all__ = ["Asked", "busiest", "read"]


@dataclass(frozen=True)
class Asked:
    """One request. Moments are of the monotonic clock; `answered` is that of a 200, None where it got none."""

    received: float
    verb: str
    code: int
    answered: float | None


def read(log: Path) -> list[Asked]:
    """All of kubelb's requests, in the order in which they came."""
    offset = time.time() - time.monotonic()
    found: dict[str, Asked] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # its server was killed while it wrote
        if not event.get("userAgent", "").startswith("kubelb"):
            continue
        code = (event.get("responseStatus") or {}).get("code", 0)
        before = found.get(event["auditID"])
        answered = before.answered if before else None
        if code == 200 and answered is None:
            answered = _moment(event["stageTimestamp"]) - offset
        received = _moment(event["requestReceivedTimestamp"]) - offset
        found[event["auditID"]] = Asked(received, event["verb"], code or (before.code if before else 0), answered)
    return sorted(found.values(), key=lambda asked: asked.received)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def busiest(moments: list[float], begin: float, end: float) -> int:
    """The most of them in any one second between two moments."""
    inside = sorted(at for at in moments if begin <= at <= end)
    most = first = 0
    for number, at in enumerate(inside):
        while inside[first] <= at - 1.0:
            first += 1
        most = max(most, number - first + 1)
    return most
