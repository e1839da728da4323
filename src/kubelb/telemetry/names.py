"""Every name that metrics and spans have, in one table; ``docs/reference/metrics.md`` is made of it.

Names begin with ``kubelb.``, but where OpenTelemetry's semantic conventions have one. HTTP's are stable; RPC's are a
release candidate and may move. An event's counter stands with the event (`kubelb.core.events`) and is taken in here.

No attribute of a metric names an endpoint: pods come and go, and each would leave its series behind. The pod is named
on spans alone.
"""

from collections.abc import Iterator
from typing import NamedTuple

from kubelb.core.events import Event

__all__ = ["INSTRUMENTS", "LOOKED_AT", "SPANS", "TELLS", "Instrument"]

# Attributes

SERVICE = "kubelb.service"
ATTEMPT = "kubelb.attempt"
ATTEMPTS = "kubelb.attempts"
OUTCOME = "kubelb.outcome"
STATE = "kubelb.endpoint.state"
POD = "kubelb.endpoint.pod"
SOURCE = "kubelb.discovery.source"
ERROR = "error.type"
METHOD = "http.request.method"
STATUS = "http.response.status_code"
RESENT = "http.request.resend_count"
RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"
SERVER = "server.address"
SERVER_PORT = "server.port"
PEER = "network.peer.address"
PEER_PORT = "network.peer.port"
SCHEME = "url.scheme"
URL = "url.full"

TELLS: dict[str, str] = {
    SERVICE: "the load balancer: its target, the text of a Discovery of yours, `static` for a list of addresses, or "
    "`Telemetry(service=...)`",
    ATTEMPT: "the number of the attempt, 1 for the first; it is also the name of the event that a span gets for an "
    "attempt which has no span of kubelb's",
    ATTEMPTS: "how many attempts the call took",
    OUTCOME: "`success`, `failure`, or `other`, which says nothing of the pod: cancelled, an idle connection that was "
    "closed",
    STATE: "the words of `lb.endpoints()`: `ready`, `warming`, `ejected`, `open`, `full`, `not ready`, ...",
    POD: "the name of the pod that was dialled, where discovery knows it",
    SOURCE: "where endpoints come from: `endpointslices`, `dns+srv`, `dns`, `static`, or the `source` that the "
    "`Health` of a Discovery of yours has",
    ERROR: "what it ended with: a status from 400 on, a gRPC status but OK, else `kubelb.error_type` of the exception",
    METHOD: "of a method that HTTP does not know `_OTHER`",
    STATUS: "of the response",
    RESENT: "how many attempts there were before this one, from the second on",
    RPC_SYSTEM: "`grpc`",
    RPC_METHOD: "the full name, as `pkg.Service/Method`",
    RPC_STATUS: "the name of the status, as `OK`",
    SERVER: "the service's own name, never a pod's address",
    SERVER_PORT: "the port in the URL, or that of its scheme; of gRPC the target's, where that is a number",
    PEER: "the address of the pod that was dialled",
    PEER_PORT: "and its port",
    SCHEME: "of the URL",
    URL: "the URL without credentials, query and fragment",
}
"""What each attribute of durations, spans and of what is looked at says. Those of events stand with their events."""

# Instruments

HTTP = "http.client.request.duration"
RPC = "rpc.client.call.duration"
CALL = "kubelb.call.duration"
REQUESTS = "kubelb.requests"
PICKS = "kubelb.picks"
ENDED = "kubelb.attempts"
ACTIVE = "kubelb.attempts.active"
ENDPOINTS = "kubelb.endpoints"
BUDGET = "kubelb.retry.budget.available"
AGE = "kubelb.discovery.age"
SYNCED = "kubelb.discovery.synced"
STALE = "kubelb.discovery.stale"


class Instrument(NamedTuple):
    """A metric. `kind` is ``histogram``, ``counter``, ``up_down_counter`` or ``gauge``."""

    name: str
    kind: str
    unit: str
    description: str
    attributes: tuple[str, ...] = (SERVICE,)


HTTP_TOLD = METHOD, STATUS, SERVER, SERVER_PORT, SCHEME, ERROR
RPC_TOLD = RPC_SYSTEM, RPC_METHOD, RPC_STATUS, SERVER, SERVER_PORT, ERROR

DURATIONS = (
    Instrument(HTTP, "histogram", "s", "From the request to its response headers, all attempts included.", HTTP_TOLD),
    Instrument(RPC, "histogram", "s", "From the call to its status, all attempts included.", RPC_TOLD),
    Instrument(CALL, "histogram", "s", "Of `call` and `acall`, all attempts included.", (SERVICE, ERROR)),
)
"""Measured call by call. An OpenTelemetry view is given their buckets by the conventions (`conventions.BUCKETS`)."""

LOOKED_AT = (
    Instrument(REQUESTS, "counter", "{request}", "Calls that picked an endpoint: first attempts."),
    Instrument(PICKS, "counter", "{pick}", "Times that an endpoint was picked, for retries too."),
    Instrument(
        ENDED, "counter", "{attempt}", "Attempts that ended, by what that says of the endpoint.", (SERVICE, OUTCOME)
    ),
    Instrument(ACTIVE, "up_down_counter", "{attempt}", "Attempts in flight, bodies included."),
    Instrument(ENDPOINTS, "up_down_counter", "{endpoint}", "Known endpoints, by state.", (SERVICE, STATE)),
    Instrument(BUDGET, "gauge", "{retry}", "Retries that the retry budget would allow at this moment."),
    Instrument(AGE, "gauge", "s", "Time since the source of endpoints was last heard of.", (SERVICE, SOURCE)),
    Instrument(SYNCED, "gauge", "1", "1 once endpoints are known, 0 before.", (SERVICE, SOURCE)),
    Instrument(STALE, "gauge", "1", "1 while the age is beyond max_stale, else 0.", (SERVICE, SOURCE)),
)
"""Read when metrics are collected (`looking.py`)."""


def _counters() -> Iterator[Instrument]:
    for kind in Event.kinds():
        if kind.counter is not None:
            name, unit, description, attributes = kind.counter
            yield Instrument(name, "counter", unit, description, (SERVICE, *(each.name for each in attributes)))


INSTRUMENTS: tuple[Instrument, ...] = (*DURATIONS, *LOOKED_AT, *_counters())

# Spans

SPANS: dict[str, tuple[str, ...]] = {
    "the call": (SERVICE, ATTEMPTS, ERROR),
    "an attempt over HTTP": (METHOD, STATUS, RESENT, SERVER, SERVER_PORT, SCHEME, URL, PEER, PEER_PORT, POD, ERROR),
    "an attempt over gRPC": (*RPC_TOLD[:-1], PEER, PEER_PORT, POD, ATTEMPT, ERROR),
    "an attempt of `call`, `acall`": (SERVICE, ATTEMPT, PEER, PEER_PORT, POD, ERROR),
}
"""Their attributes."""
