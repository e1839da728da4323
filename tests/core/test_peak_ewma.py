"""Peak EWMA in a small simulated service: sinkholes, stale endpoints, newcomers, lock-in."""

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from kubelb.core.lease import Lease
from kubelb.core.policies.peak_ewma import UNKNOWN, load
from kubelb.model import Outcome

from .kit import Rig, failed, pods


def serve(rig: Rig, seconds: float, rate: float, answer: Callable[[str], tuple[float, Outcome]]) -> Counter[str]:
    """Send `rate` requests a second; `answer(ip)` says how long each takes and how it ends."""
    seen: Counter[str] = Counter()
    running: list[tuple[float, int, Lease, Outcome]] = []
    order = count()
    end = rig.clock() + seconds
    due = rig.clock()
    while due < end:
        while running and running[0][0] <= due:
            at, _, lease, outcome = heapq.heappop(running)
            rig.clock.now = at
            lease.release(outcome)
        rig.clock.now = due
        lease = rig.balancer.pick()
        seen[lease.endpoint.ip] += 1
        took, outcome = answer(lease.endpoint.ip)
        heapq.heappush(running, (due + took, next(order), lease, outcome))
        due += 1 / rate
    return seen


@pytest.mark.parametrize("size", [2, 3, 5, 10])
def test_failing_fast_attracts_nobody(size: int) -> None:
    """A pod that fails in a millisecond beside pods that answer in 20 gets no more than its fair share."""
    rig = Rig(size, "peak_ewma", outliers=None)
    seen = serve(rig, 60, 50, lambda ip: (0.001, failed()) if ip == "10.0.0.0" else (0.02, Outcome()))
    assert seen["10.0.0.0"] <= 3000 / size * 0.1


@pytest.mark.parametrize("hint", [0.0, None])
def test_refusing_with_429_attracts_nobody(hint: float | None) -> None:
    """Nor does one that says "too many requests" at once, whatever Retry-After it names."""
    from .kit import busy

    rig = Rig(3, "peak_ewma")
    seen = serve(rig, 60, 50, lambda ip: (0.001, busy(hint)) if ip == "10.0.0.0" else (0.02, Outcome()))
    assert seen["10.0.0.0"] <= 100


def test_the_slower_pod_gets_less() -> None:
    """Three pods at 10 ms and one at 100 ms: the slow one gets well below a quarter, and something."""
    rig = Rig(4, "peak_ewma")
    seen = serve(rig, 60, 100, lambda ip: (0.1 if ip == "10.0.0.0" else 0.01, Outcome()))
    assert 5 <= seen["10.0.0.0"] < 600


def test_slow_once_is_not_slow_for_ever() -> None:
    """Two pods that were slow once are tried again: after two minutes each has its part of sequential calls."""
    rig = Rig(3, "peak_ewma")
    for number in (0, 1):
        lease = rig.lease(number)
        rig.clock.advance(2)
        lease.release()
    serve(rig, 120, 20, lambda ip: (0.005, Outcome()))
    seen = serve(rig, 60, 20, lambda ip: (0.005, Outcome()))
    assert min(seen[f"10.0.0.{number}"] for number in range(3)) > 120


def test_who_keeps_failing_gets_one_probe_per_hold() -> None:
    """It is asked about once in 4 s (`kubelb.core.charges`): at most 30 times in 100 s, at least 20."""
    rig = Rig(5, "peak_ewma", outliers=None)
    serve(rig, 20, 100, lambda ip: (0.01, failed() if ip == "10.0.0.0" else Outcome()))
    seen = serve(rig, 100, 100, lambda ip: (0.01, failed() if ip == "10.0.0.0" else Outcome()))
    assert 20 <= seen["10.0.0.0"] <= 30


def test_a_stale_endpoint_gets_one_probe_per_decay() -> None:
    """A pod that is a thousand times as slow is asked about once in 10 s: at most 12 times in 100 s, at least 5."""
    rig = Rig(5, "peak_ewma")
    serve(rig, 20, 100, lambda ip: (5.0 if ip == "10.0.0.0" else 0.005, Outcome()))
    seen = serve(rig, 100, 100, lambda ip: (5.0 if ip == "10.0.0.0" else 0.005, Outcome()))
    assert 5 <= seen["10.0.0.0"] <= 12


def test_the_probe_is_one_at_a_time() -> None:
    """A stale endpoint whose probe hangs gets no second one while others are quick."""
    rig = Rig(3, "peak_ewma")
    for number in range(3):
        rig.lease(number).release(failed())
    rig.clock.advance(10.1)
    for number in (1, 2):
        lease = rig.lease(number)
        rig.clock.advance(0.001)
        lease.release(Outcome())
        rig.state(number).cost = 0.01
    held = [rig.balancer.pick() for _ in range(200)]
    assert sum(lease.endpoint.ip == "10.0.0.0" for lease in held) <= 2


def test_a_newcomer_gets_one_probe_then_its_slow_start() -> None:
    """Until the first answer of a new pod it has one request; after it, a growing share."""
    rig = Rig(3, "peak_ewma")
    serve(rig, 10, 100, lambda ip: (0.01, Outcome()))
    rig.set(pods(4))
    hung = serve(rig, 2, 100, lambda ip: (1.9 if ip == "10.0.0.3" else 0.01, Outcome()))
    assert hung["10.0.0.3"] == 1
    first = serve(rig, 5, 100, lambda ip: (0.01, Outcome()))
    assert first["10.0.0.3"] < 0.75 * 125
    serve(rig, 25, 100, lambda ip: (0.01, Outcome()))
    later = serve(rig, 30, 100, lambda ip: (0.01, Outcome()))
    assert later["10.0.0.3"] > 450


def test_load_is_unknown_while_the_first_request_runs() -> None:
    """Never sampled: 0 when idle, UNKNOWN per request when not; stale: 0 when idle, its decayed cost when not."""
    rig = Rig(1, "peak_ewma")
    state = rig.state(0)
    assert load(state, rig.clock(), 10.0) == 0.0
    held = [rig.lease(0), rig.lease(0)]
    assert load(state, rig.clock(), 10.0) == 2 * UNKNOWN
    held.pop().release(Outcome(latency=1.0))
    assert load(state, rig.clock(), 10.0) == pytest.approx(2.0)
    rig.clock.advance(10.5)
    assert load(state, rig.clock(), 10.0) == pytest.approx(2.0 * 2.718281828**-1.05)
    held.pop().release(None)
    assert load(state, rig.clock(), 10.0) == 0.0
