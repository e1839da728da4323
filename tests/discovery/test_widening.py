"""One watch for all services of a namespace: it takes services in and lets them go, and loses nothing."""

import os
import random
import sys
import threading
import time
import traceback

import pytest
from tests.stalls import elapsed

from kubelb.discovery.kube import channel, sharing
from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.source import KubeDiscovery
from kubelb.discovery.kube.token import TokenFile
from kubelb.target import parse_target
from kubelb.testing import LocalCluster

from .build import piece, row
from .feeding import Reader


def until(test, timeout=10.0):
    end = time.monotonic() + timeout
    while not test():
        assert time.monotonic() < end
        time.sleep(0.002)


def watches():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kubelb-watch")]


@pytest.fixture
def cluster():
    with LocalCluster() as cluster:
        yield cluster


class Fleet:
    """Sources of a process, one for each service."""

    def __init__(self, cluster, made):
        self.cluster, self.made = cluster, made
        self.access = Access(cluster.url, ca_file=cluster.ca_file, credentials=TokenFile(cluster.token_file))
        self.feeds = {}

    def write(self, name, service, *addresses, ns="prod"):
        self.cluster.apply_slice(piece(name, [row(ip) for ip in addresses], service=service, ns=ns))

    def open(self, service, ns="prod"):
        feed = Reader(self.made, self.access, target=f"{service}.{ns}:http")
        self.feeds[service] = feed
        return feed

    def verbs(self):
        return [request.verb for request in self.cluster.api.requests]

    def streams(self):
        return {feed.source._seat.desk.owner for feed in self.feeds.values()}

    def merged(self, count=1):
        """One watch, which reads everything, and nothing else left."""
        until(lambda: len(self.streams()) == 1 and self.cluster.api.watchers == count and len(watches()) == count)
        until(lambda: not next(iter(self.streams())).gathering)


@pytest.fixture
def fleet(cluster, made):
    return Fleet(cluster, made)


def test_thirty_in_a_loop_are_one_watch(fleet, cluster):
    """The kind: a watch, a thread and a connection for each service. Made in a loop, they cause two streams at most."""
    for n in range(30):
        fleet.write(f"s{n}-a", f"s{n}", f"10.0.0.{n + 1}")
    for n in range(30):
        fleet.open(f"s{n}")
    assert len(watches()) <= 2
    for n in range(30):
        fleet.feeds[f"s{n}"].ips(f"10.0.0.{n + 1}")
    fleet.merged()
    assert fleet.verbs().count("watch") <= 3
    assert fleet.verbs().count("list") <= 15  # those that come during a list are listed together: a matter of pace
    for n in range(30):
        fleet.write(f"s{n}-b", f"s{n}", f"10.0.1.{n + 1}")
    for n in range(30):
        fleet.feeds[f"s{n}"].ips(f"10.0.0.{n + 1}", f"10.0.1.{n + 1}")
    assert all(feed.events == [] for feed in fleet.feeds.values())


def test_one_after_the_other(fleet):
    """Each waits for its own list alone, and they end as one watch."""
    for n in range(8):
        fleet.write(f"s{n}-a", f"s{n}", f"10.0.0.{n + 1}")
        fleet.open(f"s{n}").ips(f"10.0.0.{n + 1}")
    fleet.merged()
    assert fleet.verbs().count("watch") <= 8


def test_a_single_service_waits_for_nobody(fleet, cluster, monkeypatch):
    """Its watch begins when its list is there; only where there are several does a watch wait for more."""
    monkeypatch.setattr(channel, "COLLECT", 60.0)
    monkeypatch.setattr(channel, "LONGEST", 60.0)
    fleet.write("a", "reviews", "10.0.0.1")
    fleet.open("reviews").ips("10.0.0.1")
    cluster.api.wait_for_watchers(1)
    fleet.write("b", "ratings", "10.0.0.2")
    fleet.open("ratings").ips("10.0.0.2")
    assert fleet.verbs() == ["list", "watch", "list"]


