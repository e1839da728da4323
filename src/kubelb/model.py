"""The values that every room speaks of: Endpoint, Snapshot, Request, Outcome, Incident, Attempt.

They hold no behaviour beyond reading themselves. Two of them are made for every call (Request, Outcome) and are plain
slotted classes, because a frozen dataclass costs 0.9 us where such a class costs 0.2; Endpoint is made ten thousand at
a time and is a named tuple, because a tuple is built and compared in C.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from kubelb.masking import MASK
from kubelb.printable import printable, shown
from kubelb.records import field, record

__all__ = [
    "ANY",
    "BAD_ANSWER",
    "CANCELLED",
    "IDEMPOTENT",
    "SUCCESS",
    "Address",
    "Attempt",
    "Changes",
    "Endpoint",
    "Health",
    "Incident",
    "Outcome",
    "Request",
    "Sent",
    "Snapshot",
    "Verdict",
]

Address: TypeAlias = tuple[str, int]
"""``(ip, port)``: where an endpoint is dialled."""


class Endpoint(NamedTuple):
    """One address that can serve, with everything that discovery knows of it.

    >>> Endpoint("10.0.0.7", 8080, zone="eu-1a").authority
    '10.0.0.7:8080'
    """

    ip: str
    """Canonical text of the address, IPv6 without brackets."""
    port: int
    uid: str = ""
    """UID of the pod behind it; empty where the source knows none."""
    pod: str = ""
    """Name of the object behind it (``targetRef.name``), nearly always a Pod."""
    namespace: str = ""
    kind: str = ""
    """Kind of that object (``targetRef.kind``)."""
    node: str = ""
    zone: str = ""
    hostname: str = ""
    weight: float = 1.0
    priority: int = 0
    """Failover tier, 0 first."""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    app_protocol: str = ""
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    region: str = ""
    """Of its node; neither slices nor DNS say it, a Snapshot of one's own may."""
    cluster: str = ""
    """Which of several clusters it is in, where there are several."""

    @property
    def address(self) -> Address:
        """``(ip, port)``, the key under which state is kept."""
        return self.ip, self.port

    @property
    def authority(self) -> str:
        """``ip:port``, the address bracketed where it is IPv6."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"Endpoint({printable(told)})"  # names are another's words

    def same_as(self, other: "Endpoint") -> bool:
        """Whether state kept for one may be kept for the other: same ip:port, same uid where both know one.

        A pod's address is given to another pod within seconds of its death, so the address alone is no identity.
        """
        mine, other_uid = self.uid, other.uid
        return self[:2] == other[:2] and (mine == other_uid or not mine or not other_uid)


class Changes(NamedTuple):
    """What differs from the snapshot of version `base`, so that 10 000 endpoints need not be compared for one."""

    base: int
    used: tuple[Endpoint, ...] = ()
    """New or altered, now in `Snapshot.endpoints`."""
    parked: tuple[Endpoint, ...] = ()
    """New or altered, now in `Snapshot.parked`."""
    removed: tuple[Endpoint, ...] = ()


@record(frozen=True, slots=True)
class Snapshot:
    """Everything discovery knows about one service at one moment: complete, never a delta.

    `endpoints` are those to pick from, as kube-proxy would choose them; `parked` are known but not to be picked now
    (not ready, draining, another zone's): running calls go on there and connections are kept.
    """

    version: int
    endpoints: tuple[Endpoint, ...] = ()
    parked: tuple[Endpoint, ...] = ()
    exists: bool = True
    """False: the service is unknown, which is not the same as empty."""
    ports: tuple[str, ...] = ()
    """The ports there are, as ``name:number``, for error messages."""
    problem: str = ""
    """Why `endpoints` is empty, in words for the user."""
    changes: Changes | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("endpoints", "parked"):
            if type(given := getattr(self, name)) is not tuple:  # an Endpoint is a tuple too
                kind = type(given).__name__
                raise TypeError(
                    f"Snapshot({name}=...) is of type {kind}: give a tuple of Endpoints, (endpoint,) for one"
                )
        if self.problem:
            object.__setattr__(self, "problem", printable(self.problem))
        if self.ports:
            object.__setattr__(self, "ports", tuple(map(printable, self.ports)))


class Request:
    """What an adapter knows about a call. Nearly every call is the constant `ANY`.

    A policy that looks into requests says so (`kubelb.policies.Needs`); for it an adapter derives a view of its
    client's own request from this class, which reads `method`, `path`, `host`, headers and body when it is asked. Here
    they are empty: nothing is known of them.
    """

    __slots__ = ("cost", "idempotent", "key", "replayable")

    def __init__(
        self, *, key: str | bytes | None = None, idempotent: bool = False, replayable: bool = True, cost: float = 1.0
    ) -> None:
        if not isinstance(key, str | bytes | None):
            raise TypeError(f"key={shown(key)}: give text or bytes, e.g. str(key)")
        self.key = key
        """What to hash on, for policies that hash."""
        self.idempotent = idempotent
        """Whether it may be sent again although it may have been processed."""
        self.replayable = replayable
        """Whether its body can be produced a second time."""
        self.cost = cost
        """Its weight among what is in flight; an ordinary request is 1.0."""

    @property
    def method(self) -> str:
        """``"GET"``; with gRPC ``"POST"``."""
        return ""

    @property
    def path(self) -> str:
        """What stands on the request line before the ``?``; with gRPC the method, ``/pkg.Service/Method``."""
        return ""

    @property
    def host(self) -> str:
        """The Host header, or ``:authority``."""
        return ""

    def header(self, name: str) -> str | bytes | None:  # noqa: ARG002
        """Return the value of a header, whatever the case of its name; None where there is none."""
        return None

    def body(self) -> bytes | None:
        """Return the body where it is at hand as bytes; None where it is not: it is read only once, say."""
        return None

    def __repr__(self) -> str:
        key = None if self.key is None else MASK  # a session's, perhaps
        return f"Request(key={key}, idempotent={self.idempotent}, replayable={self.replayable})"


ANY = Request()
"""The request of which nothing is known: not idempotent, no key."""

IDEMPOTENT = Request(idempotent=True)
"""The common GET."""


class Verdict(Enum):
    """What an attempt's end says about the endpoint."""

    OK = "ok"
    """It answered; a 4xx is the caller's fault and an answer all the same."""
    FAILED = "failed"
    """It is to blame: connect error, reset, timeout, 5xx but 501."""
    BUSY = "busy"
    """It asked for less (429): load, never a reason for ejection. Two of one call are the caller's own limit."""
    FULL = "full"
    """It has no room (503 with Retry-After, a refused stream of HTTP/2): load, too; another one may have room."""
    ODD = "odd"
    """It ended in a way that kubelb does not know: never a reason for ejection, but no quick success either."""
    NEUTRAL = "neutral"
    """No fault: an idle connection that the server had closed. As CANCELLED for health, but worth repeating."""
    CANCELLED = "cancelled"
    """We gave up; says nothing about health, but the time spent is a lower bound of its latency."""
    SILENT = "silent"
    """Its deadline or timeout ended and no answer had begun. A failure that counts where it is no chance beside the
    endpoint's peers (`kubelb.core.health.silence`); its latency is the time that was spent."""


class Sent(Enum):
    """How far the request got. "Never" means that no byte of it was written to a connection.

    One exception: what a peer of HTTP/2 guarantees not to have processed (RFC 9113, 8.7) has not been sent either.
    """

    NEVER = "never"
    MAYBE = "maybe"
    """Written in part or whole, no answer: it may have been processed."""
    ANSWERED = "answered"


class Incident:
    """What several attempts on one endpoint have ended by together: the end of the connection that they shared.

    What sees a connection end makes one, and every outcome that comes of that end bears it (`Outcome.incident`). The
    first failure that does is a failure of the endpoint; the others say nothing about it: to ejection, circuits,
    failures in a row, shares and charges a cut connection is one failure, however many requests were on it. Retries
    are judged outcome by outcome, as ever.

    A `planned` end is none at all: the server said that this connection is over before it ended it, as it does when
    one has reached its age (HTTP/2: GOAWAY with NO_ERROR). That is a server's word, so it is believed within bounds
    (`kubelb.core.tracking`). It may be set until the first outcome is reported.
    """

    __slots__ = ("_first", "planned")

    def __init__(self, *, planned: bool = False) -> None:
        self.planned = planned
        self._first = [True]

    def first(self) -> bool:
        """Return True to the first that asks, and False to all others, in whatever threads they are."""
        try:
            return self._first.pop()
        except IndexError:
            return False

    def __repr__(self) -> str:
        return f"<Incident{' planned' if self.planned else ''}{'' if self._first else ' counted'}>"


class Outcome:
    """How an attempt ended, in the terms that health, load and retry need.

    `latency` is seconds from the pick to the response headers, measured by the lease where it is None. `retry_after` is
    the server's own hint in seconds. `open` says that the response is still being read: it owns the lease until then.
    `value` or `error` is what the caller gets should this attempt be the last. `retryable` is the protocol's word that
    another endpoint may answer better (502, 503, 504, UNAVAILABLE, a connection lost); whether it *may* be sent again
    is decided by the retry rules. `fresh` says that nothing of the request's body was taken from its producer, so that
    even a body which can be produced only once is still whole. `incident` is set where the attempt failed together with
    others, by the end of their connection: together they are one failure.

    Raises TypeError for a `verdict` that is no `Verdict` and a `sent` that is no `Sent`.
    """

    __slots__ = (
        "error",
        "fresh",
        "incident",
        "latency",
        "lease",
        "open",
        "overdue",
        "reason",
        "refusal",
        "rest",
        "retry_after",
        "retryable",
        "sent",
        "tries",
        "value",
        "verdict",
    )

    def __init__(
        self,
        verdict: Verdict = Verdict.OK,
        *,
        sent: Sent = Sent.ANSWERED,
        retryable: bool = False,
        latency: float | None = None,
        retry_after: float | None = None,
        open: bool = False,  # noqa: A002
        fresh: bool = False,
        incident: Incident | None = None,
        overdue: float | None = None,
        refusal: bool = False,
        reason: str = "",
        value: Any = None,
        error: BaseException | None = None,
    ) -> None:
        if verdict.__class__ is not Verdict or sent.__class__ is not Sent:
            raise _strange(verdict, sent)
        self.verdict = verdict
        self.sent = sent
        self.retryable = retryable
        self.latency = latency
        self.retry_after = retry_after
        self.open = open
        self.fresh = fresh
        self.incident = incident
        self.overdue = overdue
        """Of a silence: seconds between the end of its time and now, negative where that was still to come; None where
        it is not known. It tells our own lateness from the endpoint's."""
        self.refusal = refusal
        """Of an answer, verdict OK: it was a refusal (a 4xx, NOT_FOUND). That is no failure, and of ten endpoints that
        refuse alike none is judged; but one that refuses at once what others answer looks empty, and is not to draw
        more than its fair share for that (`kubelb.core.health.sinkholes`)."""
        self.reason = reason
        """A short word for logs and notes: ``"503"``, ``"refused"``, ``"read timeout"``."""
        self.value = value
        self.error = error
        self.lease: Any = None
        """The Lease this is the end of; set by what sent it."""
        self.rest: Any = None
        """What its endpoint rests for by this answer (`kubelb.core.health.rests.Claim`); set by the balancer."""
        self.tries: tuple[Outcome, ...] = ()
        """The attempts before this one, oldest first; set on the last outcome of a call."""

    def __repr__(self) -> str:
        return f"<Outcome {self.verdict.value} sent={self.sent.value} {self.reason or type(self.error).__name__}>"


def _strange(verdict: object, sent: object) -> TypeError:
    if not isinstance(verdict, Verdict):
        return TypeError(f"Outcome({shown(verdict)}): give a kubelb.Verdict, such as kubelb.Verdict.FAILED")
    cure = "give kubelb.Sent.NEVER, MAYBE or ANSWERED"
    if sent is False:
        cure += "; NEVER is believed: that no byte of the request was written to a connection"
    return TypeError(f"Outcome(sent={shown(sent)}): {cure}")


SUCCESS = Outcome()
"""The outcome of an ordinary success; the lease measures the latency, so one value serves every call."""

BAD_ANSWER = "bad answer"
"""The `reason` of a failed attempt whose answer the client cannot read; two of one call are the service's way."""

CANCELLED = Outcome(Verdict.CANCELLED, sent=Sent.MAYBE, reason="cancelled")
"""The caller gave up."""


class Attempt(NamedTuple):
    """What a function given to `LoadBalancer.call` receives."""

    endpoint: Endpoint
    number: int
    """1 for the first try."""
    timeout: float | None
    """Seconds left of the deadline; None where there is none."""


@record(frozen=True, slots=True)
class Health:
    """How well a load balancer knows its service, in one value.

    `age` is seconds since discovery last heard anything from its source (an event, a bookmark, a list), None before the
    first time; it grows while the last known good set stays in use. `error` and `cure` are empty while all is well.
    """

    source: str
    """Where endpoints come from: ``"endpointslices"``, ``"dns+srv"``, ``"dns"``, ``"static"``, ``"disabled"``."""
    synced: bool = False
    stale: bool = False
    """The age has passed `max_stale`."""
    age: float | None = None
    error: str = ""
    cure: str = ""
    fallback: str = ""
    """Why endpoints come from a source further down the ladder, as ``"forbidden: ..."``; empty on the first."""
    counts: Mapping[str, int] = field(default_factory=dict)
    kind: str = ""
    """What kind of failure the error is of, while the source cannot be read: a word of `DiscoveryFailed.kind`."""
    circuit: str = ""
    """Where the service's own circuit stands: ``closed``, ``open``, ``half-open``; "" without a `CircuitBreaker`."""

    def __post_init__(self) -> None:
        for name in ("error", "cure", "fallback"):
            if text := getattr(self, name):
                object.__setattr__(self, name, printable(text))
