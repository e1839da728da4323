"""The table: what goes wrong, and what must come of it.

A row holds for every client, or says for whom not and why. Pods are tried in their order, and the fault is the first
one's. `Then` has how the call ends, how often each of the three pods was given it, and how many failures each is
charged with. `python -m tests.faults.table` prints it all.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.by_hand import HAND, Acall, Call
from tests.faults.clients import Client
from tests.faults.over_grpc import RPC, STREAM, AioUnary, FutureCall, Unary
from tests.faults.over_http import HTTP, AsyncHttpx, AsyncHttpx2, Httpx, Httpx2, Requests
from tests.faults.playing import (
    alone,
    asked,
    drained,
    dripping,
    dropped,
    dropped_later,
    given_up,
    goodbye,
    halfway,
    hole,
    idle_closed,
    leave,
    no_time,
    nobody,
    refuse_all,
    refuse_first,
    too_large,
    under_way,
    warm,
)
from tests.faults.scene import CLIENTS, Scene

import kubelb

__all__ = ["ROWS", "Row", "Then", "expected"]

Counts: TypeAlias = tuple[int, int, int]
NOWHERE, FIRST, SECOND, BOTH, ALL = (0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1)
ANSWERED, TOLD, UNREACHABLE, LOST, BROKEN, LATE, CANCELLED = How
NEITHER, ITS_OWN, GRPCS, SOON = (0, 0), (1, 1), (0, 1), (0, None)
"""Connections to the first pod that are left: of the HTTP clients, of gRPC's. A lost one of gRPC's is made again when
somebody asks for it."""


@dataclass(frozen=True)
class Then:
    """What must come of a call."""

    how: How
    delivered: Counts
    blamed: Counts = NOWHERE
    refusal: type[kubelb.LoadBalancerError] | None = None
    """kubelb's own class, where it refused; the client's own is looked at by each client's `meaning`."""
    tries: int = 0
    """Earlier tries that the exception has notes of."""

    def __str__(self) -> str:
        words = f"{self.how.value} {''.join(map(str, self.delivered))}"
        if any(self.blamed):
            words += f", blamed {''.join(map(str, self.blamed))}"
        return words + (f", {self.refusal.__name__}" if self.refusal else "")


@dataclass(frozen=True)
class But:
    """What is different for some families or clients, and why. Without a `Then` the row makes no sense for them."""

    whom: tuple[Any, ...]
    because: str
    once: Then | None = None
    again: Then | None = None


@dataclass(frozen=True)
class Row:
    """One fault; `once` for a call that must not be repeated, `again` for one that may (None: the same comes of it)."""

    name: str
    script: Callable[[Scene, Ask], End]
    once: Then
    again: Then | None = None
    but: tuple[But, ...] = ()
    kept: tuple[int | None, int | None] = (None, None)
    """Connections to the first pod afterwards, of HTTP and of gRPC; None where it may be one or none."""
    ask: dict[str, Any] = field(default_factory=dict)
    """Options of the call."""
    before: Callable[[Scene], object] = lambda scene: None
    """What is wrong before anybody connects, and how many connections gRPC then has."""
    connected: int = 3
    first: Callable[[], AbstractContextManager[Any]] | None = None
    """What stands in the place of the first pod."""
    slow: bool = False


def expected(row: Row, kind: type[Client], allowed: Allowed) -> Then | str:
    """What must come of it, or why it makes no sense."""
    once, again = row.once, row.again
    for but in row.but:
        if kind in but.whom or kind.family in but.whom:
            if but.once is None:
                return but.because
            once, again = but.once, but.again
    return once if allowed is Allowed.NO else again or once


GRPC = (RPC, STREAM)
WHOLE = (RPC, HAND)
BLOCKING = (Httpx, Httpx2, Requests, Unary, Call)
NO_CALL_OBJECT = (*BLOCKING, AsyncHttpx, AsyncHttpx2, Acall)

BLOCKS = "a call that blocks cannot be cancelled; Ctrl-C in it has tests of its own"
CANCELS = "kubelb cancels the function, and says why"
NEW_EACH_TIME = "a connection for each attempt"
NO_CONNECTION = "a pod without a connection is passed over and not blamed: it may be this client's own trouble"
NO_MIDDLE = "the answer comes as a whole: to kubelb it has no middle"
NO_OBJECT = "there is nothing to drop before the answer"
NO_READ_TIMEOUT = "gRPC has one timeout, for the call as a whole"
RECONNECTED = "connected anew in the background, never by a call"
UNSEEN = "the caller has seen nothing yet, so another pod may answer"

DEADLINE, PER_READ = {"deadline": 0.8}, {"timeout": 0.5}
BIG = {"body": b"x" * 5_000_000}

