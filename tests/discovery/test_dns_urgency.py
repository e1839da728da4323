"""Where every address that DNS gave is dead, DNS is asked again before its TTL is over."""

import random
import socket
import time

import pytest

from kubelb import LoadBalancer
from kubelb.discovery.dns.urgency import LOOK, Urgency

from .dns_by_hand import HOST
from .nameserver import Nameserver
from .test_dns_wire import a
from .test_stop import wait_for

ONE = [("10.0.0.1", 80)]


def looks(answers, seconds):
    """The seconds at which it would ask, where `answers(second)` is what traffic says."""
    now = [0.0]
    urgency = Urgency(lambda _: answers(now[0]))
    found = []
    while now[0] <= seconds:
        urgent, due = urgency.look(ONE, now[0])
        assert due == now[0] + LOOK
        if urgent:
            found.append(now[0])
        now[0] += LOOK
    return found


def test_once_and_then_ever_more_seldom():
    """A service that is down costs no more than a TTL of 30 s does."""
    assert looks(lambda _: False, 100) == [0, 1, 3, 7, 15, 31, 61, 91]


def test_an_answer_begins_anew():
    """Where it is known that one is reached, or not known any more that none is."""
    assert looks(lambda second: None if second == 5 else False, 10) == [0, 1, 3, 6, 7, 9]
    assert looks(lambda second: second < 3, 4) == [3, 4]
    assert looks(lambda _: None, 10) == []


def test_between_two_looks_nothing_is_asked():
    """However often the source is polled; nor where there is nothing to look at."""
    asked = []
    urgency = Urgency(lambda addresses: asked.append(addresses))
    for tenth in range(10):
        assert urgency.look(ONE, tenth / 10) == (False, LOOK)
    assert asked == [ONE]
    assert urgency.look([], 5.0) == (False, None)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def connect(attempt):
    socket.create_connection((attempt.endpoint.ip, attempt.endpoint.port), timeout=2).close()
    return attempt.endpoint.ip


@pytest.mark.slow
def test_all_pods_are_replaced_at_once():
    """The old addresses refuse, the TTL is 30 s: calls succeed again within a few, with a question or two."""
    port = free_port()
    addresses = ["127.0.0.30", "127.0.0.31"]

    def handle(asked):
        if asked.kind != "A":
            return asked.missing("NOERROR")
        return asked.answer(*(f"{HOST} 30 A {ip}" for ip in addresses))

    with Nameserver(handle) as server, socket.create_server(("127.0.0.40", port)):
        target = a(server).replace(":8080", f":{port}")
        with LoadBalancer(target, rng=random.Random(1)) as lb:
            lb.wait_ready()
            addresses[:] = ["127.0.0.40"]
            asked, began = len(server.asked), time.monotonic()

            def answered():
                try:
                    return lb.call(connect, idempotent=True) == "127.0.0.40"
                except OSError:
                    return False

            wait_for(answered, 20.0)
            assert time.monotonic() - began < 20
            assert len(server.asked) - asked <= 6
