"""A desk, and the desks of a stream, without a stream: who is told what, and what is said twice."""

import threading

import pytest

from kubelb.discovery.kube.channel import Channel
from kubelb.discovery.kube.desk import LOOSE, Desk, Seat
from kubelb.discovery.kube.diagnose import Code, Trouble
from kubelb.discovery.kube.dispatch import Desks
from kubelb.discovery.kube.query import LONGEST, Query
from kubelb.discovery.kube.reducer import Reducer
from kubelb.discovery.kube.scope import Wide
from kubelb.discovery.kube.steps import Reply
from kubelb.discovery.kube.versions import older

from .build import authorities, piece, row, wire
from .server import bookmark, event, slice_list, status
from .world import Wait, World, line, ok

ME, OTHER = "me", "other"


class Told:
    """A subscriber that writes down what it is told."""

    def __init__(self, service="reviews"):
        self.words = []
        self.reducer = Reducer(service, "prod", "http", hold=0)

    def __getattr__(self, name):
        return lambda *args: self.words.append(name)

    def welcome(self, slices, heard):
        self.words.append("welcome")
        self.reducer.replace(slices, 0.0)

    def replace(self, slices, unread, version):
        self.words.append("replace")
        self.reducer.replace(slices, 0.0, unread)

    def upsert(self, each):
        self.words.append("upsert")
        self.reducer.upsert(each, 0.0)

    def delete(self, each):
        self.words.append("delete")
        self.reducer.delete(each, 0.0)

    @property
    def ips(self):
        snapshot = self.reducer.snapshot(1.0) or self.reducer._last
        return [each.split(":")[0] for each in authorities(snapshot.endpoints)]


def desk_of(service, owner=ME, joined=True):
    desk = Desk(service, lambda: 5.0, owner)
    told = Told(service)
    desk.seats = (Seat(desk, told, joined=joined),)
    return desk, told


def slice_of(name, ip, version, service="reviews"):
    return wire(piece(name, [row(ip)], version=version, service=service))


def test_what_was_gone_before_the_list_is_not_said_again():
    """A wider watch begins before the newcomer's list, and replays a slice that was made and deleted by then."""
    desk, told = desk_of("reviews")
    desk.replace(ME, [slice_of("a", "10.0.0.1", 110)], frozenset(), "120")
    desk.upsert(ME, slice_of("gone", "10.0.0.9", 105))
    desk.upsert(ME, slice_of("a", "10.0.0.7", 108))
    desk.delete(ME, slice_of("gone", "10.0.0.9", 112))
    assert told.words == ["replace"]
    assert told.ips == ["10.0.0.1"]
    desk.upsert(ME, slice_of("b", "10.0.0.2", 121))
    assert told.ips == ["10.0.0.1", "10.0.0.2"]


def test_what_was_deleted_before_a_latecomer_came_is_not_said_again_to_it():
    """The kind: one reducer remembers the deletion, another never knew of the slice."""
    desk, told = desk_of("reviews")
    desk.replace(ME, [slice_of("a", "10.0.0.1", 110)], frozenset(), "110")
    desk.upsert(ME, slice_of("b", "10.0.0.2", 111))
    desk.delete(ME, slice_of("b", "10.0.0.2", 112))
    late = Told()
    seat = Seat(desk, late, joined=False)
    desk.seats += (seat,)
    seat.join()
    desk.upsert(ME, slice_of("b", "10.0.0.2", 111))
    desk.delete(ME, slice_of("a", "10.0.0.1", 105))
    assert late.words == ["welcome"]
    assert late.ips == told.ips == ["10.0.0.1"]


def test_only_the_slices_that_changed_last_are_kept_as_they_came():
    """The rest is packed, and a latecomer is told of both; deletions and lists between leave nothing behind."""
    desk, told = desk_of("reviews")
    desk.replace(ME, [slice_of("a", "10.0.1.1", 110)], frozenset(), "110")
    for n in range(1, 3 * LOOSE):
        desk.upsert(ME, slice_of(f"s{n}", f"10.0.0.{n}", 110 + n))
        if n % 5 == 0:
            desk.delete(ME, slice_of(f"s{n - 1}", f"10.0.0.{n - 1}", 200 + n))
        assert sum(not isinstance(kept, bytes) for kept in desk._slices.values()) <= LOOSE
    late = Told()
    seat = Seat(desk, late, joined=False)
    desk.seats += (seat,)
    seat.join()
    assert late.words == ["welcome"]
    assert late.ips == told.ips
    assert len(late.ips) == 3 * LOOSE - 4


