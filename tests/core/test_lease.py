"""Lease and EndpointState: in flight exactly while it is held, an end that counts once."""

import gc
import threading

import pytest

from kubelb.core import EndpointState, Phase
from kubelb.model import CANCELLED, SUCCESS, Outcome, Verdict

from .kit import Rig, failed, pod


def test_counts_from_the_pick_to_the_release() -> None:
    """A lease is in flight from the pick until it is released."""
    rig = Rig(1)
    lease = rig.balancer.pick()
    assert lease.state.in_flight == 1
    assert not lease.released
    lease.release()
    assert lease.state.in_flight == 0
    assert lease.released


def test_only_the_first_release_counts() -> None:
    """Releasing again, with whatever outcome, changes nothing."""
    rig = Rig(1)
    lease = rig.balancer.pick()
    lease.release()
    lease.release(failed())
    lease.release(None)
    assert (lease.state.in_flight, lease.state.successes, lease.state.failures) == (0, 1, 0)


def test_a_lost_lease_stops_counting() -> None:
    """A lease that nobody holds any more is not in flight, and says nothing about health."""
    rig = Rig(1)
    rig.balancer.pick()
    state = rig.state(0)
    assert (state.in_flight, state.successes, state.failures) == (0, 0, 0)


def test_a_lease_lost_in_a_cycle_stops_counting() -> None:
    """The same where only the garbage collector can find it."""
    rig = Rig(1)
    cycle: list[object] = [rig.balancer.pick()]
    cycle.append(cycle)
    state = rig.state(0)
    assert state.in_flight == 1
    del cycle
    gc.collect()
    assert state.in_flight == 0


def test_release_none_says_nothing() -> None:
    """A release without an outcome ends the request and leaves health alone."""
    rig = Rig(1)
    lease = rig.balancer.pick()
    rig.clock.advance(2)
    lease.release(None)
    assert (lease.state.successes, lease.state.failures, lease.state.cost) == (0, 0, 0.0)


def test_latency_is_taken_at_the_headers() -> None:
    """A body that is read slowly does not make the endpoint look slow."""
    rig = Rig(1)
    lease = rig.balancer.pick()
    rig.clock.advance(0.5)
    lease.observe(Outcome(open=True))
    rig.clock.advance(60)
    lease.observe(failed())  # only the first counts
    lease.release()
    assert lease.state.cost == pytest.approx(0.5)
    assert (lease.state.successes, lease.state.failures) == (1, 0)


def test_headers_that_failed_are_not_forgiven_at_the_end_of_their_body() -> None:
    """A 503 whose body is read to its end stays one failure in a row, and a broken one does not become two."""
    rig = Rig(2)
    for number, end in enumerate((SUCCESS, failed())):
        lease = rig.lease(number)
        lease.observe(failed(open=True))
        lease.release(end)
        assert (lease.state.consecutive, lease.state.failures) == (1, 1)


def test_a_body_that_breaks_is_a_failure() -> None:
    """Headers were fine, the body was cut: that counts against the endpoint."""
    rig = Rig(1)
    lease = rig.balancer.pick()
    lease.observe(Outcome(open=True))
    lease.release(failed())
    assert (lease.state.consecutive, lease.state.failures) == (1, 1)


def test_a_body_that_is_cut_by_the_caller_says_nothing() -> None:
    """Closing early neither ends a streak nor makes one."""
    rig = Rig(1)
    rig.fail(0, 2)
    lease = rig.balancer.pick()
    lease.observe(Outcome(open=True))
    lease.release(CANCELLED)
    assert rig.state(0).consecutive == 2


def test_eight_threads_of_random_ends_leave_nothing_in_flight() -> None:
    """A storm of releases, double releases, observations and losses from eight threads ends at zero."""
    rig = Rig(5, "peak_ewma")
    ends = [SUCCESS, failed(), CANCELLED, None, Outcome(Verdict.BUSY), Outcome(Verdict.NEUTRAL)]

    def storm(seed: int) -> None:
        kept = []
        for turn in range(1500):
            lease = rig.balancer.pick()
            way = (turn * 7 + seed) % 9
            if way < 6:
                lease.release(ends[way])
            elif way == 6:
                lease.observe(Outcome(open=True))
                kept.append(lease)
            if way == 3:
                lease.release()
        for lease in kept:
            lease.release()
            lease.release()

    threads = [threading.Thread(target=storm, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [state.in_flight for state in rig.balancer.states()] == [0] * 5
    assert all(state.phase in Phase for state in rig.balancer.states())


def test_reprs_say_what_matters() -> None:
    """One line shows address, phase, in flight; a lease says whether it is released."""
    rig = Rig(1)
    lease = rig.balancer.pick()
    assert repr(lease) == "<Lease 10.0.0.0:80>"
    lease.release()
    assert repr(lease) == "<Lease 10.0.0.0:80 released>"
    state = EndpointState(pod(1), None)
    state.in_use = True
    assert repr(state) == "<10.0.0.1:80 active in_flight=0 cost=0.0000>"
    state.in_use = False
    assert "parked" in repr(state)
    state.removed = True
    assert "removed" in repr(state)
