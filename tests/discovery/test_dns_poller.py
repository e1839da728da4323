"""When it is asked, and what stays when the answer is no: by hand, with a clock and dice of the test."""

import random
import re
from statistics import pstdev

import pytest

from kubelb.discovery.dns.finding import Finding
from kubelb.discovery.dns.poller import Poller
from kubelb.discovery.dns.reducer import Reducer
from kubelb.discovery.dns.steps import CONFIG, HOSTS, RESYNC, Ask, Sleep
from kubelb.model import Endpoint
from kubelb.target import parse_target

from .dns_by_hand import EMPTY, FAILED, GONE, HERE, HOST, NAME, SRV, A, Answer, a, lookup, srv


class Played:
    """A poller whose nameserver is `answers`; `sleep()` runs it to its next sleep and lets that pass."""

    def __init__(self, answers, *, target=SRV, seed=1):
        self.answers = answers
        self.now = 1000.0
        self.asked = []
        self.failures = []
        self.reducer = Reducer(parse_target(target))
        self.poller = Poller(lookup(target), self, clock=lambda: self.now, rng=random.Random(seed))
        self._steps = self.poller.run()
        self._step = next(self._steps)

    def found(self, finding):
        self.reducer.take(finding, self.now)
        return bool(finding.absent) and not self.reducer.holding

    def failed(self, failure):
        self.failures.append(failure)

    def sleep(self, wake=None):
        while not isinstance(self._step, Sleep):
            if self._step is CONFIG:
                self._step = self._steps.send(HERE)
                continue
            if self._step is HOSTS:
                self._step = self._steps.send({})
                continue
            assert isinstance(self._step, Ask)
            self.asked += [str(question) for question in self._step.questions]
            replies = tuple(self.answers.get(str(question), GONE) for question in self._step.questions)
            self._step = self._steps.send(replies)
        seconds = self._step.seconds
        if wake is None:
            self.now += seconds
        self._step = self._steps.send(wake)
        return seconds

    def endpoints(self):
        snapshot = self.reducer.snapshot()
        return None if snapshot is None else [endpoint.ip for endpoint in snapshot.endpoints]


# -- when


@pytest.mark.parametrize(("ttl", "about"), [(0, 1), (0.5, 1), (7, 7), (30, 30), (3600, 30), (2**31, 30)])
def test_the_ttl_decides_within_bounds(ttl, about):
    """Between one second and thirty, a tenth more or less."""
    played = Played({f"SRV {NAME}": srv("a", ttl=ttl)})
    sleeps = [played.sleep() for _ in range(50)]
    assert all(0.9 * about <= seconds <= 1.1 * about for seconds in sleeps)
    assert max(sleeps) > min(sleeps)


def test_a_thousand_clients_are_spread():
    """Started together, they do not come together again."""
    first = [Played({f"SRV {NAME}": srv("a", ttl=30.0)}, seed=seed).sleep() for seed in range(1000)]
    assert pstdev(first) > 1.0
    assert (min(first), max(first)) == (pytest.approx(27, abs=0.1), pytest.approx(33, abs=0.1))


def test_what_is_not_there_is_asked_for_again_soon():
    """After ten seconds at most, whatever the zone's negative TTL."""
    played = Played({f"SRV {NAME}": Answer(exists=False, ttl=900.0)})
    assert played.sleep() <= 11.0


def test_failures_back_off_and_recovery_does_not_forget_at_once():
    """0.8 s doubling to 30 s times [1, 2): ten tries a minute at most; the set stays in use all the time."""
    played = Played({f"SRV {NAME}": srv("a")})
    played.sleep()
    assert played.endpoints() == ["10.0.0.1"]
    played.answers[f"SRV {NAME}"] = FAILED
    begin, tries = played.now, 0
    sleeps = []
    while played.now < begin + 60:
        sleeps.append(played.sleep())
        tries += 1
    assert tries <= 10
    assert 0.8 <= sleeps[0] < 1.6
    for _ in range(200):
        assert played.sleep() < 60
    assert len(played.failures) == tries + 200
    assert played.endpoints() is None
    played.answers[f"SRV {NAME}"] = srv("b")
    played.sleep()
    assert played.endpoints() == ["10.0.0.2"]


def test_a_resync_ends_the_wait_once_a_second():
    """At once where the last look-up is a second old; else when it is, which nothing but stop ends."""
    played = Played({f"SRV {NAME}": srv("a", ttl=30.0)})
    assert played.sleep(RESYNC) > 25
    assert played.sleep() == pytest.approx(1.0)
    played.now += 5.0
    played.sleep(RESYNC)
    assert played.sleep() == 0.0


# -- what stays


def test_a_name_that_is_gone_keeps_its_set_until_it_is_believed():
    """Thirty seconds and two answers; then known, and empty; then back with the first answer that has any."""
    played = Played({f"SRV {NAME}": srv("a", "b")})
    played.sleep()
    assert played.endpoints() == ["10.0.0.1", "10.0.0.2"]
    played.answers[f"SRV {NAME}"] = GONE
    gone = played.now
    while played.now < gone + 30:
        played.sleep()
        assert played.endpoints() is None
        assert played.reducer.holding
    played.sleep()
    snapshot = played.reducer.snapshot()
    assert (snapshot.endpoints, snapshot.exists) == ((), True)
    assert "NXDOMAIN" in snapshot.problem
    assert not played.reducer.holding
    played.answers[f"SRV {NAME}"] = srv("b")
    played.sleep()
    assert played.endpoints() == ["10.0.0.2"]


