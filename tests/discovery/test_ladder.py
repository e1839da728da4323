"""The ladder over sources that a test moves by hand: steps, events, versions, and what stays of an endpoint."""

import threading

import pytest

from kubelb.core import Balancer
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, SourceChanged
from kubelb.discovery.ladder.choice import LATE, PATIENCE, STRANGER
from kubelb.discovery.ladder.source import LOOK, RETRY, Ladder
from kubelb.model import Changes, Endpoint, Health, Snapshot


class Source:
    """A Discovery whose knowledge is the test's."""

    def __init__(self, name, emit):
        self.name, self.emit = name, emit
        self.news = None
        self.version = 0
        self.calls = []
        self.error = ""
        self.due = None

    def start(self, notify):
        self.notify = notify
        self.calls.append("start")

    def poll(self, now):
        news, self.news = self.news, None
        return news, self.due

    def health(self):
        return Health(self.name, synced=self.version > 0, error=self.error, cure="cure" if self.error else "")

    def resync_now(self):
        self.calls.append("resync")

    def stop(self):
        self.calls.append("stop")

    def says(self, *endpoints, parked=(), changes=None, problem=""):
        self.version += 1
        self.news = Snapshot(self.version, endpoints, tuple(parked), changes=changes, problem=problem)

    def fails(self, kind="unreachable"):
        self.error = f"{self.name} is away"
        self.emit(DiscoveryFailed(self.name, kind, self.error, "cure"))

    def recovers(self):
        self.error = ""
        self.emit(DiscoveryRecovered(self.name, 1.0))


class World:
    def __init__(self, *names, missing=()):
        self.now = 1000.0
        self.reached = None
        self.sources = {}
        self.events = []

        def maker(name):
            def make(emit):
                if name in missing:
                    raise ImportError(name="dnspython")
                return self.sources.setdefault(name, []).append(Source(name, emit)) or self.sources[name][-1]

            return make

        rungs = [(name, maker(name)) for name in names or ("slices", "srv")]
        self.ladder = Ladder(
            "web.prod:http",
            rungs,
            clock=lambda: self.now,
            emit=self.events.append,
            reached=lambda: self.reached,
        )
        self.ladder.start(lambda: None)

    def __getitem__(self, name):
        return self.sources[name][-1]

    def poll(self, after=0.0):
        """Until nothing is due now."""
        self.now += after
        news = None
        while True:
            snapshot, due = self.ladder.poll(self.now)
            news = snapshot or news
            if due is None or due > self.now:
                self.due = due
                return news

    @property
    def steps(self):
        return [(event.source, event.before, event.kind) for event in self.events if isinstance(event, SourceChanged)]


def pod(number, **more):
    return Endpoint(f"10.0.0.{number}", 8080, **more)


def test_the_first_rung_alone_while_it_works():
    """No other source is built, nothing is told."""
    world = World()
    world["slices"].says(pod(1), pod(2))
    assert world.poll().endpoints == (pod(1), pod(2))
    assert list(world.sources) == ["slices"]
    assert world.events == []
    health = world.ladder.health()
    assert (health.source, health.fallback, health.error) == ("slices", "", "")
    assert "on slices" in repr(world.ladder)


def test_down_at_the_start_and_up_again():
    """A failure, or silence, has the next one tried; the way up is taken at once, and the lower one ends."""
    for failure in ("forbidden", None):
        world = World()
        world.poll()
        if failure:
            world["slices"].fails(failure)
            world.poll()
        else:
            assert world.due == world.now + LATE
            world.poll(LATE)
        assert world["srv"].calls == ["start"]
        assert world.ladder.health().source == "slices"
        assert not world.ladder.health().synced
        world["srv"].says(pod(1))
        assert world.poll().endpoints == (pod(1),)
        kind = failure or "late"
        assert world.steps == [("srv", "slices", kind)]
        assert world.ladder.health().fallback.startswith(f"{kind}: ")
        if failure:
            world["slices"].recovers()
        world["slices"].says(pod(1, uid="a"), pod(2, uid="b"))
        assert world.poll().endpoints == (pod(1, uid="a"), pod(2, uid="b"))
        assert world.steps[1:] == [("slices", "srv", "recovered")]
        assert world["srv"].calls == ["start", "stop"]
        assert world.ladder.health().fallback == ""


