"""A DNS source stops within 50 ms whatever it waits for, leaves nothing behind, and survives forks and mistakes."""

import contextlib
import gc
import os
import threading
import time

import pytest
from tests.stalls import elapsed

from kubelb import LoadBalancer
from kubelb.discovery.dns import source as source_module
from kubelb.discovery.dns.asker import Asker
from kubelb.discovery.dns.dialogue import Dialogue
from kubelb.discovery.dns.lookup import Lookup
from kubelb.discovery.dns.manners import Manners
from kubelb.discovery.dns.source import DnsDiscovery
from kubelb.discovery.dns.steps import Config, Question
from kubelb.target import parse_target

from .dns_by_hand import HOST, NAME
from .feeding import DnsReader
from .nameserver import Nameserver
from .test_dns_wire import a, srv, web
from .test_stop import AT_ONCE, wait_for


def askers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kubelb-dns")]


def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def silent(_asked):
    return None


def silent_over_tcp(asked):
    return None if asked.tcp else asked.answer(tc=True)


def failing(asked):
    return asked.answer(rcode="SERVFAIL")


STATES = {
    "waiting for UDP": silent,
    "waiting for TCP": silent_over_tcp,
    "between two questions": web,
    "after a failure": failing,
}


@pytest.mark.parametrize("state", STATES)
def test_every_state(state):
    """Waiting for a datagram, for a stream, for the TTL, for the next try."""
    with Nameserver(STATES[state]) as server:
        source = DnsDiscovery(parse_target(srv(server)))
        source.start(lambda: None)
        wait_for(lambda: server.asked and (state != "waiting for TCP" or server.asked[-1].tcp))
        time.sleep(0.02)
        assert elapsed(source.stop).own < AT_ONCE
        wait_for(lambda: not askers())
        source.stop()


def test_stop_from_within():
    """A reader that stops the source out of its own notice does not wait for itself."""
    done = threading.Event()

    def notice():
        source.stop()
        done.set()

    with Nameserver(web) as server:
        source = DnsDiscovery(parse_target(srv(server)))
        source.start(notice)
        assert done.wait(5)
        wait_for(lambda: not askers())


def test_start_again(made):
    """Stopped and started once more, a source asks again and goes on with its versions; started twice, it asks once."""
    with Nameserver(web) as server:
        feed = DnsReader(made, srv(server))
        feed.ips("10.0.0.1", "10.0.0.2")
        feed.source.start(feed.ring)
        assert len(askers()) == 1
        feed.source.stop()
        feed.source.resync_now()  # nobody is there to hear it
        feed.source.start(feed.ring)
        wait_for(lambda: len(server.asked) == 2)
        assert feed.source.poll(time.monotonic())[0] is None


def test_resync_in_a_loop_asks_once_a_second(made):
    """However often it is called; and it does not block."""
    with Nameserver(web) as server:
        feed = DnsReader(made, srv(server))
        feed.ips("10.0.0.1", "10.0.0.2")
        began = time.monotonic()
        for _ in range(20_000):
            feed.source.resync_now()
        time.sleep(0.1)
        assert len(server.asked) <= 3 + (time.monotonic() - began)


