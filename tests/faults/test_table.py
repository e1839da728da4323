"""Every row of the table, for every client, as a call that must not be repeated and as one that may."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.faults.asking import Allowed, Ask, How
from tests.faults.by_hand import HAND, Call
from tests.faults.clients import Client
from tests.faults.over_grpc import AioStream, Stream, Unary
from tests.faults.over_http import HTTP, AsyncHttpx2, Httpx, Httpx2, Requests
from tests.faults.playing import halfway, leave
from tests.faults.scene import CLIENTS, Scene
from tests.faults.table import ROWS, Row, Then, expected
from tests.waiting import until

TWINS = (Httpx2, AsyncHttpx2)
"""The same code as for httpx: rows that take their time leave them out."""
QUICK = (Httpx, Requests, Unary, AioStream, Call)
"""The quick loop's: each client library, both worlds, gRPC with one response and with many."""


def cases() -> Iterator[Any]:
    """Where the same comes of both kinds of calls, the quick loop has the one that must not be repeated, and a row that
    takes its time has the other.
    """
    for row in ROWS:
        for kind in CLIENTS:
            once, again = expected(row, kind, Allowed.NO), expected(row, kind, Allowed.YES)
            if isinstance(once, str) or (row.slow and kind in TWINS):
                continue
            slow = row.slow or kind not in QUICK
            if once != again or not row.slow:
                yield case(row, kind, Allowed.NO, "once", slow=slow)
            yield case(row, kind, Allowed.YES, "again", slow=slow or once == again)


def case(row: Row, kind: type[Client], allowed: Allowed, word: str, *, slow: bool) -> Any:
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(row, kind, allowed, id=f"{row.name}-{kind.name}-{word}", marks=marks)


@pytest.mark.usefixtures("punctual")
@pytest.mark.parametrize(("row", "kind", "allowed"), list(cases()))
def test_a_fault(stage: Callable[..., Scene], row: Row, kind: type[Client], allowed: Allowed) -> None:
    """It ends as the table says, is delivered and blamed as the table says, and leaves nothing behind."""
    then = expected(row, kind, allowed)
    assert isinstance(then, Then)
    scene = stage(kind)
    with ExitStack() as stack:
        if row.first is not None:
            scene.first = stack.enter_context(row.first())
        row.before(scene)
        scene.begin(connected=row.connected)
        ask = Ask(allowed, **row.ask)
        end = row.script(scene, ask)
        assert (end.how, end.refusal, end.tries) == (then.how, then.refusal, then.tries), end
        assert scene.at_rest()
        assert scene.delivered(ask) == then.delivered
        assert scene.blamed() == then.blamed
        kept = 0 if kind.family == HAND else row.kept[kind.family != HTTP]
        assert kept is None or until(lambda: scene.pods[0].connections == kept, 10.0), scene.pods[0].connections
        scene.usable()


def test_nothing_is_left_out_without_a_reason() -> None:
    """For each row and client the table says what must come of it, or why it makes no sense; no row is for nobody."""
    for row in ROWS:
        told = [expected(row, kind, Allowed.NO) for kind in CLIENTS]
        assert all(isinstance(each, Then) or len(each) > 10 for each in told), row.name
        assert sum(isinstance(each, Then) for each in told) >= 2, row.name
        for but in row.but:
            assert but.again is None or but.once is not None, row.name


@pytest.mark.slow
def test_a_stream_whose_endpoint_goes_can_be_read_to_its_end(stage: Callable[..., Scene]) -> None:
    """Twenty-five times: whether the reader or its end comes first in grpcio's thread is a matter of chance."""
    scene = stage(Stream)
    scene.begin()
    for _ in range(25):
        assert halfway(leave)(scene, Ask()).how is How.ANSWERED
        assert scene.at_rest()
        scene.publish(scene.pods)
        scene.client.connected(3)