def test_down_later_after_a_while_and_up_again_with_no_news():
    """A short outage moves nobody; a long one does; recovered without a change, the last slices are in use again."""
    world = World()
    world["slices"].says(pod(1, uid="a"), pod(2, uid="b"))
    world.poll()
    world["slices"].fails()
    assert world.poll() is None
    assert world.due == world.now + LOOK
    world["slices"].recovers()
    assert world.poll(PATIENCE) is None
    assert list(world.sources) == ["slices"]
    world["slices"].fails()
    world.poll(1.0)
    world["slices"].fails()  # again: since the first time
    assert world.poll(PATIENCE - 1.0) is None
    world["srv"].says(pod(2), pod(3))
    assert [endpoint.ip for endpoint in world.poll().endpoints] == ["10.0.0.2", "10.0.0.3"]
    assert world.steps == [("srv", "slices", "unreachable")]
    world["slices"].recovers()
    assert world.poll().endpoints == (pod(1, uid="a"), pod(2, uid="b"))
    assert world.steps[1:] == [("slices", "srv", "recovered")]


def test_a_missing_package_is_a_reason():
    """A rung that cannot be built is one that fails, with the next one tried at once."""
    world = World("slices", "srv", "a", missing=("slices", "srv"))
    world.poll()
    assert "dnspython is not installed" in world.ladder.health().error
    world["a"].says(pod(1))
    world.poll()
    assert world.steps == [("a", "slices", "missing-extra")]
    assert world.ladder.health().cure
    world.ladder.resync_now()
    assert world["a"].calls == ["start", "resync"]
    world.ladder.stop()
    assert world["a"].calls[-1] == "stop"


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")])
def test_a_rung_that_cannot_be_started_for_a_moment(error, monkeypatch):
    """It is started again a second later, whichever rung it is, and told each time; nothing else is lost."""

    def full(self, notify):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Source, "start", full)
        world = World()
        assert [event.kind for event in world.events] == ["internal"]
        world.poll()
        assert world.due == world.now + RETRY
    world.poll(RETRY)
    assert world["slices"].calls == ["start"]
    with monkeypatch.context() as patch:
        patch.setattr(Source, "start", full)
        world["slices"].fails()
        world.poll()
        assert world.due == world.now + RETRY
        assert str(error) in world.events[-1].reason
    world.poll(RETRY)
    world["srv"].says(pod(1))
    assert world.poll().endpoints == (pod(1),)


def test_three_rungs():
    """SRV that knows nothing is no answer; A records below it are."""
    world = World("slices", "srv", "a")
    world.poll()
    world["slices"].fails("unauthorized")
    world.poll()
    world["srv"].says(problem="DNS knows no such name")
    assert world.poll() is None
    world["a"].says(pod(1))
    world.poll()
    assert world.steps == [("a", "slices", "unauthorized")]
    world["srv"].says(pod(1))
    world.poll()
    assert world.steps[1:] == [("srv", "a", "recovered")]
    assert world["a"].calls == ["start", "stop"]
    world["srv"].fails()
    world.poll(PATIENCE)
    world["a"].says(pod(1))
    world.poll()
    assert world.steps[2:] == [("a", "srv", "unreachable")]
    assert len(world.sources["a"]) == 2


def test_an_empty_rung_that_was_in_use():
    """Its emptiness is told where nothing better is known, with its reason."""
    world = World()
    world.poll()
    world["slices"].fails()
    world.poll()
    world["srv"].says(pod(1))
    world.poll()
    world["srv"].says(problem="all gone")
    snapshot = world.poll()
    assert (snapshot.endpoints, snapshot.problem) == ((), "all gone")


def test_a_virtual_address_does_not_replace_pods_soon():
    """Pods that were known a moment ago are better than a ClusterIP; after five minutes they are not."""
    world = World()
    world["slices"].says(pod(1))
    world.poll()
    world["slices"].fails()
    world.poll()
    world.poll(PATIENCE)
    world["srv"].says(Endpoint("10.96.0.1", 80))
    assert world.poll() is None
    assert "DNS gives 10.96.0.1:80, which was no pod of this service" in world.ladder.health().error
    assert world.poll(STRANGER - PATIENCE).endpoints == (Endpoint("10.96.0.1", 80),)


