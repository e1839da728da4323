"""Slow start: a newcomer among elders is not flooded, and not starved."""

import pytest

from kubelb.core.health.slow_start import SlowStart

from .kit import Rig, pod, pods

POLICIES = ["round_robin", "random", "least_request", "peak_ewma"]


@pytest.mark.parametrize("options", [{"window": -1}, {"window": float("inf")}, {"min_share": 0}, {"min_share": 1.1}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    """The error names the option and what to give."""
    with pytest.raises(ValueError, match=rf"{next(iter(options))}.*give"):
        SlowStart(**options)


def test_the_share_grows_from_the_least_to_all() -> None:
    """Linear in age, never below `min_share`; a window of 0 holds nothing back."""
    config = SlowStart(window=30, min_share=0.1)
    assert [config.share(age) for age in (0, 3, 15, 30, 99)] == [0.1, 0.1, 0.5, 1.0, 1.0]
    assert SlowStart(window=0).share(0) == 1.0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_a_newcomer_gets_less_than_its_share_and_more_than_nothing(policy: str, count: int) -> None:
    """Of 4000 picks in its first second it gets some, and at most 0.75 of a fair share (0.1 is its own; it is idle)."""
    rig = Rig(count, policy)
    rig.picks(100)
    rig.clock.advance(1)
    rig.set(pods(count + 1))
    held = [rig.lease(number) for number in range(count)]  # elders are at work, the newcomer is not
    seen = rig.picks(4000)
    fair = 4000 / (count + 1)
    assert 0.03 * fair < seen[pod(count).ip] < 0.75 * fair
    del held


@pytest.mark.parametrize("policy", POLICIES)
def test_after_the_window_it_is_one_like_the_others(policy: str) -> None:
    """Thirty seconds on, the shares of 8000 picks are even to 20 % (peak EWMA 40 %)."""
    rig = Rig(3, policy)
    rig.set(pods(4))
    for _ in range(40):
        rig.clock.advance(1)
        rig.picks(10)
    seen = rig.picks(8000)
    assert all(abs(times - 2000) < (800 if policy == "peak_ewma" else 400) for times in seen.values())


def test_where_everybody_is_new_nothing_is_held_back() -> None:
    """The first snapshot, and one that replaces every pod, are picked from evenly."""
    rig = Rig(4, "random")
    assert min(rig.picks(2000).values()) > 400
    rig.set(tuple(pod(number, 1) for number in range(4)))
    assert min(rig.picks(2000).values()) > 400
    assert all(view.state == "ready" for view in rig.balancer.view())


def test_newcomers_without_elders_left_are_not_held_back() -> None:
    """Where the elders leave during the window, newcomers have nobody to give way to."""
    rig = Rig(2, "random")
    rig.set(pods(4))
    rig.set(pods(4)[2:])
    assert min(rig.picks(1000).values()) > 400


def test_it_begins_when_a_pod_comes_into_use_not_when_it_is_first_seen() -> None:
    """A pod is known before it is ready: its slow start begins with readiness, a minute later."""
    rig = Rig(3, "random")
    rig.set(pods(3), (pod(3),))
    rig.clock.advance(60)
    rig.set(pods(4))
    assert rig.picks(2000)["10.0.0.3"] < 200
    assert [view.state for view in rig.balancer.view()] == ["ready"] * 3 + ["warming"]


def test_many_newcomers_do_not_leave_all_to_one_elder() -> None:
    """One elder among nine that are half warm gets at most three fair shares."""
    rig = Rig(1, "random")
    rig.set(pods(10))
    rig.clock.advance(15)
    assert rig.picks(4000)["10.0.0.0"] < 3 * 400


def test_it_works_without_outlier_detection() -> None:
    """The end of a window is noticed by the pick that comes after it."""
    rig = Rig(3, "random", outliers=None)
    rig.set(pods(4))
    assert rig.picks(1000)["10.0.0.3"] < 100
    rig.clock.advance(30)
    assert rig.picks(1000)["10.0.0.3"] > 180
    assert rig.balancer._wake == float("inf")


def test_none_switches_it_off() -> None:
    """With slow_start=None a newcomer has its share at once."""
    rig = Rig(3, "random", slow_start=None)
    rig.set(pods(4))
    assert rig.picks(2000)["10.0.0.3"] > 400
    rig.eject(0)
    rig.clock.advance(13)
    rig.balancer.pick().release()
    assert rig.picks(2000)["10.0.0.0"] > 400
