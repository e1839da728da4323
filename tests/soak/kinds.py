"""What one call of the soak is, drawn from a dice; the same for every client."""

import random
from dataclasses import dataclass
from typing import Any

__all__ = ["Plan", "request"]

TIMEOUTS = (0.01, 0.05, 0.3, 5.0, 5.0)


@dataclass(frozen=True)
class Plan:
    """`once`: a call that must not be repeated. `how`: what the caller does with the answer."""

    once: bool
    timeout: float
    """Seconds."""
    how: str
    """"read", "leave" (close it half-way) or "drop" (forget it)."""
    cancel: float | None
    """Seconds after which it is cancelled, where the client can be."""
    hint: bool
    """Whether the timeout is given as kubelb's deadline."""
    size: int
    """Bytes of the request's body."""
    path: str

    @classmethod
    def drawn(cls, dice: random.Random) -> "Plan":
        return cls(
            once=dice.random() < 0.6,
            timeout=dice.choice(TIMEOUTS),
            how=dice.choices(["read", "leave", "drop"], [90, 7, 3])[0],
            cancel=dice.uniform(0, 0.05) if dice.random() < 0.2 else None,
            hint=dice.random() < 0.2,
            size=dice.choice([0, 10, 1000, 200_000]),
            path=dice.choices(["/", "/stream", "/slow", "/fail", "/broken"], [60, 20, 8, 6, 6])[0],
        )


def request(client: Any, base: str, mark: str, plan: Plan) -> Any:
    """Build it with a client of httpx or httpx2, sync or not."""
    return client.build_request(
        "POST" if plan.once else "GET",
        base + plan.path,
        headers={"x-mark": mark},
        content=b"x" * plan.size if plan.once else None,
        timeout=5.0 if plan.hint else plan.timeout,
        extensions={"kubelb": {"deadline": plan.timeout}} if plan.hint else {},
    )
