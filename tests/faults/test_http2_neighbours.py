"""Streams that share a connection, and what one of them may do to the others: nothing.

The kinds: a timeout, a cancellation or a discard that breaks neighbours; a wait that no timeout bounds; a connection
that is used although it is full, draining or dead; an end of a connection that counts as many failures as it had
streams.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import httpx
import pytest
from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.clients import Client
from tests.faults.http2_clients import AsyncH2, AsyncH2x2, SyncH2, SyncH2x2
from tests.faults.http2_pod import FIRST_WINDOW, MOST_STREAMS, Pod, Told
from tests.spelled import spelled
from tests.waiting import until

import kubelb
from kubelb.adapters._httpx.http2.pool import QUEUE

TWIN = pytest.mark.slow
KINDS = [SyncH2, AsyncH2, pytest.param(SyncH2x2, marks=TWIN), pytest.param(AsyncH2x2, marks=TWIN)]
PERIOD = 0.3


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Makes a client of one kind; when the test ends nothing is in flight, and no connection is left."""
    made: list[tuple[Client, kubelb.LoadBalancer, tuple[Pod, ...]]] = []

    def make(*pods: Pod, limits: Any = None, **options: Any) -> Client:
        lb = kubelb.LoadBalancer(
            f"static:///{','.join(pod.address for pod in pods)}", policy="round_robin", **spelled(options)
        )
        kind = type("Kind", (request.param,), {"options": {"limits": limits} if limits else {}})
        made.append((kind(lb), lb, pods))
        return made[-1][0]

    yield make
    for client, lb, pods in made:
        client.close()
        assert until(lambda lb=lb: all(view.in_flight == 0 for view in lb.endpoints()), 10.0)
        lb.close()
        assert until(lambda pods=pods: not any(pod.links for pod in pods), 10.0)


def failures(client: Client) -> int:
    return sum(view.failures for view in client.lb.endpoints())


def held(pod: Pod) -> Callable[[str], Told]:
    """The pod answers nothing by itself; returns what finds a request by its marker, once it is there whole."""
    pod.handler = lambda told: None

    def find(marker: str) -> Told:
        def there() -> Told | None:
            return next((told for told in pod.all_told() if told.marker == marker and pod.delivered[marker]), None)

        assert until(there, 20.0)
        return there()  # type: ignore[return-value]

    return find


def warmed(client: Client, pod: Pod) -> None:
    """One connection, whose SETTINGS are known."""
    assert client.ask(Ask()).how is How.ANSWERED


def test_a_timeout_of_one_stream_is_nothing_to_its_neighbours(make: Callable[..., Client], pod: Pod) -> None:
    client = make(pod, retry=None)
    warmed(client, pod)
    find = held(pod)
    slow = [Ask(Allowed.NO, body=b"x") for _ in range(3)]
    going = [client.begin(ask) for ask in slow]
    waiting = [find(ask.marker) for ask in slow]
    impatient = Ask(Allowed.NO, timeout=PERIOD)
    assert client.ask(impatient).how is How.LATE
    gone = find(impatient.marker)
    assert until(lambda: gone.reset == 8)  # CANCEL, and the connection is as it was
    for told in waiting:
        told.answer()
    assert [each.end().how for each in going] == [How.ANSWERED] * 3
    assert pod.accepted == 1


def test_a_stream_waits_no_longer_than_its_own_time_behind_another_one(make: Callable[..., Client], pod: Pod) -> None:
    client = make(pod, retry=None)
    warmed(client, pod)
    find = held(pod)
    patient = Ask(Allowed.NO)
    first = client.begin(patient)
    told = find(patient.marker)
    for ask in (Ask(timeout=PERIOD), Ask(deadline=PERIOD)):
        start = time.monotonic()
        assert client.ask(ask).how is How.LATE
        assert time.monotonic() - start < 10  # and not the 20 s of the first
    told.answer()
    assert first.end().how is How.ANSWERED


