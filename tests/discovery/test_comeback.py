"""Coming back fast, and not all at once: thirty streams of a process and a server that was away, in virtual time."""

import random
import threading
from collections import Counter
from statistics import median

import pytest

from kubelb.discovery.kube.access import Access, Given
from kubelb.discovery.kube.channel import Channel
from kubelb.discovery.kube.comeback import AWAY, PROBE, RAMP, WINDOW, Comeback
from kubelb.discovery.kube.desk import Desk, Seat
from kubelb.discovery.kube.dispatch import Desks
from kubelb.discovery.kube.stream import Stream

from .build import piece, row
from .fleet import Fleet, Hang
from .server import slice_list, status
from .world import MUTE, REFUSED, no, ok

NEVER = 1e9
A1 = piece("a", [row("10.0.0.1")], version=90)


def away(since, until, trouble=REFUSED, *, then=None):
    """A server that is away for a time, whose watches all break when it goes; `then` is what it says at first."""

    def server(asked, number):
        if since <= asked.at < until:
            return trouble
        if then is not None and until <= asked.at < until + then[0]:
            return then[1]
        if asked.watch:
            return since if asked.at < since else NEVER
        return ok(slice_list(A1, version=200 if asked.at >= until else 100))

    return server


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5, 32, 90, 300])
def test_thirty_services_are_right_again_soon_and_do_not_stampede(seconds):
    """The kind: each stream sleeps out its own backoff. One that is answered has the others come, one after the other.

    Right within 3 s in the median and 8 s at most; at most 10 requests a second while the server is away, and 5 in the
    first second after it is back.
    """
    back = 100.0 + seconds
    medians, last = [], []
    for seed in range(20):
        fleet = Fleet(away(100.0, back), seed=seed)
        fleet.run(back + 60)
        right = [next(at for at in member.known if at >= back) - back for member in fleet.members]
        medians.append(median(right))
        last.append(max(right))
        assert fleet.busiest(100.0, back) <= 10
        first = next(at for at, _ in fleet.asked if at >= back)
        assert len(fleet.requests(first, first + 1)) <= 5
        assert fleet.busiest(back, back + 60) <= 1 / RAMP[-1]
        assert len(fleet.requests(back, back + 60)) <= 2 * 30 + 5
        assert all(member.told[-1][1] == "recovered" for member in fleet.members if member.told)
    medians.sort()
    assert medians[len(medians) // 2] <= 3
    assert sorted(last)[int(len(last) * 0.9)] <= 8


def flapping(spans):
    """A server that is away in each of these times."""

    def server(asked, number):
        if any(since <= asked.at < until for since, until in spans):
            return REFUSED
        if asked.watch:
            return min((since for since, _ in spans if since > asked.at), default=NEVER)
        return ok(slice_list(A1, version=100 + int(asked.at)))

    return server


@pytest.mark.slow
@pytest.mark.parametrize("away_for", [8.0, 14.0, 25.0])
def test_a_server_that_flaps_is_found_as_soon(away_for):
    """The kind: turns that the first streams to fail reserve, while few are known to fail, keep the others waiting.

    After some outages within two minutes each stream would wait for half a minute; thirty of them share that wait, and
    not what the first of them made of it.
    """
    spans = [(200.0 + 8 * number, 203.0 + 8 * number) for number in range(5)]
    back = 245.0 + away_for
    medians, last = [], []
    for seed in range(20):
        fleet = Fleet(flapping([*spans, (245.0, back)]), seed=seed)
        fleet.run(back + 60)
        right = [next(at for at in member.known if at >= back) - back for member in fleet.members]
        medians.append(median(right))
        last.append(max(right))
        assert fleet.busiest(245.0, back) <= 10
        first = next(at for at, _ in fleet.asked if at >= back)
        assert len(fleet.requests(first, first + 1)) <= 5
    medians.sort()
    assert medians[len(medians) // 2] <= 3
    assert sorted(last)[int(len(last) * 0.9)] <= 8


@pytest.mark.parametrize(("streams", "each"), [(1, 30), (3, 10)])
@pytest.mark.parametrize("seconds", [5, 32, 300])
def test_services_of_one_namespace_are_right_as_soon(streams, each, seconds):
    """The kind: what streams share is counted in streams, so that services that share one wait for half a minute.

    Thirty services of a process find a server that was away as soon with one watch as with thirty, also where it has
    flapped before; and with no more requests.
    """
    spans = [(200.0 + 8 * number, 203.0 + 8 * number) for number in range(5)]
    back = 245.0 + seconds
    last = []
    for seed in range(10):
        fleet = Fleet(flapping([*spans, (245.0, back)]), services=streams, each=each, seed=seed)
        fleet.run(back + 60)
        last.append(max(next(at for at in member.known if at >= back) - back for member in fleet.members))
        assert fleet.busiest(245.0, back) <= 10
        first = next(at for at, _ in fleet.asked if at >= back)
        assert len(fleet.requests(first, first + 1)) <= 5
    last.sort()
    assert last[len(last) // 2] <= 3
    assert last[int(len(last) * 0.9)] <= 8


@pytest.mark.parametrize("trouble", [REFUSED, no(status(403))])
def test_services_that_share_a_stream_do_not_all_hear_of_each_try(trouble):
    """The kind: tries that are shared out among services, each of which is told of all of them. An outage of a minute
    was 60 000 events with 300 services; a stream of its own would have told each service of 9."""
    services = 300
    fleet = Fleet(away(100.0, 160.0, trouble), services=1, each=services)
    told = Counter()
    desks = Desks("me")

    class Subscriber:
        def failed(self, trouble):
            told["failed"] += 1

        def recovered(self):
            told["recovered"] += 1

    for number in range(services):
        desk = desks.of[str(number)] = Desk(str(number), lambda: fleet.now, "me")
        desk.seats = (Seat(desk, Subscriber(), joined=True),)
    (member,) = fleet.members
    member.failed, member.recovered = desks.failed, desks.recovered
    fleet.run(150.0)
    assert len(fleet.requests(100.0, 150.0)) > 100
    assert services <= told["failed"] <= 9 * services
    fleet.run(170.0)
    assert told["failed"] <= 9 * services
    assert told["recovered"] == services


def test_one_service_alone_waits_its_own_turn():
    """Nobody rouses it; its backoff is client-go's."""
    fleet = Fleet(away(100.0, 105.0), services=1)
    fleet.run(140.0)
    assert next(at for at in fleet.members[0].known if at >= 105) < 115
    assert len(fleet.requests(100, 105)) <= 4


@pytest.mark.parametrize("code", [403, 500, 503])
def test_a_server_that_starts_and_does_not_know_its_roles_yet(code):
    """It answers 403 for eight seconds after half a minute of absence: nobody goes to the cap, no Role is blamed."""
    fleet = Fleet(away(100.0, 132.0, then=(8.0, no(status(code)))))
    fleet.run(240.0)
    right = [next(at for at in member.known if at >= 140) - 140 for member in fleet.members]
    assert median(right) <= 5
    assert max(right) <= 20
    cures = [cure for member in fleet.members for _, kind, cure in member.told if kind == "forbidden"]
    assert all(cure.startswith("it was allowed before") for cure in cures)


def test_a_403_in_a_running_process():
    """A server that answers 403 to everybody for eight seconds (watches cut, too), without having been away."""
    fleet = Fleet(away(100.0, 108.0, no(status(403))))
    fleet.run(200.0)
    right = [next(at for at in member.known if at >= 108) - 108 for member in fleet.members]
    assert median(right) <= 5
    assert max(right) <= 12


def test_a_stream_that_may_never_watch_is_not_roused():
    """A Role without "watch" is nothing that another stream's recovery mends."""

    def server(asked, number):
        if number == 0 and asked.watch:
            return no(status(403))
        if asked.watch:
            return asked.at + 20 if asked.at < 900 else NEVER
        return ok(slice_list(A1))

    fleet = Fleet(server)
    fleet.run(1000.0)
    mine = [at for at, number in fleet.asked if number == 0]
    assert len(mine) <= 1000 / 30 + 20


def test_a_frozen_server_is_not_asked_by_all_at_once():
    """Nothing is answered: each request ends after a while with silence."""
    fleet = Fleet(away(100.0, 160.0, MUTE))
    fleet.run(220.0)
    assert fleet.busiest(100.0, 160.0) <= 10


@pytest.mark.parametrize("lasts", [3, 8, 20])
def test_handshakes_that_are_answered_at_once_are_not_followed_by_as_many_requests(lasts):
    """The kind: a turn is that of a connection, and requests come when they can. Thirty streams hang in handshakes."""
    goes_on = 100.0 + lasts

    def server(asked, number):
        if 100.0 <= asked.at < goes_on:
            return Hang(goes_on) if goes_on < asked.at + 5 else Hang(asked.at + 5, fails=True)
        if asked.watch:
            return 100.0 if asked.at < 100.0 else NEVER
        return ok(slice_list(A1, version=100 + int(asked.at)))

    for seed in range(5):
        fleet = Fleet(server, seed=seed)
        fleet.run(goes_on + 20)
        assert fleet.busiest(100.0, goes_on) == 0
        first = next(at for at, _ in fleet.asked if at >= goes_on)
        assert first <= goes_on + 2.5
        assert len(fleet.requests(first, first + 1)) <= 5
        right = [next(at for at in member.known if at >= goes_on) - goes_on for member in fleet.members]
        assert median(right) <= 3
        assert max(right) <= 8


@pytest.mark.parametrize("hangs", [True, False])
@pytest.mark.parametrize("later", [0.2, 0.6, 1.0, 1.4, 2.0])
def test_a_server_that_goes_away_again_does_not_see_everybody(later, hangs):
    """The kind: turns that were given out while it answered are used when it does not any more."""
    spans = [(100.0, 132.0), (132.0 + later, 160.0)]

    def server(asked, number):
        if spans[1][0] <= asked.at < spans[1][1] and hangs:
            return Hang(asked.at + 5, fails=True)
        return flapping(spans)(asked, number)

    for seed in range(3):
        fleet = Fleet(server, seed=seed)
        fleet.run(180.0)
        begun = [at for at in fleet.dialled if spans[1][0] <= at < spans[1][1]]
        assert max((sum(first <= at < first + 1 for at in begun) for first in begun), default=0) <= 10
        assert max(next(at for at in member.known if at >= 160) for member in fleet.members) - 160 <= 8


def test_a_request_that_was_under_way_when_the_server_came_back_does_not_sleep():
    """It finds another epoch than it noted, whichever was first: its failure, or the other's answer."""
    now = [0.0]
    comeback = Comeback(lambda: now[0])
    noted = comeback.epoch
    comeback.fails(1, noted, away=True)
    comeback.answered(1)
    assert comeback.epoch != noted
    opened = comeback.epoch
    comeback.fails(2, noted, away=True)  # old news: the ramp goes on
    comeback.answered(2)
    assert comeback.epoch == opened
    comeback.fails(2, opened, away=True)  # away again
    comeback.answered(2)
    assert comeback.epoch == opened + 1


def test_turns():
    """All well: no wait at all. Away: four a second. Back: more each second, then as many as there are."""
    now = [0.0]
    comeback = Comeback(lambda: now[0])
    assert [comeback.turn(n, False) for n in range(3)] == [0, 0, 0]
    assert [comeback.turn(n, True) for n in range(3)] == [0, AWAY, 2 * AWAY]
    now[0] = 10.0
    comeback.answered(1)
    assert comeback.epoch == 0  # nobody's request had failed: nobody sleeps
    assert sum(comeback.turn(n, False) < 1 for n in range(20)) == 2
    now[0] = 10.0 + len(RAMP)
    assert [comeback.turn(n, False) for n in range(3)] == [0, 0, 0]


def test_turns_that_are_lost():
    """What was reserved for soon holds while the server answers, and four a second whatever it does."""
    now = [0.0]
    comeback = Comeback(lambda: now[0])
    comeback.answered("first")
    now[0] = 1.5
    turns = [comeback.turn(n, True) for n in range(2 * WINDOW)]
    assert turns[-1] < 1
    assert [comeback.goes(n, True) for n in range(2 * WINDOW)] == [True] * WINDOW + [False] * WINDOW
    comeback.heard(0)
    before = comeback.turn("late", True)
    assert comeback.turn("later", True) - before < AWAY
    comeback.fails(1, comeback.epoch, away=True)
    assert not comeback.goes("late", True)
    again = comeback.turn("late", True)
    assert comeback.turn("later", True) - again == AWAY
    assert comeback.goes("late", True)
    comeback.leave(list, "late")
    assert comeback.goes("later", True)


def test_who_left_is_not_roused():
    """As when its stream has ended."""
    comeback = Comeback(lambda: 0.0)
    calls = []

    def rouse():
        calls.append(1)

    comeback.join(rouse)
    comeback.fails(1, 0, away=True)
    comeback.answered(1)
    assert calls == [1]
    comeback.leave(rouse, 1)
    comeback.fails(2, 1, away=True)
    comeback.answered(2)
    assert calls == [1]


def test_a_stream_that_was_stopped_while_it_failed_is_forgotten(monkeypatch):
    """The kind: who leaves from another thread, while its own goes on for a moment. What it says then is kept for ever,
    and all others wait for turns although all is well."""
    comeback = Comeback(lambda: 0.0)
    stream = Stream(
        Channel(threading.Lock(), lambda: 0.0),
        "prod",
        "reviews",
        Given(Access("https://10.96.0.1")),
        clock=lambda: 0.0,
        rng=random.Random(7),
        comeback=comeback,
        connect_timeout=1.0,
        read_timeout=1.0,
    )

    def drive(_):
        stream.stop(wait=False)
        comeback.fails(stream._reflector.recovery, 0, away=True)
        comeback.goes(stream._reflector.recovery, True)

    monkeypatch.setattr(stream, "_drive", drive)
    stream._run()
    assert [comeback.turn(other, False) for other in ("one", "another")] == [0, 0]
    assert not comeback._asking


def test_waits_are_shared_evenly():
    """One alone waits as its backoff says; ten that would wait for 30 s each ask every 3 s; many, 3 times a second."""
    comeback = Comeback(lambda: 0.0)
    comeback.fails(0, 0, away=True)
    assert comeback.again(30.0) == 30.0
    for stream in range(10):
        comeback.fails(stream, 0, away=True)
    assert [comeback.again(30.0) for _ in range(4)] == [3.0, 6.0, 9.0, 12.0]
    comeback = Comeback(lambda: 0.0)
    for stream in range(100):
        comeback.fails(stream, 0, away=True)
    assert comeback.again(1.0) == comeback.again(1.0) - PROBE
    comeback = Comeback(lambda: 0.0)
    comeback.fails(0, 0, away=True, services=10)
    assert comeback.again(30.0) == 3.0