def test_a_mistake_of_ours_is_over_with_the_next_list():
    """Nobody says so; or the stream would count as failing for ever."""
    desks, told = desks_of("reviews")
    desks.failed(Trouble(Code.INTERNAL, "kubelb made a mistake"))
    desks.replace([], frozenset(), "110")
    assert desks.trouble is None
    assert desks.of["reviews"].trouble is None
    assert told["reviews"].words == ["failed", "replace"]


def test_who_is_not_its_owner_is_not_heard():
    """Whatever a stream still had in hand when another took its desk over."""
    desk, told = desk_of("reviews")
    desk.replace(ME, [slice_of("a", "10.0.0.1", 110)], frozenset(), "110")
    desk.owner = OTHER
    desk.upsert(ME, slice_of("b", "10.0.0.2", 111))
    desk.delete(ME, slice_of("a", "10.0.0.1", 112))
    desk.replace(ME, [], frozenset(), "113")
    desk.failed(ME, Trouble(Code.BROKEN, "broken"))
    desk.skipped(ME, "it", "is odd")
    desk.heard(ME)
    assert told.words == ["replace"]
    desk.upsert(OTHER, slice_of("b", "10.0.0.2", 111))
    assert told.ips == ["10.0.0.1", "10.0.0.2"]


def test_only_who_was_told_of_trouble_is_told_of_its_end():
    """A service that came to a failing stream's neighbour has nothing to recover from."""
    desk, told = desk_of("reviews")
    desk.recovered(ME)
    assert told.words == []
    desk.failed(ME, Trouble(Code.BROKEN, "broken"))
    desk.recovered(ME)
    desk.recovered(ME)
    assert told.words == ["failed", "recovered"]


def test_a_latecomer_sees_what_could_not_be_read_as_it_was():
    """A list with slices that make no sense leaves those as they are known, for latecomers too."""
    desk, _ = desk_of("reviews")
    desk.replace(ME, [slice_of("a", "10.0.0.1", 101), slice_of("b", "10.0.0.2", 102)], frozenset(), "110")
    desk.replace(ME, [], frozenset({"a"}), "120")
    late = Told()
    seat = Seat(desk, late, joined=False)
    desk.seats += (seat,)
    desk.upsert(ME, slice_of("c", "10.0.0.3", 121))
    assert late.words == []
    seat.join()
    seat.join()
    assert late.words == ["welcome"]
    assert late.ips == ["10.0.0.1", "10.0.0.3"]


def desks_of(*services):
    desks = Desks(ME)
    told = {}
    for service in services:
        desk, told[service] = desk_of(service)
        desks.of[service] = desk
    desks.listing = services
    return desks, told


def test_a_list_is_shared_out_by_label():
    """Each service is told its own slices; one that was not asked about is told nothing."""
    desks, told = desks_of("reviews", "ratings")
    desks.of["late"], told["late"] = desk_of("late")
    slices = [
        slice_of("a", "10.0.0.1", 101),
        slice_of("b", "10.0.0.2", 102, "ratings"),
        slice_of("c", "1.1.1.1", 103, "x"),
    ]
    desks.replace(slices, frozenset(), "110")
    assert [told[each].ips for each in ("reviews", "ratings", "late")] == [["10.0.0.1"], ["10.0.0.2"], []]
    assert told["late"].words == []
    assert desks.unlisted() == ("late",)


def test_a_slice_moves_with_its_label():
    """MODIFIED, of which only the new service is named; and DELETED, with whatever label it had."""
    desks, told = desks_of("reviews", "ratings")
    desks.replace([slice_of("a", "10.0.0.1", 101)], frozenset(), "110")
    desks.upsert(slice_of("a", "10.0.0.1", 111, "ratings"))
    assert (told["reviews"].ips, told["ratings"].ips) == ([], ["10.0.0.1"])
    desks.upsert(slice_of("a", "10.0.0.1", 112))
    assert (told["reviews"].ips, told["ratings"].ips) == (["10.0.0.1"], [])
    desks.delete(slice_of("a", "10.0.0.1", 113, "ratings"))
    assert (told["reviews"].ips, told["ratings"].ips) == ([], [])