def test_whoever_read_for_all_hands_reading_on(make: Callable[..., Client], pod: Pod) -> None:
    """Answers come in the reverse order, so each time the one that reads is the last to leave."""
    client = make(pod)
    warmed(client, pod)
    find = held(pod)
    asks = [Ask(Allowed.NO) for _ in range(8)]
    going = []
    for ask in asks:
        going.append(client.begin(ask))
        find(ask.marker)
    for ask, each in reversed(list(zip(asks, going, strict=True))):
        find(ask.marker).answer()
        assert each.end().how is How.ANSWERED
    assert pod.accepted == 1


def test_a_body_that_is_given_up_or_dropped_is_cancelled_alone(make: Callable[..., Client], pod: Pod) -> None:
    client = make(pod)
    warmed(client, pod)
    find = held(pod)
    neighbour = Ask(Allowed.NO)
    going = client.begin(neighbour)
    find(neighbour.marker)
    for leave in ("give_up", "drop"):
        ask = Ask(Allowed.NO)
        opening: list[Any] = []
        thread = threading.Thread(target=lambda ask=ask, opening=opening: opening.append(client.open(ask)))
        thread.start()
        told = find(ask.marker)
        told.headers()
        told.data(b"begun")
        thread.join()
        getattr(opening.pop(), leave)()
        if leave == "drop":  # the next request finds it
            pod.handler = lambda told: told.answer()
            client.ask(Ask())
            pod.handler = lambda told: None
        assert until(lambda told=told: told.reset == 8)
    find(neighbour.marker).answer()
    assert going.end().how is How.ANSWERED
    assert pod.accepted == 1
    assert failures(client) == 0


def test_a_response_that_is_not_wanted_ends_alone(make: Callable[..., Client], pod: Pod) -> None:
    """A 503 whose body is late is discarded after 50 ms, for the next try; the POSTs beside it are answered."""
    other = Pod(host="127.0.0.2", name="other")
    try:
        client = make(pod, other)
        for _ in range(2):
            warmed(client, pod)
        held(pod)
        other.handler = pod.handler
        posts = [Ask(Allowed.NO, body=b"x") for _ in range(8)]
        going = [client.begin(ask) for ask in posts]
        assert until(lambda: all(pod.delivered[ask.marker] + other.delivered[ask.marker] for ask in posts), 20.0)
        other.handler = lambda told: told.answer()
        busy: list[Told] = []

        def refuse(told: Told) -> None:
            told.headers(503)
            busy.append(told)

        pod.handler = refuse
        ends = [client.ask(Ask()) for _ in range(2)]
        assert [(end.how, end.pod) for end in ends] == [(How.ANSWERED, "other")] * 2
        assert until(lambda: all(told.reset == 8 for told in busy))
        for told in [*pod.all_told(), *other.all_told()]:
            if told.marker in {ask.marker for ask in posts}:
                told.answer()
        assert [each.end().how for each in going] == [How.ANSWERED] * 8
        assert len(busy) == failures(client)
    finally:
        other.close()


def test_a_full_connection_is_left_for_another_one(make: Callable[..., Client], pod: Pod) -> None:
    pod.settings = {**pod.settings, MOST_STREAMS: 2}
    client = make(pod)
    warmed(client, pod)
    find = held(pod)
    asks = [Ask(Allowed.NO) for _ in range(5)]
    going = []
    for ask in asks:
        going.append(client.begin(ask))
        find(ask.marker)
    assert pod.accepted == 3
    for ask in asks:
        find(ask.marker).answer()
    assert [each.end().how for each in going] == [How.ANSWERED] * 5
    assert failures(client) == 0