def test_a_label_that_changes_moves_the_slice(fleet):
    """Between two services of one watch the server tells of a modification, and of nothing that has ended."""
    fleet.write("x", "reviews", "10.0.0.1")
    fleet.write("y", "ratings", "10.0.0.2")
    reviews, ratings = fleet.open("reviews"), fleet.open("ratings")
    reviews.ips("10.0.0.1")
    ratings.ips("10.0.0.2")
    fleet.merged()
    fleet.write("x", "ratings", "10.0.0.1")
    ratings.ips("10.0.0.1", "10.0.0.2")
    reviews.ips()
    fleet.write("x", "stranger", "10.0.0.1")
    ratings.ips("10.0.0.2")
    fleet.write("x", "reviews", "10.0.0.1")
    reviews.ips("10.0.0.1")
    fleet.cluster.delete_slice("prod", "x")
    reviews.ips()
    ratings.ips("10.0.0.2")


def test_one_that_leaves_is_nothing_to_the_others(fleet, cluster):
    """No request, no end of the watch; the last ends it. Whoever comes back is listed, and taken in again."""
    for n in range(3):
        fleet.write(f"s{n}-a", f"s{n}", f"10.0.0.{n + 1}")
        fleet.open(f"s{n}")
    for n in range(3):
        fleet.feeds[f"s{n}"].ips(f"10.0.0.{n + 1}")
    fleet.merged()
    asked = len(fleet.verbs())
    assert elapsed(fleet.feeds.pop("s1").source.stop).own < 0.05
    fleet.write("s1-b", "s1", "10.0.1.1")
    fleet.write("s0-b", "s0", "10.0.1.2")
    fleet.feeds["s0"].ips("10.0.0.1", "10.0.1.2")
    assert len(fleet.verbs()) == asked
    fleet.open("s1").ips("10.0.0.2", "10.0.1.1")
    fleet.merged()
    for feed in fleet.feeds.values():
        assert elapsed(feed.source.stop).own < 0.05
    until(lambda: not watches())
    assert not sharing._registry.channels


def test_one_that_comes_back_at_once_is_listed_again(fleet, monkeypatch):
    """Closed and opened while its stream still waits for others: that it was listed before is of no use to it."""
    monkeypatch.setattr(channel, "COLLECT", 60.0)
    fleet.write("a", "reviews", "10.0.0.1")
    fleet.write("b", "ratings", "10.0.0.2")
    fleet.open("reviews").ips("10.0.0.1")
    until(lambda: not fleet.feeds["reviews"].source._seat.desk.owner.gathering)
    for name in ("b", "c", "d"):
        fleet.write(name, "ratings", "10.0.0.2")
        fleet.open(f"other-{name}")
        feed = fleet.open("ratings")
        feed.ips("10.0.0.2")
        assert feed.source._seat.desk.owner.gathering
        feed.source.stop()
        fleet.cluster.delete_slice("prod", name)


@pytest.mark.parametrize("code", [400, 403, 410, 500])
def test_a_wider_watch_that_is_refused(fleet, cluster, code):
    """The neighbours know nothing of it, and the newcomer has a watch of its own; nothing is told."""
    fleet.write("a", "reviews", "10.0.0.1")
    fleet.write("b", "ratings", "10.0.0.2")
    reviews = fleet.open("reviews")
    reviews.ips("10.0.0.1")
    cluster.api.wait_for_watchers(1)
    cluster.api.fail(code, verb="watch", times=1)
    ratings = fleet.open("ratings")
    ratings.ips("10.0.0.2")
    cluster.api.wait_for_watchers(2)
    assert len(fleet.streams()) == 2
    assert fleet.verbs() == ["list", "watch", "list", "watch", "watch"]
    fleet.write("a", "reviews", "10.0.0.3")
    fleet.write("b", "ratings", "10.0.0.4")
    reviews.ips("10.0.0.3")
    ratings.ips("10.0.0.4")
    assert reviews.events == ratings.events == []


