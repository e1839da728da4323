"""Whether traffic reaches any of the endpoints, from what leases reported."""

import pytest

from kubelb import Endpoint, Snapshot
from kubelb.core import Balancer
from kubelb.core.reach import LATELY, SUCCESS, reached
from kubelb.model import Outcome, Sent, Verdict

REFUSED = Sent.NEVER
RESET = Sent.MAYBE


class World:
    def __init__(self, count=3):
        self.now = 100.0
        self.balancer = Balancer("round_robin", outliers=None, clock=lambda: self.now)
        self.balancer.update(Snapshot(1, tuple(Endpoint(f"10.0.0.{n}", 80) for n in range(count))))

    def ask(self, sent=None, times=1):
        """So many requests, one endpoint after the other: refused, reset, or answered."""
        for _ in range(times):
            outcome = Outcome() if sent is None else Outcome(Verdict.FAILED, sent=sent)
            self.balancer.pick().release(outcome)

    def reached(self, **options):
        return reached(self.balancer.states(), self.now, **options)


@pytest.fixture
def world():
    return World()


def test_nobody_knows_without_traffic(world):
    """None at first, of nobody, and when what is known is old."""
    assert world.reached() is None
    assert reached((), world.now) is None
    world.ask()
    assert world.reached() is True
    world.now += SUCCESS
    assert world.reached() is None


def test_all_refuse(world):
    """It takes a few failures, of all; one that answers is enough to say so; and failures grow old."""
    world.ask(REFUSED, 4)
    assert world.reached() is None
    world.ask(REFUSED, 2)
    assert world.reached() is False
    world.now += LATELY
    assert world.reached() is None
    world.ask(REFUSED, 6)
    world.ask()
    assert world.reached() is True


def test_of_many_a_few_are_enough():
    """Three witnesses, of a hundred."""
    world = World(100)
    world.ask(REFUSED, 4)
    assert world.reached() is None
    world.ask(REFUSED, 1)
    assert world.reached() is False


def test_other_failures_count_where_asked(world):
    """A reset is no sign that nobody is there; a refusal after it is again."""
    world.ask(RESET, 6)
    assert world.reached() is None
    assert world.reached(any_failure=True) is False
    world.ask(REFUSED, 6)
    assert world.reached() is False
    world.ask(RESET, 3)
    assert world.reached() is None


def test_a_connect_that_nothing_answers_counts(world):
    """It could not connect, as where it is refused; silence after the request was sent is another thing."""
    for sent, expected in ((Sent.MAYBE, None), (Sent.NEVER, False)):
        for _ in range(6):
            world.balancer.pick().release(Outcome(Verdict.SILENT, sent=sent, latency=1.0))
        assert world.reached() is expected