def test_where_no_other_connection_is_allowed_a_stream_is_waited_for(make: Callable[..., Client], pod: Pod) -> None:
    """As long as the time of the request allows: then it goes to another endpoint, or fails as never sent."""
    pod.settings = {**pod.settings, MOST_STREAMS: 1}
    client = make(pod, limits=httpx.Limits(max_connections=1), retry=None)
    warmed(client, pod)
    find = held(pod)
    first, second, third = (Ask(Allowed.NO) for _ in range(3))
    going = client.begin(first)
    find(first.marker)
    late = client.client_error(Ask(deadline=PERIOD))
    assert late == "PoolTimeout"
    waits = [client.begin(second), client.begin(third)]
    time.sleep(0.05)
    pod.handler = lambda told: told.answer()
    find(first.marker).answer()
    assert [each.end().how for each in (going, *waits)] == [How.ANSWERED] * 3
    assert pod.accepted == 1
    assert failures(client) == 0


@pytest.mark.skipif(not hasattr(httpcore.ConnectionPool, QUEUE), reason="httpcore 1.0.2 and older look when one ends")
def test_a_limit_that_is_raised_lets_the_waiting_in(make: Callable[..., Client], pod: Pod) -> None:
    pod.settings = {**pod.settings, MOST_STREAMS: 1}
    client = make(pod, limits=httpx.Limits(max_connections=1))
    warmed(client, pod)
    find = held(pod)
    first, second = Ask(Allowed.NO), Ask(Allowed.NO)
    going = [client.begin(first)]
    told = find(first.marker)
    going.append(client.begin(second))
    time.sleep(0.05)
    told.link.settings(MOST_STREAMS, 5)
    for ask in (second, first):
        find(ask.marker).answer()
    assert [each.end().how for each in going] == [How.ANSWERED] * 2


@pytest.mark.parametrize(("planned", "count"), [(False, 12), (True, 12), (True, 1)])
def test_a_connection_cut_with_many_streams_is_one_failure(
    make: Callable[..., Client], pod: Pod, planned: bool, count: int
) -> None:
    """Each stream has an exception of its own; the endpoint is charged once, after GOAWAY NO_ERROR too: these were to
    be answered. Of one stream that is forgiven.
    """
    client = make(pod, retry=None)
    warmed(client, pod)
    find = held(pod)
    asks = [Ask(Allowed.NO) for _ in range(count)]
    going = [client.begin(ask) for ask in asks]
    told = [find(ask.marker) for ask in asks]
    if planned:
        told[0].link.goaway(2**31 - 1)
    told[0].link.cut()
    ends = [each.end() for each in going]
    assert {(end.how, end.own) for end in ends} == {(How.LOST, "RemoteProtocolError")}
    assert failures(client) == (0 if count == 1 else 1)


def test_bodies_cut_together_are_one_failure(make: Callable[..., Client], pod: Pod) -> None:
    client = make(pod)
    warmed(client, pod)

    def begin(told: Told) -> None:
        told.headers()
        told.data(b"begun")

    pod.handler = begin
    bodies = [client.open(Ask(Allowed.NO)) for _ in range(6)]
    pod.links[0].cut()
    ends = [body.finish() for body in bodies]  # type: ignore[union-attr]
    assert {(end.how, end.own) for end in ends} == {(How.BROKEN, "RemoteProtocolError")}
    assert failures(client) == 1


def test_a_connection_that_fell_silent_is_not_used_until_it_speaks(make: Callable[..., Client], pod: Pod) -> None:
    """After a timeout in silence a PING is sent; new requests take another connection, until it is answered."""
    client = make(pod, retry=None)
    warmed(client, pod)
    find = held(pod)
    neighbour = Ask(Allowed.NO)
    going = client.begin(neighbour)
    told = find(neighbour.marker)
    dead = pod.links[0]
    dead.deaf = True
    assert client.ask(Ask(timeout=PERIOD)).how is How.LATE
    pod.handler = lambda told: told.answer()
    assert client.ask(Ask(timeout=5.0)).how is How.ANSWERED
    assert pod.accepted == 2
    dead.deaf = False
    assert until(lambda: dead.pings == 1)
    told.answer()
    assert going.end().how is How.ANSWERED


