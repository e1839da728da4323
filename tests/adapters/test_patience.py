"""The rule for how long connecting may take, under a clock that is turned by hand."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.adapters.conftest import worlds
from tests.adapters.world import World
from tests.core.kit import Clock

from kubelb import ConcurrencyLimits, Endpoint, LoadBalancer, Retry, RetryBudget
from kubelb.adapters._httpx.timeouts import set_apart
from kubelb.adapters.defaults import CONNECT, HANDSHAKE
from kubelb.adapters.patience import Pace, Patience, Step
from kubelb.service import service_of


class LateError(Exception):
    """Out of time."""


class Rig:
    """A service of so many pods, and what a transport knows of it."""

    def __init__(self, make: Callable[..., LoadBalancer], pods: int, **options: Any) -> None:
        self.clock = Clock()
        lb = make(*(f"10.0.0.{number}:80" for number in range(1, pods + 1)), clock=self.clock, **options)
        self.service = service_of(lb)
        self.patience = Patience(self.service)
        self.states = self.service.balancer.states()

    def wait(
        self, pace: Pace, pod: int = 0, number: int = 1, own: float | None = 5.0, left: Any = "own", apart: bool = False
    ) -> Step:
        left = own if left == "own" else left
        return pace.wait(self.states[pod], number, own, left, LateError, apart=apart)

    def ends(self, step: Step, after: float | None = None) -> None:
        """It takes so many seconds; None for too many."""
        try:
            with step as seconds:
                self.clock.advance(after if after is not None else seconds or 0.0)
                if after is None:
                    raise LateError
        except LateError:
            pass


@pytest.fixture
def rig(balance: Callable[..., LoadBalancer]) -> Callable[..., Rig]:
    return lambda pods=3, **options: Rig(balance, pods, **options)


def test_a_pod_that_does_not_answer_is_left_early_where_there_is_another(rig: Any) -> None:
    """TCP after a second; TLS, of which nothing is known, with a second kept back for the next pod."""
    rig = rig()
    assert rig.wait(rig.patience.tcp).seconds == CONNECT
    assert rig.wait(rig.patience.tls).seconds == 4.0
    assert rig.wait(rig.patience.tls, own=30.0).seconds == HANDSHAKE
    assert rig.wait(rig.patience.tls, own=None).seconds == HANDSHAKE
    assert rig.wait(rig.patience.tcp, own=None).seconds == CONNECT


@pytest.mark.parametrize("step", ["tcp", "tls"])
def test_a_quarter_of_a_short_time_is_kept_back(rig: Any, step: str) -> None:
    """With a timeout of a second, or with that much left of a longer one."""
    rig = rig()
    assert rig.wait(getattr(rig.patience, step), own=1.0).seconds == 0.75
    assert rig.wait(getattr(rig.patience, step), own=30.0, left=0.4).seconds == pytest.approx(0.3)


@pytest.mark.parametrize("step", ["tcp", "tls"])
@pytest.mark.parametrize(("own", "left", "given"), [(10.0, 30.0, 10.0), (0.2, 30.0, 0.2), (10.0, 3.0, 3.0)])
def test_a_timeout_that_was_set_apart_is_kept(rig: Any, step: str, own: float, left: float, given: float) -> None:
    """Longer or shorter than ours: exactly that, within the end of the call."""
    rig = rig()
    assert rig.wait(getattr(rig.patience, step), own=own, left=left, apart=True).seconds == given
    assert not rig.patience.hasty


@pytest.mark.parametrize("step", ["tcp", "tls"])
def test_what_cannot_lead_on_is_waited_for(rig: Any, step: str) -> None:
    """One pod, one attempt, the last try, a budget that is empty: to leave would be to fail."""

    def seconds(of: Rig, **options: Any) -> float | None:
        return of.wait(getattr(of.patience, step), **options).seconds

    assert seconds(rig(pods=1)) == 5.0
    assert seconds(rig(pods=1), own=None) is None
    assert seconds(rig(retry=None)) == 5.0
    assert seconds(rig(), number=3) == 5.0
    assert seconds(rig(retry=Retry(budget=RetryBudget(ratio=0.0, floor=0.0)))) == 5.0
    assert seconds(rig(limits=ConcurrencyLimits(max_retries=0))) == 5.0
    assert seconds(rig(limits=ConcurrencyLimits(max_retries=0, observe=True))) < 5.0
    assert seconds(rig(retry=Retry(budget=None))) < 5.0


def test_no_more_leave_early_than_the_budget_has_tries_for(rig: Any) -> None:
    """Each that does counts on a try of its own; one that has ended counts no more."""
    rig = rig(retry=Retry(budget=RetryBudget(ratio=0.0, floor=2.0)))
    first, second, third = (rig.wait(rig.patience.tls) for _ in range(3))
    assert [step.seconds for step in (first, second, third)] == [4.0, 4.0, 5.0]
    assert rig.wait(rig.patience.tcp).seconds == 5.0
    rig.ends(first, after=0.1)
    assert rig.wait(rig.patience.tcp).seconds == CONNECT


def test_a_wait_that_is_lost_counts_no_more(rig: Any) -> None:
    """An interrupt came before it began."""
    rig = rig(retry=Retry(budget=RetryBudget(ratio=0.0, floor=1.0)))
    lost = rig.wait(rig.patience.tls)
    assert rig.wait(rig.patience.tls).seconds == 5.0
    del lost
    assert rig.wait(rig.patience.tls).seconds == 4.0


def test_handshakes_that_are_quick_make_a_slow_one_stand_out(rig: Any) -> None:
    """Once one has taken 10 ms, another pod's is given a second; where one takes 1.3 s, three times that."""
    quick, slow = rig(), rig()
    quick.ends(quick.wait(quick.patience.tls), after=0.01)
    assert quick.wait(quick.patience.tls, own=30.0).seconds == 1.0
    slow.ends(slow.wait(slow.patience.tls), after=1.3)
    assert slow.wait(slow.patience.tls, own=30.0).seconds == pytest.approx(3.9)
    assert slow.wait(slow.patience.tls, own=5.0).seconds == pytest.approx(3.9)
    assert slow.wait(slow.patience.tls, own=3.0).seconds == pytest.approx(2.6)  # the next one would not fit in anyway