def test_events_of_a_rung_bear_the_ladders_name():
    """And those of one that was stopped are not heard."""
    world = World()
    world.poll()
    world["slices"].fails()
    world.poll()
    assert world.events[0] == DiscoveryFailed("web.prod:http", "unreachable", "slices is away", "cure")
    old = world["srv"]
    world["slices"].recovers()
    world["slices"].says(pod(1))
    world.poll()
    count = len(world.events)
    old.fails()
    world.poll()
    assert len(world.events) == count
    assert len(world.sources["srv"]) == 1


def test_health_tells_all_that_is_wrong():
    """Nothing in use: every rung's trouble. One in use: that of the rungs above it, and its own."""
    world = World()
    world.poll()
    world["slices"].fails()
    world.poll()
    world["srv"].fails()
    world.poll()
    assert world.ladder.health().error == "slices is away; srv is away"
    assert world.ladder.health().cure == "cure"
    world["srv"].recovers()
    world["srv"].says(pod(1))
    world.poll()
    assert world.ladder.health().error == "slices is away"
    assert Ladder("a.b:c", [("slices", lambda emit: Source("slices", emit))]).health().error == "not started"


def test_changes_are_handed_on():
    """What slices say has changed is rebased on the ladder's versions; after a step there is no such hint."""
    world = World()
    world["slices"].says(pod(1))
    first = world.poll()
    world["slices"].says(pod(1), pod(2), changes=Changes(1, used=(pod(2),)))
    second = world.poll()
    assert second.changes == Changes(first.version, used=(pod(2),))
    world["slices"].fails()
    world.poll()
    world.poll(PATIENCE)
    world["srv"].says(pod(1))
    world.poll()
    world["slices"].recovers()
    world["slices"].says(pod(2), changes=Changes(2, removed=(pod(1),)))
    assert world.poll().changes is None
    world["slices"].says(changes=Changes(3, removed=(pod(2),)))
    last = world.poll()
    assert last.changes == Changes(last.version - 1, removed=(pod(2),))


def test_common_endpoints_keep_their_state_and_what_slices_knew_of_them():
    """The same state down and up; a pod that took over another's address meanwhile starts anew."""
    world = World()
    balancer = Balancer("round_robin", slow_start=None)
    facts = {"zone": "z", "node": "n", "pod": "web-1", "zone_hints": ("z",)}
    world["slices"].says(pod(1, uid="a", **facts), pod(2, uid="b"), parked=[pod(3, uid="c", ready=False)])
    balancer.update(world.poll())
    lease = balancer.pick()
    states = {state.endpoint.address: state for state in balancer.states()}
    world["slices"].fails()
    world.poll()
    world.poll(PATIENCE)
    world["srv"].says(pod(1, weight=0.5), pod(3), pod(4))
    difference = balancer.update(world.poll())
    assert [state.endpoint.ip for state in difference.added] == ["10.0.0.4"]
    assert [state.endpoint.ip for state in difference.removed] == ["10.0.0.2"]
    after = {state.endpoint.address: state for state in balancer.states()}
    assert after[pod(1).address] is states[pod(1).address]
    assert after[pod(1).address].endpoint == pod(1, uid="a", weight=0.5, **facts)
    assert after[pod(3).address].endpoint == pod(3, uid="c")
    assert lease.state in states.values()
    world["slices"].recovers()
    world["slices"].says(pod(1, uid="a", **facts), pod(3, uid="other"), pod(4, uid="d"))
    difference = balancer.update(world.poll())
    back = {state.endpoint.address: state for state in balancer.states()}
    assert back[pod(1).address] is states[pod(1).address]
    assert back[pod(4).address] is after[pod(4).address]
    assert back[pod(3).address] is not after[pod(3).address]
    lease.release()
    assert not any(state.in_flight for state in balancer.states())