def test_a_blip_is_forgotten():
    """Found in between, the thirty seconds begin anew."""
    played = Played({f"SRV {NAME}": srv("a")})
    for answer in (srv("a"), GONE, GONE, srv("a"), GONE, GONE, GONE, srv("a")):
        played.answers[f"SRV {NAME}"] = answer
        played.sleep()
    assert played.endpoints() == ["10.0.0.1"]


def test_one_answer_is_not_believed_however_late():
    """A process that slept for an hour has seen one answer."""
    reducer = Reducer(parse_target(SRV))
    reducer.take(Finding(5.0, {"IPv4": (Endpoint("10.0.0.1", 80),)}), 0.0)
    reducer.snapshot()
    reducer.take(Finding(5.0, absent="NXDOMAIN"), 0.0)
    assert reducer.holding
    reducer.take(Finding(5.0, absent="NXDOMAIN"), 3600.0)
    assert not reducer.holding
    assert reducer.snapshot().endpoints == ()


def test_absent_from_the_start_is_told_at_once():
    """There is nothing to keep; synced, empty, with a reason."""
    played = Played({})
    played.sleep()
    assert played.reducer.synced
    assert "a wrong name or port name, no such Service, or a headless one without" in played.reducer.snapshot().problem


def test_decidedly_none_is_believed_at_once():
    """Somebody wrote the dot on purpose."""
    played = Played({f"SRV {NAME}": srv("a")})
    played.sleep()
    played.answers[f"SRV {NAME}"] = Answer((srv("a").srv[0]._replace(target="."),), ttl=5.0)
    played.endpoints()
    played.sleep()
    snapshot = played.reducer.snapshot()
    assert snapshot.endpoints == ()
    assert "there is no such service" in snapshot.problem


# -- what is published


def test_order_is_no_news():
    """The same set in another order, or with another TTL, is no Snapshot."""
    played = Played({f"SRV {NAME}": srv("a", "b", "c")})
    played.sleep()
    assert played.endpoints() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    played.answers[f"SRV {NAME}"] = srv("c", "a", "b", ttl=9.0)
    played.sleep()
    assert played.endpoints() is None


def test_coredns_weights_are_no_news():
    """They are 100 divided by the number of pods: one more pod changes one endpoint, not all."""
    reducer = Reducer(parse_target(SRV))
    looked = Played({f"SRV {NAME}": srv("a", "b")})
    looked.sleep()
    before = looked.reducer.snapshot().endpoints
    more = srv("a", "b", "c")
    looked.answers[f"SRV {NAME}"] = more._replace(srv=tuple(each._replace(weight=33) for each in more.srv))
    looked.sleep()
    assert looked.reducer.snapshot().endpoints[:2] == before
    assert reducer.snapshot() is None


def test_a_partial_answer_adds_and_takes_nothing():
    """And a whole one after it does both."""
    played = Played({f"SRV {NAME}": srv("a", "b")})
    for answer, expected in (
        (srv("a", "b"), ["10.0.0.1", "10.0.0.2"]),
        (srv("b", "c", partial=True), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        (srv("c"), ["10.0.0.3"]),
    ):
        played.answers[f"SRV {NAME}"] = answer
        played.sleep()
        assert played.endpoints() == expected


def test_families():
    """IPv4 where it has any; NODATA drops a family, a failure keeps it."""
    played = Played({f"A {HOST}": a("10.0.0.1"), f"AAAA {HOST}": a("fd00::1")}, target=A)
    played.sleep()
    assert played.endpoints() == ["10.0.0.1"]
    played.answers[f"A {HOST}"] = FAILED
    played.sleep()
    assert played.endpoints() is None
    played.answers[f"A {HOST}"] = EMPTY
    played.sleep()
    assert played.endpoints() == ["fd00::1"]
    played.answers[f"AAAA {HOST}"] = GONE
    played.sleep()
    assert played.endpoints() is None
    assert played.reducer.holding


def test_the_first_tier_is_used_and_the_others_are_parked():
    """Until it has nobody left."""
    endpoints = tuple(Endpoint(f"10.0.0.{number}", 80, priority=number // 2) for number in (2, 3, 4))
    reducer = Reducer(parse_target(SRV))
    reducer.take(Finding(5.0, {"IPv4": endpoints}), 0.0)
    snapshot = reducer.snapshot()
    assert [each.ip for each in snapshot.endpoints] == ["10.0.0.2", "10.0.0.3"]
    assert [each.ip for each in snapshot.parked] == ["10.0.0.4"]
    assert snapshot.ports == (":80",)
    reducer.take(Finding(5.0, {"IPv4": endpoints[2:]}), 1.0)
    snapshot = reducer.snapshot()
    assert [each.ip for each in snapshot.endpoints] == ["10.0.0.4"]
    assert snapshot.parked == ()


def test_versions_go_on():
    """From what was given out before."""
    reducer = Reducer(parse_target(SRV), version=7)
    assert reducer.snapshot() is None
    reducer.take(Finding(5.0, {"IPv4": (Endpoint("10.0.0.1", 80),)}), 0.0)
    assert reducer.snapshot().version == 8


WORDS = [
    (A, Finding(5.0, absent="NXDOMAIN"), "a wrong name, or a Service without a ready pod"),
    (SRV, Finding(5.0, absent="NXDOMAIN", ports=(":80", ":81")), r"no port 'http' of it .* tell their names: 80, 81$"),
    (SRV, Finding(5.0, absent="no such record", host_exists=True), "only a port with that name has SRV records$"),
    (SRV, Finding(5.0), "has no address now"),
]


@pytest.mark.parametrize(("target", "finding", "words"), WORDS)
def test_words(target, finding, words):
    """Why there is nothing, with what there is."""
    reducer = Reducer(parse_target(target))
    reducer.take(finding, 0.0)
    assert re.search(words, reducer.snapshot().problem)