def test_one_slow_pod_among_quick_ones_stays_the_exception(rig: Any) -> None:
    """Its own successes lift the bar to twice of what it was at most, and the next quick one puts it back."""
    rig = rig()
    tls = rig.patience.tls
    rig.ends(rig.wait(tls), after=0.01)
    rig.ends(rig.wait(tls, pod=1, number=3), after=3.0)
    assert rig.wait(tls, pod=1, own=30.0).seconds == 1.0
    rig.ends(rig.wait(tls, pod=1))
    rig.ends(rig.wait(tls, pod=2), after=0.01)
    rig.ends(rig.wait(tls, pod=1))
    assert rig.wait(tls, pod=1, own=30.0).seconds == 1.0


def test_a_service_that_has_become_slow_is_no_longer_measured_by_better_times(rig: Any) -> None:
    """Two pods out of time and no success since: as if nothing were known; then the next success says how it is."""
    rig = rig()
    tls = rig.patience.tls
    rig.ends(rig.wait(tls), after=0.01)
    rig.ends(rig.wait(tls, pod=0))
    rig.ends(rig.wait(tls, pod=0))
    assert rig.wait(tls, pod=0, own=30.0).seconds == 1.0
    rig.ends(rig.wait(tls, pod=1))
    assert rig.wait(tls, pod=2, own=30.0).seconds == HANDSHAKE
    rig.ends(rig.wait(tls, pod=2), after=2.0)
    assert rig.wait(tls, pod=0, own=30.0).seconds == pytest.approx(6.0)


@pytest.mark.parametrize("step", ["tcp", "tls"])
def test_where_all_are_slow_alike_none_is_left(rig: Any, step: str) -> None:
    """Every pod is out of time since the last success; one that comes new is another pod, and none of them."""
    rig = rig(pods=2)
    pace = getattr(rig.patience, step)
    rig.ends(rig.wait(pace, pod=0))
    rig.ends(rig.wait(pace, pod=1))
    assert rig.wait(pace, pod=0, own=30.0).seconds == 30.0
    rig.ends(rig.wait(pace, pod=0, own=30.0), after=8.0)
    assert rig.wait(pace, pod=0, own=60.0).seconds == pytest.approx(24.0)


def test_an_end_of_another_kind_says_nothing(rig: Any) -> None:
    """Refused, reset, cancelled: neither quick nor late."""
    rig = rig(pods=2)
    for pod in (0, 1):
        with pytest.raises(OSError, match="refused"), rig.wait(rig.patience.tls, pod=pod, own=30.0):
            raise OSError("refused")
    assert rig.wait(rig.patience.tls, own=30.0).seconds == HANDSHAKE


def test_endpoints_that_are_gone_are_not_kept(rig: Any) -> None:
    """What ran out of time and went away is forgotten at the next chance."""
    rig = rig(pods=2)
    balancer, tls = rig.service.balancer, rig.patience.tls
    rig.ends(rig.wait(tls, pod=0))
    assert balancer.snapshot is not None
    ports = [Endpoint("10.0.0.2", 80), Endpoint("10.0.0.9", 80)]
    balancer.update(type(balancer.snapshot)(balancer.snapshot.version + 1, tuple(ports)))
    gone, rig.states = rig.states[0], balancer.states()
    rig.ends(tls.wait(rig.states[0], 1, 5.0, 5.0, LateError, apart=False))
    assert gone.removed
    assert gone not in tls._late


@pytest.mark.parametrize("name", worlds(""))
def test_when_httpx_has_a_connect_timeout_set_apart(name: str) -> None:
    """A number that no other part has; one that fills in the others, or that equals them, is for everything."""
    Timeout = World(name).httpx.Timeout
    for timeout in (Timeout(5), Timeout(5, read=60), Timeout(5, connect=5), Timeout(None), Timeout(5, connect=None)):
        assert not set_apart(timeout.as_dict()), timeout
    for timeout in (Timeout(5, connect=10), Timeout(None, connect=3), Timeout(600, connect=5), Timeout((3, 60))):
        assert set_apart(timeout.as_dict()), timeout
    assert set_apart({"connect": 2.0})
    assert not set_apart({})