ROWS = (
    # Nothing is sent
    Row(
        "refused",
        asked(),
        Then(ANSWERED, SECOND, FIRST),
        before=refuse_first,
        connected=2,
        kept=NEITHER,
        but=(But(GRPC, NO_CONNECTION, Then(ANSWERED, SECOND)),),
    ),
    Row(
        "refused by all",
        asked(),
        Then(UNREACHABLE, NOWHERE, ALL, tries=2),
        before=refuse_all,
        connected=0,
        kept=NEITHER,
        but=(But(GRPC, NO_CONNECTION, Then(UNREACHABLE, NOWHERE, refusal=kubelb.Unusable)),),
    ),
    Row(
        "black hole",
        asked(),
        Then(ANSWERED, SECOND, FIRST),
        first=hole,
        connected=2,
        slow=True,
        but=(But(GRPC, NO_CONNECTION, Then(ANSWERED, SECOND)),),
    ),
    Row(
        "nothing but a black hole, with a deadline",
        alone,
        Then(UNREACHABLE, NOWHERE, FIRST),
        ask=DEADLINE,
        first=hole,
        connected=2,
        slow=True,
        but=(
            But(GRPC, NO_CONNECTION, Then(LATE, NOWHERE, refusal=kubelb.DeadlineExceeded)),
            But((Call,), "its TimeoutError is the function's own", Then(LATE, NOWHERE, FIRST)),
            But((Acall,), CANCELS, Then(LATE, NOWHERE, FIRST, kubelb.DeadlineExceeded)),
        ),
    ),
    Row(
        "deadline over before the call",
        asked(),
        Then(LATE, NOWHERE, refusal=kubelb.DeadlineExceeded),
        ask={"deadline": 1e-9},
        kept=GRPCS,
    ),
    Row(
        "every endpoint gone",
        nobody,
        Then(UNREACHABLE, NOWHERE, refusal=kubelb.NoEndpoints),
        kept=NEITHER,
    ),
    # Before the answer
    Row(
        "failing",
        asked(lambda pod: pod.fail()),
        Then(TOLD, FIRST, FIRST),
        Then(ANSWERED, BOTH, FIRST),
        kept=ITS_OWN,
    ),
    Row(
        "reset before headers",
        asked(lambda pod: pod.reset()),
        Then(LOST, FIRST, FIRST),
        Then(ANSWERED, BOTH, FIRST),
        kept=SOON,
    ),
    Row(
        "reset before headers, of a connection used before",
        warm(lambda pod: pod.reset()),
        Then(LOST, FIRST),
        Then(ANSWERED, BOTH),
        kept=SOON,
        but=(
            But(
                GRPC,
                "a peer that ends an idle connection says GOAWAY, so this is no such end",
                Then(LOST, FIRST, FIRST),
                Then(ANSWERED, BOTH, FIRST),
            ),
            But((HAND,), NEW_EACH_TIME),
        ),
    ),
    Row(
        "killed in mid-call",
        under_way(lambda scene, going: scene.pods[0].kill()),
        Then(LOST, FIRST, FIRST),
        Then(ANSWERED, BOTH, FIRST),
        kept=NEITHER,
    ),
    Row(
        "hang, with a deadline",
        asked(lambda pod: pod.hang()),
        Then(LATE, FIRST, FIRST),
        ask=DEADLINE,
        kept=GRPCS,
        slow=True,
        but=(But((Acall,), CANCELS, Then(LATE, FIRST, FIRST, kubelb.DeadlineExceeded)),),
    ),
    Row(
        "hang, with a timeout for each read",
        asked(lambda pod: pod.hang()),
        Then(LATE, FIRST, FIRST),
        Then(ANSWERED, BOTH, FIRST),
        ask=PER_READ,
        kept=GRPCS,
        slow=True,
        but=(But(GRPC, NO_READ_TIMEOUT),),
    ),
    Row(
        "deadline over all tries",
        no_time,
        Then(TOLD, FIRST, FIRST),
        Then(LATE, BOTH, BOTH, tries=1),
        ask=DEADLINE,
        kept=ITS_OWN,
        slow=True,
        but=(
            But(
                (Acall,),
                CANCELS,
                Then(TOLD, FIRST, FIRST),
                Then(LATE, BOTH, BOTH, kubelb.DeadlineExceeded, tries=1),
            ),
        ),
    ),
    Row(
        "cancelled before the answer",
        under_way(lambda scene, going: going.cancel()),
        Then(CANCELLED, FIRST),
        kept=GRPCS,
        but=(But(BLOCKING, BLOCKS),),
    ),
    Row(
        "dropped before the answer",
        dropped,
        Then(CANCELLED, FIRST),
        kept=GRPCS,
        but=(
            But(NO_CALL_OBJECT, NO_OBJECT),
            But((FutureCall, AioUnary), "as with grpcio itself, it goes on to its end", Then(ANSWERED, FIRST)),
        ),
    ),
    # In the answer
    Row(
        "reset after headers",
        asked(lambda pod: pod.reset_after_headers()),
        Then(LOST, FIRST, FIRST),
        Then(ANSWERED, BOTH, FIRST),
        kept=SOON,
        but=(But((HTTP,), "the next row: the caller has had the headers"),),
    ),
    Row(
        "reset halfway",
        halfway(lambda scene, held: scene.pods[0].close_connections(reset=True)),
        Then(BROKEN, FIRST, FIRST),
        kept=SOON,
        but=(But(WHOLE, NO_MIDDLE),),
    ),
    Row(
        "killed halfway",
        halfway(lambda scene, held: scene.pods[0].kill()),
        Then(BROKEN, FIRST, FIRST),
        kept=NEITHER,
        but=(But(WHOLE, NO_MIDDLE),),
    ),
    Row(
        "truncated",
        asked(lambda pod: pod.truncate()),
        Then(BROKEN, FIRST, FIRST),
        kept=SOON,
        but=(But(WHOLE, UNSEEN, Then(LOST, FIRST, FIRST), Then(ANSWERED, BOTH, FIRST)),),
    ),
    Row(
        "slow drip",
        asked(lambda pod: pod.drip(40, 0.05)),
        Then(ANSWERED, FIRST),
        ask={"timeout": 5.0},
        kept=ITS_OWN,
    ),
    Row(
        "slow drip, with a deadline",
        dripping,
        Then(LATE, FIRST),
        ask=DEADLINE,
        kept=GRPCS,
        slow=True,
        but=(
            But((RPC,), "one message cannot drip"),
            But((Call,), NO_MIDDLE, Then(LATE, FIRST, FIRST)),
            But((Acall,), CANCELS, Then(LATE, FIRST, FIRST, kubelb.DeadlineExceeded)),
        ),
    ),
    Row(
        "hang halfway, with a deadline",
        halfway(lambda scene, held: None),
        Then(LATE, FIRST),
        ask=DEADLINE,
        kept=GRPCS,
        slow=True,
        but=(But(WHOLE, NO_MIDDLE),),
    ),
    Row(
        "given up halfway",
        given_up(lambda held: held.give_up()),
        Then(CANCELLED, FIRST),
        kept=GRPCS,
        but=(But(WHOLE, NO_MIDDLE),),
    ),
    Row(
        "dropped halfway",
        given_up(lambda held: held.drop()),
        Then(CANCELLED, FIRST),
        but=(But(WHOLE, NO_MIDDLE),),
    ),
    Row(
        "dropped halfway in a second try",
        dropped_later,
        Then(TOLD, FIRST, FIRST),
        Then(CANCELLED, BOTH, FIRST),
        but=(
            But(WHOLE, NO_MIDDLE),
            But(
                (HTTP,),
                "an answer that says 503 can be dropped like any other",
                Then(CANCELLED, FIRST, FIRST),
                Then(CANCELLED, BOTH, FIRST),
            ),
        ),
    ),
    # The request is too much
    Row(
        "early 413",
        asked(),
        Then(TOLD, FIRST),
        ask=BIG,
        first=too_large,
        but=(But(GRPC, "the next row"),),
    ),
    Row(
        "message too large",
        asked(),
        Then(TOLD, NOWHERE),
        ask=BIG,
        kept=GRPCS,
        but=(But((HTTP, HAND), "the row before"),),
    ),
    # Pods that go
    Row(
        "idle connection closed",
        idle_closed,
        Then(ANSWERED, FIRST),
        kept=ITS_OWN,
        but=(
            But(GRPC, RECONNECTED, Then(ANSWERED, SECOND)),
            But((HAND,), NEW_EACH_TIME),
        ),
    ),
    Row(
        "goodbye: Connection: close, or GOAWAY",
        goodbye,
        Then(ANSWERED, FIRST),
        kept=NEITHER,
        but=(But(GRPC, "after GOAWAY there is no connection", Then(ANSWERED, SECOND)),),
    ),
    Row("drained with work in progress", drained, Then(ANSWERED, FIRST), kept=NEITHER),
    Row("endpoint gone in mid-call", under_way(leave), Then(ANSWERED, FIRST), kept=NEITHER),
    Row(
        "endpoint gone halfway",
        halfway(leave),
        Then(ANSWERED, FIRST),
        kept=NEITHER,
        but=(But(WHOLE, NO_MIDDLE),),
    ),
)


def main() -> None:
    """Print the table."""
    names = {but: ", ".join(getattr(whom, "name", whom) for whom in but.whom) for row in ROWS for but in row.but}
    for row in ROWS:
        print(f"{row.name}\n    must not be repeated: {row.once}\n    may be: {row.again or row.once}")
        for but in row.but:
            what = "makes no sense" if but.once is None else f"{but.once} / {but.again or but.once}"
            print(f"    {names[but]}: {what} ({but.because})")
    print(f"\n{len(ROWS)} rows, {len(CLIENTS)} clients: {', '.join(kind.name for kind in CLIENTS)}")


if __name__ == "__main__":
    main()
