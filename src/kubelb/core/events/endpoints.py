"""What happens to endpoints: they are ejected and return, circuits open and close, shares are bounded."""

from kubelb.core.events.base import Event, Level, only, place
from kubelb.core.events.counters import OBSERVED, Attribute, Counter

__all__ = ["CircuitChanged", "Ejected", "EjectionSpared", "Returned", "ShareBounded"]

RULE = Attribute(
    "kubelb.ejection.rule", "rule", ("consecutive-failures", "failure-share"), "the rule that was breached"
)


class Ejected(Event):
    """An endpoint gets no traffic for `duration` seconds; `times` is how often in a row.

    `rule` is ``"consecutive-failures"`` or ``"failure-share"``; the numbers behind it are `failures` (in a row, or in
    the window), and for a share the `requests` in the window, the least that the share can be (`bound`, the lower end
    of its 95 % interval) and its peers' `median`. With `observed` nothing was done: it is what would have been.
    """

    endpoint: str
    reason: str
    duration: float
    times: int
    rule: str = ""
    failures: int = 0
    requests: int = 0
    bound: float = 0.0
    median: float = 0.0
    observed: bool = False
    pod: str = ""

    counter = Counter("kubelb.ejections", "{ejection}", "Endpoints that were ejected.", (RULE, OBSERVED))

    @property
    def text(self) -> str:
        times = f", ejection {self.times} in a row" if self.times > 1 else ""
        where = place(self.endpoint, self.pod)
        return f"{where} ejected for {self.duration:.1f} s: {self.reason}{times}{only(self.observed)}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.endpoint, str(self.times))


class EjectionSpared(Event):
    """An endpoint breached a rule and was kept: the cap, the last one, or a correlated failure.

    Fields as of `Ejected`.
    """

    endpoint: str
    reason: str
    rule: str = ""
    failures: int = 0
    requests: int = 0
    bound: float = 0.0
    median: float = 0.0
    observed: bool = False
    pod: str = ""

    counter = Counter(
        "kubelb.ejections.spared",
        "{ejection}",
        "Endpoints that breached a rule and were kept: cap, or correlation.",
        (RULE, OBSERVED),
    )

    @property
    def text(self) -> str:
        return f"{place(self.endpoint, self.pod)} fails and is kept: {self.reason}{only(self.observed)}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.endpoint)


BACK = "probe", "correlated", "too few are left", "the policy picks others"


class Returned(Event):
    """An ejected endpoint is back.

    `why` is ``"probe"``, ``"correlated"``, ``"too few are left"`` or, of one that the policy would never pick, which
    no probe can reach, ``"the policy picks others"``.
    """

    endpoint: str
    why: str
    observed: bool = False
    pod: str = ""

    counter = Counter(
        "kubelb.ejections.ended",
        "{ejection}",
        "Ejected endpoints that came back.",
        (
            Attribute("kubelb.ejection.end", "why", BACK, "why it is back"),
            OBSERVED,
        ),
    )

    @property
    def level(self) -> Level:
        return "info"

    @property
    def text(self) -> str:
        return f"{place(self.endpoint, self.pod)} is back: {self.why}{only(self.observed)}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.endpoint)


class ShareBounded(Event):
    """An endpoint refuses what its peers answer, and gets its fair share and no more (`over`); or no longer does."""

    endpoint: str
    over: bool
    reason: str
    pod: str = ""

    counter = Counter(
        "kubelb.share.bounds",
        "{change}",
        "Times that an endpoint was bounded to its fair share, as it refused what others answered, and no longer.",
        (Attribute("kubelb.share.bound", "change", ("begun", "ended"), "whether that began or ended"),),
    )

    @property
    def change(self) -> str:
        """``"begun"`` or ``"ended"``."""
        return "begun" if self.over else "ended"

    @property
    def level(self) -> Level:
        return "warning" if self.over else "info"

    @property
    def text(self) -> str:
        share = "gets its fair share and no more" if self.over else "is bounded to its fair share no longer"
        return f"{place(self.endpoint, self.pod)} {share}: {self.reason}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.endpoint, str(self.over))


class CircuitChanged(Event):
    """A circuit is ``"open"`` for `duration` seconds, ``"half-open"`` or ``"closed"``; `endpoint` "": the service's.

    The numbers are those of its window, or of its trials: `failures` and `slow` ones of so many `calls`.
    """

    endpoint: str
    state: str
    reason: str
    calls: int = 0
    failures: int = 0
    slow: int = 0
    duration: float = 0.0
    observed: bool = False
    pod: str = ""

    counter = Counter(
        "kubelb.circuit.changes",
        "{change}",
        "Circuits that opened, half-opened or closed.",
        (
            Attribute("kubelb.circuit.scope", "scope", ("endpoint", "service"), "whose circuit"),
            Attribute("kubelb.circuit.state", "state", ("open", "half-open", "closed"), "what it is now"),
            OBSERVED,
        ),
    )

    @property
    def scope(self) -> str:
        """Whose circuit: ``"endpoint"`` or ``"service"``."""
        return "endpoint" if self.endpoint else "service"

    @property
    def level(self) -> Level:
        return "warning" if self.state == "open" else "info"

    @property
    def text(self) -> str:
        whose = place(self.endpoint, self.pod) if self.endpoint else "the service"
        how_long = f" for {self.duration:.1f} s" if self.state == "open" else ""
        return f"the circuit of {whose} is {self.state}{how_long}: {self.reason}{only(self.observed)}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.endpoint, self.state)