def test_a_slice_that_moved_before_its_new_service_was_listed_leaves_the_old_one():
    """The kind: what one desk knows already decides what another is told. The list of a newcomer is younger than the
    watch, which replays the move: the service that was left would keep the pods until its next list."""
    desks, told = desks_of("reviews", "ratings")
    desks.of["reviews"].replace(ME, [slice_of("a", "10.0.0.1", 5)], frozenset(), "10")
    desks.of["ratings"].replace(ME, [slice_of("a", "10.0.0.1", 15, "ratings")], frozenset(), "20")
    desks.upsert(slice_of("a", "10.0.0.1", 15, "ratings"))
    assert not desks.of["reviews"].knows("a")
    assert (told["reviews"].ips, told["ratings"].ips) == ([], ["10.0.0.1"])


def test_a_slice_without_a_label_is_odd_to_all():
    """And ends where it was known."""
    desks, told = desks_of("reviews", "ratings")
    desks.replace([slice_of("a", "10.0.0.1", 101)], frozenset(), "110")
    desks.upsert(slice_of("a", "10.0.0.1", 111, ""))
    assert told["reviews"].ips == told["ratings"].ips == []
    assert all("no service label" in each.reducer.skipped[0][1] for each in told.values())


def test_selectors():
    """One by name, some as a set in one order, and of very many everything that belongs to a service."""

    def selector(*services):
        return World(lambda asked: None, services=services), Query("prod", services)._selector()

    assert selector("b")[1] == "kubernetes.io/service-name=b"
    assert selector("b", "a")[1] == "kubernetes.io/service-name in (a,b)"
    many = [f"service-{n:04}" for n in range(LONGEST // 13)]
    assert selector(*many)[1].startswith("kubernetes.io/service-name in (service-0000,")
    assert selector(*many, *"abcdefghijkl")[1] == "kubernetes.io/service-name"


def test_the_same_failure_is_told_now_and_then():
    """Another kind at once, other words soon, the same again ever more seldom; and after its end it is news."""
    now = [0.0]
    told, desk = Told(), Desk("reviews", lambda: now[0], ME)
    desk.seats = (Seat(desk, told, joined=True),)

    def tells(at, code=Code.UNREACHABLE, reason="refused"):
        now[0] = at
        before = len(told.words)
        desk.failed(ME, Trouble(code, reason))
        return len(told.words) > before

    assert [at for at in range(130) if tells(float(at))] == [0, 1, 3, 7, 14, 27, 53, 83, 113]
    assert tells(130.0, Code.FORBIDDEN)
    assert tells(130.5, reason="timed out")
    assert not tells(130.6, reason="refused")
    assert [tells(140.0 + n / 10, Code.FORBIDDEN, f"words {n}") for n in range(10)].count(True) == 2
    flaps = [tells(150.0 + n / 10, (Code.FORBIDDEN, Code.UNREACHABLE)[n % 2]) for n in range(8)]
    assert flaps == [True, True] + [False] * 6
    assert desk.trouble.code is Code.UNREACHABLE
    desk.recovered(ME)
    assert tells(150.8)


# -- what a reflector makes of a scope


class Neighbours:
    """A scope that widens its watch once, and takes over a service that was told of trouble, or of none."""

    def __init__(self, version, known, trouble=None):
        self.wide = Wide(("reviews", "ratings"), version, known, frozenset({"ratings"}))
        self.trouble = trouble
        self.services = ("reviews",)
        self.put_aside = 0
        self.seen = None
        self.cursor = lambda: None

    def all(self):
        return self.services

    unlisted = staticmethod(tuple)
    newest = staticmethod(lambda: "")
    settle = staticmethod(lambda: 0.0)
    arrived = staticmethod(lambda: False)

    def widen(self, version, known):
        return (
            self.wide if self.services == ("reviews",) and not self.put_aside else Wide(self.services, version, known)
        )

    def adopt(self, wide):
        self.seen = self.cursor()
        self.services = wide.services
        return self.trouble

    def aside(self):
        self.put_aside += 1


def world_of(scope, *watches):
    left = list(watches)

    def server(asked):
        if not asked.watch:
            return ok(slice_list(piece("a", [row("10.0.0.1")], version=90), version=200))
        return left.pop(0) if len(left) > 1 else left[0]

    world = World(server)
    world.reflector._scope = scope
    scope.cursor = lambda: world.reflector.cursor
    return world


LONG = [Wait(400)]


def test_the_wider_watch_begins_where_nobody_misses_anything():
    """At the oldest of the versions, and goes on from there."""
    world = world_of(Neighbours("150", 0.0), [line(event("ADDED", piece("b", version=160))), Wait(400)], LONG)
    assert world.run(requests=3) == ["list 0", "watch 150", "watch 160"]
    assert world.asked[1].query["labelSelector"] == "kubernetes.io/service-name in (ratings,reviews)"
    assert world.told == ["replace 1", "upsert b"]


def test_who_looks_while_it_takes_over_sees_the_older_version():
    """The kind: a third stream that widens at that moment would begin at a version that the services have not come to,
    and what happened to them before it would be lost."""
    scope = Neighbours("150", 0.0)
    world_of(scope, LONG).run(requests=3)
    assert scope.seen == "150"


def test_a_neighbour_in_trouble_has_not_recovered_because_a_watch_was_accepted():
    """Its version is old: what it missed is listed, and then it is well."""
    trouble = Trouble(Code.BROKEN, "broken")
    world = world_of(Neighbours("150", -60.0, trouble), LONG)
    assert world.run(requests=4) == ["list 0", "watch 150", "list -", "watch 200"]
    assert world.told == ["replace 1", "replace 1", "recovered"]
    assert world.asked[2].query["labelSelector"] == "kubernetes.io/service-name in (ratings,reviews)"


def test_a_neighbour_whose_trouble_is_young_is_well_when_the_watch_is_accepted():
    """As a watch of its own would be."""
    world = world_of(Neighbours("150", -5.0, Trouble(Code.BROKEN, "broken")), LONG)
    assert world.run(requests=3) == ["list 0", "watch 150", "watch 150"]
    assert world.told == ["replace 1", "recovered"]


@pytest.mark.parametrize("status", [403, 410, 414, 500])
def test_a_wider_watch_that_is_refused_is_followed_by_its_own(status):
    """At once, from its own version."""
    scope = Neighbours("150", 0.0)
    world = world_of(scope, Reply(status), LONG)
    assert world.run(requests=3) == ["list 0", "watch 150", "watch 200"]
    assert world.asked[2].query["labelSelector"] == "kubernetes.io/service-name=reviews"
    assert (world.told, scope.put_aside, world.asked[2].at) == (["replace 1"], 1, world.asked[1].at)


def test_a_list_is_not_older_than_what_any_of_the_services_knows():
    """The kind: the version where a watch begins, the oldest of all, is taken for what is known. The watch is too old,
    and a server that lags lists what others know to be gone."""
    expired = {"type": "ERROR", "object": status(410, "Expired")}
    lists = [200, 160, 210]

    def server(asked):
        if not asked.watch:
            return ok(slice_list(piece("a", [row("10.0.0.1")], version=90), version=lists.pop(0)))
        return LONG if len(lists) < 2 else [line(expired)]

    world = World(server)
    world.reflector._scope = Neighbours("150", 0.0)
    asked = world.run(requests=5)
    assert asked[:4] == ["list 0", "watch 150", "list 200+", "list -"]
    assert [told for told in world.told if told.startswith("replace")] == ["replace 1", "replace 1"]
    assert asked[4] == "watch 210"


def test_a_newcomer_is_not_listed_from_before_what_its_neighbours_know():
    """The kind: a first list that is served by a server that lags becomes the version at which the watch of all begins
    anew."""
    channel = channel_of()
    neighbour = Stream(channel, "b")
    desk = channel.desks["b"]
    assert channel.newest() == ""
    desk.replace(neighbour, [slice_of("b", "10.0.0.1", 90, "b")], frozenset(), "95")
    desk.upsert(neighbour, slice_of("b", "10.0.0.2", 100, "b"))
    assert channel.newest() == "100"
    desk.delete(neighbour, slice_of("b", "10.0.0.2", 101, "b"))
    assert channel.newest() == "101"
    scope = Neighbours("101", 0.0)
    scope.newest = channel.newest
    assert world_of(scope, LONG).run(requests=1) == ["list 101+"]


# -- what a channel decides


class Stream:
    """As much of one as a channel sees."""

    def __init__(self, channel, *services, cursor="100", known=0.0, settled=True):
        self.desks = Desks(self)
        self.cursor, self.known, self.settled = cursor, known, settled
        self.stopped = False
        for service in services:
            self.desks.of[service] = channel.desks[service] = Desk(service, lambda: 0.0, self)
        channel.streams += (self,)

    def stop(self, *, wait):
        self.stopped = True


def channel_of():
    return Channel(threading.Lock(), lambda: 0.0)


def test_only_neighbours_that_are_well_are_taken_in():
    """Of the others nobody knows where to begin."""
    channel = channel_of()
    me = Stream(channel, "a", cursor="200")
    Stream(channel, "b", cursor="150", known=-3.0)
    Stream(channel, "c", cursor="90", settled=False)
    wide = channel.widen(me, "200", 0.0)
    assert wide == Wide(("a", "b"), "150", -3.0, frozenset({"b"}))
    channel.aside()
    assert channel.widen(me, "200", 0.0) == Wide(("a",), "200", 0.0)


def test_versions_that_are_no_numbers_are_not_mixed():
    """Which of two is older cannot be told."""
    channel = channel_of()
    me = Stream(channel, "a", cursor="zz")
    Stream(channel, "b", cursor="aa")
    assert channel.widen(me, "zz", 0.0).foreign == frozenset()


def test_a_neighbour_that_has_changed_meanwhile_is_left_alone():
    """It failed, or went back to an older history; a service that was closed and opened again is another one."""
    channel = channel_of()
    me, b, c, d = (Stream(channel, name) for name in "abcd")
    wide = channel.widen(me, "100", 0.0)
    b.settled = False
    c.cursor = "50"
    assert older(c.cursor, wide.version)
    assert channel.adopt(me, wide) is None
    assert (set(me.desks.of), b.stopped, c.stopped, d.stopped) == ({"a", "d"}, False, False, True)
    assert channel.desks["d"].owner is me
    assert channel.streams == (me, b, c)


def test_who_was_taken_over_takes_nobody_over():
    """Two watches that were widened at the same time: the first that is accepted ends the other."""
    channel = channel_of()
    one, two = Stream(channel, "a"), Stream(channel, "b")
    wides = channel.widen(one, "100", 0.0), channel.widen(two, "100", 0.0)
    channel.adopt(one, wides[0])
    channel.adopt(two, wides[1])
    assert (set(one.desks.of), set(two.desks.of)) == ({"a", "b"}, set())
    assert (one.stopped, two.stopped) == (False, True)


def test_trouble_that_came_while_it_was_taken_over_is_known():
    """It was told by the old owner, in the moment between."""
    channel = channel_of()
    me, other = Stream(channel, "a"), Stream(channel, "b")
    wide = channel.widen(me, "100", 0.0)
    channel.desks["b"].failed(other, Trouble(Code.BROKEN, "broken"))
    assert channel.adopt(me, wide).reason == "broken"


def test_a_stream_that_recovers_while_a_newcomer_comes():
    """The kind: what is read before it is stored is out of date when it is. The service would be failing for ever, and
    its watch is well."""
    channel = channel_of()
    stream = Stream(channel, "a")
    stream.last_arrival = 0.0
    recovering = []

    class Recovers(Desks):
        @property
        def trouble(self):
            before, self._trouble = self._trouble, None
            if before is not None:
                recovering.append(threading.Thread(target=self.recovered))
                recovering[0].start()
                recovering[0].join(0.1)  # it ends, or waits for us
            return before

        @trouble.setter
        def trouble(self, trouble):
            self._trouble = trouble

    stream.desks = Recovers(stream)
    stream.desks.trouble = Trouble(Code.BROKEN, "broken")
    seat = channel.open("b", Told("b"), stream)
    recovering[0].join(5)
    assert not recovering[0].is_alive()
    assert seat.desk.trouble is None
    seat.join()
    assert seat.subscriber.words == []


def test_a_bookmark_counts_for_all():
    """It has no service."""
    world = World(lambda asked: [line(bookmark(300)), Wait(400)] if asked.watch else ok(slice_list(version=200)))
    assert world.run(requests=3)[2] == "watch 300"
