"""Options that a LoadBalancer cannot be made of: an error of the constructor that names the value and the cure.

Found out later, they would break the thread that brings the endpoints, and each call would time out.
"""

import copy
import pickle
from typing import Any

import pytest
from tests.spelled import spelled

from kubelb import LoadBalancer, RoundRobin
from kubelb.service import service_of

TARGET = "reviews.prod:http"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retry": 3}, r"retry=3: give a kubelb.Retry\(...\), or None"),
        ({"outliers": True}, r"outliers=True: give a kubelb.OutlierDetection\(...\), or None"),
        ({"limits": 100}, r"limits=100: give a kubelb.ConcurrencyLimits\(...\), or None"),
        ({"breaker": True}, r"breaker=True: give a kubelb.CircuitBreaker\(...\), or None"),
        ({"slow_start": 30.0}, r"slow_start=30.0: give a kubelb.SlowStart\(...\), or None"),
        ({"telemetry": "otel"}, r"telemetry='otel': give True, False or a kubelb.Telemetry"),
        ({"policy": RoundRobin}, r"policy=RoundRobin is a class; give an object of it, RoundRobin\(\)"),
    ],
)
def test_options_of_another_kind(options: dict[str, Any], said: str) -> None:
    """Each is named."""
    with pytest.raises(TypeError, match=said):
        LoadBalancer(TARGET, **spelled(options))


@pytest.mark.parametrize("timeout", ["5", None, -1.0, float("nan")])
def test_ready_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    """Zero means not to wait, and infinity to wait for as long as a call has time."""
    with pytest.raises(ValueError, match=r"ready_timeout=.*: give a number of seconds"):
        LoadBalancer(TARGET, ready_timeout=timeout)
    for good in (0, 2.5, float("inf")):
        assert service_of(LoadBalancer(TARGET, ready_timeout=good)).ready_timeout == good


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_load_balancer_is_not_pickled(way: Any) -> None:
    """It says why, and what to do."""
    with pytest.raises(TypeError, match=r"cannot be pickled or copied: .* make one in each, by its target"):
        way(LoadBalancer(TARGET))
