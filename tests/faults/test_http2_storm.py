"""Everything at once: streams and connections that end in all ways, timeouts, cancellations; and what holds then."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import pytest
from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.http2_clients import AsyncH2, AsyncH2x2, SyncH2, SyncH2x2
from tests.faults.http2_pod import MOST_STREAMS, Pod, Told
from tests.waiting import until

import kubelb

KINDS = [SyncH2, AsyncH2, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (SyncH2x2, AsyncH2x2))]
WORKERS, EACH = 8, 40


class Wild:
    """What the pods do with each request; `processed` has those that may have been, by their marker."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.processed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, told: Told) -> None:
        link = told.link
        with self._lock:  # GOAWAY's last stream is true: none above it is processed, before or after
            what = self.chance.random()
            if told.stream > link.last:
                return
            if 0.68 <= what < 0.72 and told.stream > link.processed:
                link.last = link.processed
            elif not 0.60 <= what < 0.68:
                self.processed[told.marker] += 1
                link.processed = max(link.processed, told.stream)
        if link.last < told.stream:
            link.goaway(link.last)
        elif what < 0.60:
            told.answer()
        elif what < 0.68:
            told.cancel(7)  # REFUSED_STREAM
        elif what < 0.77:
            told.link.goaway(min(link.last, 2**31 - 1))
            told.answer()
        elif what < 0.82:
            told.cancel(random.choice((0, 2, 8, 11)))
        elif what < 0.86:
            told.headers(200, ("content-length", "100"))
            told.data(b"part")
            told.cancel(2)
        elif what < 0.90:
            told.link.cut(reset=what < 0.88)
        elif what < 0.93:
            told.headers(503)
            told.data(b"no", end=True)
        elif what < 0.96:
            told.link.settings(MOST_STREAMS, random.choice((0, 1, 2, 50)))
            told.answer()
        # else it hangs


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    made = [Pod(host=f"127.0.0.{number}") for number in (1, 2, 3)]
    yield made
    for pod in made:
        pod.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_leaves_nothing_and_nothing_is_done_twice(pods: list[Pod], kind: Any) -> None:
    """Only exceptions of the client's own (`meaning` raises any other), no POST twice, nothing in flight, no thread
    that waits for ever, and all of it usable afterwards.
    """
    wild = Wild(7)
    for pod in pods:
        pod.handler = wild
    retry = kubelb.Retry(wait=kubelb.FullJitter(0.0, 0.001), budget=None)
    with kubelb.LoadBalancer(f"static:///{','.join(pod.address for pod in pods)}", retry=retry, outliers=None) as lb:
        client = kind(lb)
        ends: list[End] = []
        posts: set[str] = set()

        def work(number: int) -> None:
            chance = random.Random(number)
            for _ in range(EACH):
                body = b"x" * chance.choice((0, 1, 70_000))
                once = chance.random() < 0.5
                ask = Ask(Allowed.NO if once else Allowed.YES, body=body, timeout=chance.choice((0.05, 0.3, 1.0)))
                if once:
                    posts.add(ask.marker)
                if chance.random() < 0.1:
                    held = client.open(ask)
                    if isinstance(held, End):
                        ends.append(held)
                    else:
                        with suppress(CancelledError):  # `client.cancel()` of another one's
                            held.give_up()
                else:
                    ends.append(client.ask(ask))
                if number == 0 and chance.random() < 0.3 and kind in {AsyncH2, AsyncH2x2}:
                    client.cancel()  # all that are under way

        threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        assert not any(thread.is_alive() for thread in threads)
        assert all(wild.processed[marker] <= 1 for marker in posts)
        assert {end.how for end in ends} <= {*How}
        assert sum(end.how is How.ANSWERED for end in ends) > 50
        assert until(lambda: all(view.in_flight == 0 for view in lb.endpoints()), 10.0)
        for pod in pods:
            pod.handler = lambda told: told.answer()
        assert [client.ask(Ask(Allowed.YES)).how for _ in range(12)] == [How.ANSWERED] * 12
        client.close()
    assert until(lambda: not any(pod.links for pod in pods), 10.0)