def test_what_is_too_old_for_the_wider_watch(fleet, cluster):
    """A version that is told to be too old after the 200: everything is listed again, and nobody notices."""
    fleet.write("a", "reviews", "10.0.0.1")
    reviews = fleet.open("reviews")
    reviews.ips("10.0.0.1")
    cluster.api.wait_for_watchers(1)
    cluster.api.expire()
    fleet.write("b", "ratings", "10.0.0.2")
    fleet.open("ratings").ips("10.0.0.2")
    fleet.merged()
    fleet.write("a", "reviews", "10.0.0.3")
    reviews.ips("10.0.0.3")
    assert reviews.events == fleet.feeds["ratings"].events == []


def test_a_proxy_that_holds_the_wider_watch_back(fleet, cluster):
    """The old stream goes on until the new one is accepted."""
    fleet.write("b", "ratings", "10.0.0.2")  # before any list, or the watch would begin with it
    fleet.write("a", "reviews", "10.0.0.1")
    reviews = fleet.open("reviews")
    reviews.ips("10.0.0.1")
    cluster.api.wait_for_watchers(1)
    cluster.api.delay_headers(30)
    ratings = fleet.open("ratings")
    ratings.ips("10.0.0.2")
    until(lambda: cluster.api.watchers == 2)
    assert len(fleet.streams()) == 2
    cluster.api.delay_headers(0)
    fleet.write("a", "reviews", "10.0.0.3")  # the first event, which lets the headers go
    reviews.ips("10.0.0.3")
    fleet.merged()
    fleet.write("b", "ratings", "10.0.0.4")
    ratings.ips("10.0.0.4")


def test_trouble_is_each_service_s_own_and_all_recover(fleet, cluster):
    """Away while a newcomer comes: it is told why it waits, the others keep what they know, and all are well again."""
    fleet.write("a", "reviews", "10.0.0.1")
    fleet.write("b", "ratings", "10.0.0.2")
    reviews = fleet.open("reviews")
    reviews.ips("10.0.0.1")
    cluster.api.wait_for_watchers(1)
    cluster.api.down()
    until(lambda: reviews.health.error)
    ratings = fleet.open("ratings")
    until(lambda: "connection refused" in ratings.health.error)
    details = fleet.open("details")
    until(lambda: "connection refused" in details.health.error)
    assert not ratings.health.synced
    assert details.source._seat.desk.owner is ratings.source._seat.desk.owner
    fleet.write("a", "reviews", "10.0.0.3")
    cluster.api.up()
    ratings.source.resync_now()
    ratings.ips("10.0.0.2", timeout=10)
    reviews.ips("10.0.0.3", timeout=10)
    until(lambda: not any(feed.health.error for feed in fleet.feeds.values()))
    for feed in fleet.feeds.values():
        kinds = [type(event).__name__ for event in feed.events]
        assert kinds.count("DiscoveryRecovered") == 1
        assert kinds[-1] == "DiscoveryRecovered"
    assert details.health.synced


def test_a_newcomer_does_not_wait_out_the_sleep_of_those_before_it(fleet, cluster):
    """A server that is back is found by whoever comes next, as if it had a stream of its own."""
    fleet.write("a", "reviews", "10.0.0.1")
    fleet.write("b", "ratings", "10.0.0.2")
    cluster.api.down()
    reviews = fleet.open("reviews")
    reviews.source._seat.desk.owner._reflector.backoff._failures = 10  # half a minute and more
    until(lambda: reviews.health.error)
    cluster.api.up()
    fleet.open("ratings").ips("10.0.0.2", timeout=5)
    reviews.ips("10.0.0.1")
    until(lambda: not reviews.health.error)


def test_one_subscriber_s_mistake_is_its_service_s_own(fleet, made, monkeypatch):
    """The kind: an exception in one reducer ends the watch of all."""
    fleet.write("a", "reviews", "10.0.0.1")
    fleet.write("b", "ratings", "10.0.0.2")
    bad, good = fleet.open("reviews"), fleet.open("ratings")
    bad.ips("10.0.0.1")
    good.ips("10.0.0.2")
    fleet.merged()

    def broken(piece):
        raise ZeroDivisionError

    monkeypatch.setattr(bad.source, "upsert", broken)
    fleet.write("a", "reviews", "10.0.0.3")
    until(lambda: "ZeroDivisionError" in bad.health.error)
    fleet.write("b", "ratings", "10.0.0.4")
    good.ips("10.0.0.4")
    assert good.health.error == ""