def test_stopped_while_a_rung_is_being_built():
    """It finds out by itself, and leaves nothing running."""
    started, go = threading.Event(), threading.Event()
    made = []

    def slow(emit):
        started.set()
        go.wait(5)
        made.append(Source("slices", emit))
        return made[0]

    ladder = Ladder("a.b:c", [("slices", slow)], clock=lambda: 0.0)
    thread = threading.Thread(target=ladder.start, args=(lambda: None,))
    thread.start()
    assert started.wait(5)
    ladder.stop()
    go.set()
    thread.join(5)
    assert made[0].calls == ["start", "stop"]
    assert ladder.poll(0.0) == (None, None)
    ladder.stop()


def test_a_rungs_own_time_counts():
    """An absence that slices hold back is asked for when it is due."""
    world = World()
    world["slices"].says(pod(1))
    world["slices"].due = world.now + 0.1
    world.poll()
    assert world.due == pytest.approx(world.now + 0.1)


# -- the kind: on the way up the past is published


def test_what_a_rung_knew_before_is_never_used_again():
    """It recovers while it is being polled: what was polled is from before that, and is not taken for news."""
    world = World()
    world["slices"].says(pod(1))
    world.poll()
    world["slices"].fails()
    world.poll()
    world.poll(PATIENCE)
    world["srv"].says(pod(1), pod(2))
    assert len(world.poll().endpoints) == 2
    ask, slices = world["slices"].poll, world["slices"]

    def recovers_in_between(now):
        said = ask(now)
        slices.poll = ask
        slices.says(pod(2, uid="b"))  # a complete list, and only then
        slices.recovers()
        return said

    slices.poll = recovers_in_between
    assert world.ladder.poll(world.now)[0] is None
    assert world.poll().endpoints == (pod(2, uid="b"),)


def test_a_rung_that_fails_again_at_once_is_not_used_for_its_patience():
    """Patience is for the rung in use; one that was left was left."""
    world = World()
    world["slices"].says(pod(1))
    world.poll()
    world["slices"].fails()
    world.poll()
    world.poll(PATIENCE)
    world["srv"].says(pod(1), pod(2))
    world.poll()
    world["slices"].recovers()
    world["slices"].fails()
    assert world.poll() is None
    assert world.ladder.health().source == "srv"


def test_dns_that_became_empty_brings_no_old_pods_back():
    """All pods are gone, says the rung in use; what slices knew before it was used is older."""
    world = World()
    world["slices"].says(pod(1))
    world.poll()
    world["slices"].fails()
    world.poll()
    world.poll(PATIENCE)
    world["srv"].says(pod(1), pod(2))
    world.poll()
    world["srv"].says(problem="all gone")
    snapshot = world.poll()
    assert (snapshot.endpoints, snapshot.problem) == ((), "all gone")


# -- the kind: the ladder does not hear what traffic knows


def test_pods_that_nobody_reaches_give_way_at_once():
    """They were all replaced while slices could not be read; DNS knows the new ones."""
    world = World()
    world["slices"].says(pod(1))
    world.poll()
    world["slices"].fails()
    assert world.poll() is None
    world.reached = False
    world.poll(LOOK)
    world["srv"].says(pod(2))
    assert world.poll().endpoints == (pod(2),)
    assert world.steps == [("srv", "slices", "unreachable")]
    world.poll(PATIENCE)
    assert world.steps == [("srv", "slices", "unreachable")]


def test_a_port_that_no_pod_has_is_told():
    """Of a headless Service DNS gives the pods, and `fallback_port` is that of the Service."""
    world = World()
    world["slices"].says(pod(1))
    world.poll()
    world["slices"].fails()
    world.poll()
    world.poll(PATIENCE)
    world["srv"].says(Endpoint("10.0.0.1", 80))
    assert world.poll() is None
    health = world.ladder.health()
    assert "DNS gives 10.0.0.1:80: the pods' addresses with a port of none of them" in health.error
    assert "is fallback_port=8080 meant?" in health.cure
    world["slices"].recovers()
    world.poll()
    assert world.ladder.health().error == ""


def test_what_an_empty_rung_says_is_told():
    """Slices are forbidden, and DNS knows that the port has another name: health says both."""
    world = World()
    world.poll()
    world["slices"].fails("forbidden")
    world.poll()
    world["srv"].says(problem="DNS knows web, but no port 'htttp' of it")
    assert world.poll() is None
    assert world.ladder.health().error == "slices is away; DNS knows web, but no port 'htttp' of it"