def test_no_thread_for_a_moment(made, monkeypatch):
    """Whoever starts it is told, nothing stays open, and started again it asks."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with Nameserver(web) as server:
        source = DnsDiscovery(parse_target(srv(server)))
        made.append(source)
        before = descriptors()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                source.start(lambda: None)
        assert descriptors() == before
        source.start(lambda: None)
        wait_for(lambda: source.poll(0.0)[0])


@pytest.mark.slow
def test_a_mistake_of_ours_is_survived(made, monkeypatch):
    """Told as internal, without the text, which may hold anything; the next try is whole."""
    real, calls = Lookup.run, []

    def broken(self):
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("secret")
        return real(self)

    monkeypatch.setattr(Lookup, "run", broken)
    with Nameserver(web) as server:
        feed = DnsReader(made, srv(server))
        feed.until(lambda _: feed.events)
        assert feed.events[0].kind == "internal"
        assert "KeyError in broken" in feed.events[0].reason
        assert "secret" not in str(feed.events)
        feed.ips("10.0.0.1", "10.0.0.2")


def test_a_mistake_while_answers_are_under_way_is_slept_over(made, monkeypatch):
    """The kind: what a mistake leaves behind. An answer that nobody reads ended each moment of the sleep at once."""
    selects, real = [], Asker._select

    def broken(self, dialogue, step):
        raise KeyError("a mistake of ours")

    def counted(self, seconds):
        selects.append(seconds)
        return real(self, seconds)

    monkeypatch.setattr(Asker, "_move", broken)
    monkeypatch.setattr(Asker, "_select", counted)
    with Nameserver(web) as server:
        feed = DnsReader(made, srv(server))
        feed.until(lambda _: feed.events)
        begun = len(selects)
        time.sleep(0.3)
        assert len(selects) <= begun + 5


def test_what_a_mistake_left_in_between_is_dropped(monkeypatch):
    """A question whose sockets are waited for, and that is not among those under way."""
    asker = Asker(lambda: False)
    config = Config(servers=(("127.0.0.1", 9),))
    dialogue = Dialogue(Question("web.", "A"), config.servers, config, Manners())
    dialogue.begin(0.0)
    asker._keep(dialogue)
    asker._open.clear()
    asker.drop()
    assert not dialogue.open
    assert len(asker._selector.get_map()) == 1
    asker.close()


def test_stopped_while_a_mistake_is_slept_over(monkeypatch):
    """That wait ends at once, too."""
    monkeypatch.setattr(Lookup, "run", lambda self: 1 / 0)
    source = DnsDiscovery(parse_target("dns://127.0.0.1:1/web:80"))
    source.start(lambda: None)
    wait_for(lambda: "ZeroDivisionError" in source.health().error)
    assert elapsed(source.stop).own < AT_ONCE
    wait_for(lambda: not askers())


@pytest.mark.slow
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_thousand_cycles():
    """Start and stop at any moment leaves no descriptor, no thread and no warning."""
    with Nameserver(
        lambda asked: asked.answer(tc=True) if asked.number % 2 and not asked.tcp else web(asked)
    ) as server:
        for cycle in range(1000):
            if cycle == 20:
                gc.collect()
                wait_for(lambda: not askers())
                before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
            source = DnsDiscovery(parse_target(srv(server)))
            source.start(lambda: None)
            if cycle % 3:
                time.sleep(cycle % 10 / 2000)
            source.stop()
        wait_for(lambda: not askers())
        gc.collect()
        if before:
            wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before + 4)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork():
    """A child asks for itself and has no descriptor of the parent's; the parent notices nothing, in any state."""
    with Nameserver() as server:
        server.zone[f"A {HOST}"] = [f"{HOST} 1 A 127.0.0.1"]
        others = selectors_open()
        with LoadBalancer(a(server)) as lb:
            lb.wait_ready()
            asked = len(server.asked)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    fresh = selectors_open() <= others
                    lb.call(lambda attempt: attempt)
                    until = time.monotonic() + 5
                    while not askers() and time.monotonic() < until:
                        time.sleep(0.01)
                    code = 0 if askers() and fresh else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert selectors_open() == others + 1 or not others
            wait_for(lambda: len(server.asked) > asked + 4)
            assert lb.health().synced
            assert not lb.health().error


def selectors_open():
    """How many selectors this process has descriptors of; 0 where that cannot be seen."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with contextlib.suppress(OSError):
            found += "eventpoll" in os.readlink(f"/proc/self/fd/{descriptor}")
    return found


def test_no_lookup_on_the_callers_thread(monkeypatch):
    """Sync or async, a caller waits for a snapshot and never for a nameserver."""
    threads = set()
    real = source_module.DnsDiscovery.found
    monkeypatch.setattr(
        DnsDiscovery,
        "found",
        lambda self, finding: (threads.add(threading.current_thread().name), real(self, finding))[1],
    )
    with Nameserver(web) as server, LoadBalancer(srv(server)) as lb:
        assert lb.call(lambda attempt: attempt.endpoint.port) == 8080
        assert threads == {"kubelb-dns-web.prod"}
        assert NAME[:-1] in repr(lb)