def test_resync_of_one(fleet):
    """Everything is listed again, at once."""
    fleet.write("a", "reviews", "10.0.0.1")
    fleet.write("b", "ratings", "10.0.0.2")
    reviews, ratings = fleet.open("reviews"), fleet.open("ratings")
    reviews.ips("10.0.0.1")
    ratings.ips("10.0.0.2")
    fleet.merged()
    lists = fleet.verbs().count("list")
    ratings.source.resync_now()
    until(lambda: fleet.verbs().count("list") == lists + 1)
    fleet.merged()
    fleet.write("a", "reviews", "10.0.0.3")
    reviews.ips("10.0.0.3")


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_while_services_come_and_go(fleet, cluster, made, seed):
    """Slices change all the time, also from one service to another; watches break; at the end all is as it is there."""
    rng = random.Random(seed)
    names, stop = [f"s{n}" for n in range(6)], threading.Event()

    def churn():
        dice = random.Random(seed + 100)
        while not stop.wait(0.001):
            name = f"x{dice.randrange(12)}"
            if dice.random() < 0.3:
                cluster.delete_slice("prod", name)
            else:
                fleet.write(
                    name, dice.choice(names), f"10.0.0.{dice.randrange(1, 200)}", f"10.0.1.{dice.randrange(1, 200)}"
                )

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        for _ in range(25):
            name = rng.choice(names)
            if name in fleet.feeds:
                fleet.feeds.pop(name).source.stop()
            else:
                fleet.open(name)
            if rng.random() < 0.15:
                cluster.api.cut_streams(rng.choice(["clean", "abrupt", "reset"]))
            if rng.random() < 0.1:
                cluster.api.expire()
            time.sleep(rng.choice([0.0, 0.0, 0.02, 0.15]))
        for name in names:
            if name not in fleet.feeds:
                fleet.open(name)
        time.sleep(0.2)
    finally:
        stop.set()
        writer.join()
    for name in names:
        there = {ip for each in cluster.slices("prod", name) for row in each["endpoints"] for ip in row["addresses"]}
        fleet.feeds[name].ips(*there)
    fleet.write("last", "s0", "10.0.2.1")
    until(lambda: "last" in fleet.feeds["s0"].source._reducer._known)
    assert len(watches()) <= 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(fleet, cluster):
    """A child has none of the parent's streams, and shares its own in the same way; the parent's goes on."""
    for n in range(3):
        fleet.write(f"s{n}-a", f"s{n}", f"10.0.0.{n + 1}")
        fleet.open(f"s{n}")
    for n in range(3):
        fleet.feeds[f"s{n}"].ips(f"10.0.0.{n + 1}")
    fleet.merged()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for feed in fleet.feeds.values():
                assert not feed.source.health().synced
                feed.source.start(lambda: None)
            until(lambda: all(feed.source.health().synced for feed in fleet.feeds.values()))
            until(lambda: len(fleet.streams()) == 1)
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    until(lambda: cluster.api.watchers == 1)
    fleet.write("s2-b", "s2", "10.0.1.1")
    fleet.feeds["s2"].ips("10.0.0.3", "10.0.1.1")
    assert fleet.feeds["s2"].events == []


def test_without_a_thread_nothing_is_left(cluster, fleet, made, monkeypatch):
    """No thread is to be had: the caller is told, and the next try begins anew."""
    fleet.write("a", "reviews", "10.0.0.1")
    source = KubeDiscovery(parse_target("reviews.prod:http"), access=fleet.access)
    made.append(source)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            source.start(lambda: None)
    assert not sharing._registry.channels
    source.start(lambda: None)
    until(lambda: source.health().synced)
