"""Load balancers of one name in one process: one question, many that are told."""

import time

import pytest

from kubelb.core.events import DiscoveryFailed

from .dns_by_hand import HOST, NAME
from .feeding import DnsReader
from .nameserver import Nameserver
from .test_dns_stop import askers
from .test_dns_wire import WEB, a, srv, web
from .test_stop import wait_for

PODS = "10.0.0.1", "10.0.0.2"


def test_ten_of_one_name_are_one_question(made):
    """And one thread."""
    with Nameserver(web) as server:
        feeds = [DnsReader(made, srv(server)) for _ in range(10)]
        for feed in feeds:
            feed.ips(*PODS)
        assert len(server.asked) == 1
        assert len(askers()) == 1


def test_one_that_comes_later_is_told_at_once(made):
    """What is known, without a question, and how old it is."""
    clock = [1000.0]
    with Nameserver(web) as server:
        options = {"clock": lambda: clock[0]}
        DnsReader(made, srv(server), **options).ips(*PODS)
        clock[0] += 3.0
        late = DnsReader(made, srv(server), **options)
        late.ips(*PODS)
        assert len(server.asked) == 1
        assert late.health.age == pytest.approx(3.0)
        assert late.events == []


@pytest.mark.slow
def test_one_that_comes_while_nobody_answers(made):
    """The last known set, its age, and what is wrong."""
    well = [True]
    with Nameserver(lambda asked: web(asked) if well[0] else asked.answer(rcode="SERVFAIL")) as server:
        first = DnsReader(made, srv(server))
        first.ips(*PODS)
        well[0] = False
        first.source.resync_now()
        first.until(lambda _: first.events)
        late = DnsReader(made, srv(server))
        late.ips(*PODS)
        late.until(lambda _: late.events)
        assert isinstance(late.events[0], DiscoveryFailed)
        assert "SERVFAIL" in late.health.error


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["0.0.0.0", "169.254.169.254"])
def test_one_that_comes_during_a_lie(made, lie):
    """The kind: what came last is all that a latecomer is told, and it starts with nothing beside those that hold a
    set. It is told what is known, and then what is wrong, as they were. So does one that comes in an outage after it.
    """
    answer = [web]
    with Nameserver(lambda asked: answer[0](asked)) as server:
        first = DnsReader(made, srv(server))
        first.ips(*PODS)
        answer[0] = lambda asked: asked.answer(*WEB, extra=[f"{pod}.{HOST} 5 A {lie}" for pod in "ab"])
        first.source.resync_now()
        first.until(lambda _: f"only addresses that are not dialled: {lie}" in first.health.error)
        late = DnsReader(made, srv(server))
        late.until(lambda _: late.events)
        late.ips(*PODS)
        assert len(late.all) == 1
        assert late.health.error == first.health.error
        answer[0] = lambda asked: asked.answer(rcode="SERVFAIL")
        first.source.resync_now()
        first.until(lambda _: "SERVFAIL" in first.health.error)
        later = DnsReader(made, srv(server))
        later.ips(*PODS)
        later.until(lambda _: "SERVFAIL" in later.health.error)


def test_one_that_may_dial_all_asks_by_itself(made):
    """What one leaves out another uses: they are not told the same."""
    with Nameserver() as server:
        server.zone[f"A {HOST}"] = [f"{HOST} 5 A 169.254.1.1", f"{HOST} 5 A 10.0.0.1"]
        DnsReader(made, a(server)).ips("10.0.0.1")
        DnsReader(made, a(server), allow_special_addresses=True).ips("10.0.0.1", "169.254.1.1")


@pytest.mark.slow
def test_one_that_comes_while_a_name_is_held(made):
    """It holds what the others hold."""
    there = [True]
    with Nameserver(lambda asked: web(asked) if there[0] else asked.missing()) as server:
        first = DnsReader(made, srv(server))
        first.ips(*PODS)
        there[0] = False
        first.source.resync_now()
        first.until(lambda _: "DNS has no" in first.health.error)
        late = DnsReader(made, srv(server))
        late.ips(*PODS)
        late.until(lambda _: "DNS has no" in late.health.error)


@pytest.mark.slow
def test_one_that_comes_after_a_slow_family(made):
    """What came in two parts is told as one."""
    with Nameserver(
        lambda asked: (
            asked.answer(f"{HOST} 30 A 10.0.0.1")
            if asked.kind == "A"
            else asked.answer(f"{HOST} 30 AAAA fd00::1")
            if asked.number > 2
            else None
        )
    ) as server:
        DnsReader(made, a(server)).ips("10.0.0.1")
        wait_for(lambda: len(server.asked) > 2)
        late = DnsReader(made, a(server), families=("IPv6", "IPv4"), routed=lambda ip: True)
        late.ips("fd00::1")
        assert len([asked for asked in server.asked if asked.kind == "A"]) == 1


def test_the_last_one_ends_it(made):
    """The first to go hurts no other."""
    with Nameserver(web) as server:
        feeds = [DnsReader(made, srv(server)) for _ in range(3)]
        for feed in feeds:
            feed.ips(*PODS)
        feeds[0].source.stop()
        asked = len(server.asked)
        feeds[1].source.resync_now()
        wait_for(lambda: len(server.asked) > asked)
        feeds[1].source.stop()
        assert len(askers()) == 1
        feeds[2].source.stop()
        wait_for(lambda: not askers())


def test_a_mistake_of_one_is_its_own(made):
    """What one does with the news keeps it from no other."""
    with Nameserver(web) as server:
        broken = DnsReader(made, srv(server))
        broken.source._notify = lambda: 1 / 0
        other = DnsReader(made, srv(server))
        other.ips(*PODS)
        assert other.events == []
        broken.until(lambda _: broken.events)
        assert "ZeroDivisionError" in broken.events[0].reason


def test_what_is_not_the_same_is_not_shared(made):
    """Another port, family, nameserver or record type is another question."""
    with Nameserver() as server, Nameserver() as second:
        for each in (server, second):
            each.zone[f"A {HOST}"] = [f"{HOST} 5 A 10.0.0.1"]
        for target, options in (
            (a(server), {}),
            (a(server).replace(":8080", ":80"), {}),
            (a(server), {"families": ("IPv4",)}),
            (a(second), {}),
        ):
            DnsReader(made, target, **options).ips("10.0.0.1")
        DnsReader(made, srv(server))
        assert len(askers()) == 5
        assert NAME.endswith(HOST)


def test_started_and_stopped_by_many_at_the_same_time(made):
    """No thread is left, and none is missing."""
    with Nameserver(web) as server:
        for _ in range(30):
            feeds = [DnsReader(made, srv(server)) for _ in range(3)]
            feeds[0].source.stop()
            feeds[2].ips(*PODS)
            for feed in feeds:
                feed.source.stop()
        until = time.monotonic() + 5
        while askers() and time.monotonic() < until:
            time.sleep(0.01)
        assert not askers()