def test_a_reader_that_is_slow_holds_up_nobody_else(make: Callable[..., Client], pod: Pod) -> None:
    """The one that does not read has its window full; the connection's is open for the others."""
    client = make(pod)
    warmed(client, pod)

    def flood(told: Told) -> None:
        told.headers()
        while told.reset is None:
            with told.link._lock:
                room = told.link.h2.local_flow_control_window(told.stream)
            if not room:
                break
            told.data(b"x" * min(room, 16384))

    pod.handler = flood
    body = client.open(Ask(Allowed.NO))
    flooded = pod.all_told()[-1]
    pod.handler = lambda told: told.answer(200, b"y" * 10_000)

    def full() -> bool:  # those that wait for an answer read what comes for all
        assert client.ask(Ask()).how is How.ANSWERED
        return bool(flooded.link.h2.local_flow_control_window(flooded.stream) == 0)

    assert until(full, 20.0)
    assert client.ask(Ask()).how is How.ANSWERED
    assert client.ask(Ask()).how is How.ANSWERED
    assert pod.accepted == 1
    body.give_up()  # type: ignore[union-attr]


def test_a_body_that_the_socket_does_not_take_at_once_is_written_while_another_one_reads(
    make: Callable[..., Client], pod: Pod
) -> None:
    """The peer reads late, and says nothing meanwhile that would wake the one that reads."""
    pod.settings = {**pod.settings, FIRST_WINDOW: 2**24}
    pod.on_connect = lambda link: link.do(lambda h2: h2.increment_flow_control_window(2**24))
    pod.reads = False
    client = make(pod)
    warmed(client, pod)
    find = held(pod)
    neighbour, upload = Ask(Allowed.NO), Ask(Allowed.NO, body=b"x" * 12_000_000)
    going = [client.begin(neighbour)]
    find(neighbour.marker)
    pod.links[0].deaf = True
    going.append(client.begin(upload))
    time.sleep(PERIOD)
    pod.links[0].deaf = False
    assert len(find(upload.marker).body) == 12_000_000
    for ask in (upload, neighbour):
        find(ask.marker).answer()
    assert [each.end().how for each in going] == [How.ANSWERED] * 2
    assert pod.accepted == 1


def test_many_at_once_on_a_new_connection_are_one_connection(make: Callable[..., Client], pod: Pod) -> None:
    client = make(pod)
    going = [client.begin(Ask(Allowed.NO)) for _ in range(20)]
    assert [each.end().how for each in going] == [How.ANSWERED] * 20
    assert pod.accepted == 1


def test_what_is_no_request_harms_nobody(make: Callable[..., Client], pod: Pod) -> None:
    """h2 refuses a field; what its encoder did by then is not known, so the connection takes no new streams."""
    client = make(pod)
    warmed(client, pod)
    find = held(pod)
    neighbour = Ask(Allowed.NO)
    going = client.begin(neighbour)
    find(neighbour.marker)
    assert client.header_error(":bad") == "LocalProtocolError"
    find(neighbour.marker).answer()
    assert going.end().how is How.ANSWERED
    pod.handler = lambda told: told.answer()
    warmed(client, pod)
    assert failures(client) == 0


@pytest.mark.parametrize("kind", [AsyncH2, pytest.param(AsyncH2x2, marks=TWIN)])
def test_a_cancelled_stream_is_nothing_to_its_neighbours(pod: Pod, kind: type[Client]) -> None:
    """Also several at once, and cancelled twice."""
    with kubelb.LoadBalancer(f"static:///{pod.address}") as lb:
        client = kind(lb)
        warmed(client, pod)
        find = held(pod)
        ask = Ask(Allowed.NO)
        going = client.begin(ask)
        told = find(ask.marker)
        client.cancel()
        client.cancel()
        assert going.end() == End(How.CANCELLED, "CancelledError")
        assert until(lambda: told.reset == 8)
        pod.handler = lambda told: told.answer()
        warmed(client, pod)
        assert pod.accepted == 1
        assert failures(client) == 0
        client.close()
