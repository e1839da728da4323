"""What every option has in common: what is no number, no switch, nothing of its kind is refused where it is given."""

import asyncio
import math
import random
from dataclasses import fields
from typing import Any

import pytest

import kubelb
from kubelb.core import Balancer
from kubelb.core.options import awaitable

from .kit import Rig

OPTIONS: tuple[type, ...] = (
    kubelb.Retry,
    kubelb.RetryBudget,
    kubelb.FullJitter,
    kubelb.OutlierDetection,
    kubelb.ConcurrencyLimits,
    kubelb.CircuitBreaker,
    kubelb.SlowStart,
    kubelb.policies.PeakEwma,
    kubelb.policies.RingHash,
    kubelb.policies.KeySource,
    kubelb.Telemetry,
)
EACH = [(kind, field.name, field.default) for kind in OPTIONS for field in fields(kind) if field.init]


@pytest.mark.parametrize(("kind", "name", "default"), EACH)
def test_an_option_of_another_type_is_refused_by_name(kind: type, name: str, default: object) -> None:
    """Text from the environment, NaN, a list, a truth value for a number: its value stands in the error, and a cure."""
    strange: list[object] = [math.nan, ["x"], b"x", object()]
    if not isinstance(default, str) and name not in {"header", "cookie"}:
        strange += ["0.5", "false", ""]
    if not isinstance(default, bool):
        strange.append(True)
    for value in strange:
        with pytest.raises((TypeError, ValueError)) as caught:
            kind(**{name: value})
        assert f"{name}={value!r}" in str(caught.value)
        assert "give" in str(caught.value)


@pytest.mark.parametrize("attempts", [math.inf, 2.5, 0, -1])
def test_attempts_are_a_whole_number(attempts: Any) -> None:
    """Infinity would try for as long as there is a budget."""
    with pytest.raises(ValueError, match=r"Retry\(attempts=.*give a whole number, 1 or more"):
        kubelb.Retry(attempts=attempts)


def test_a_retry_has_a_way_to_wait() -> None:
    """None is a default of the others; without a wait the first retry would fail."""
    with pytest.raises(TypeError, match=r"Retry\(wait=None\): give a strategy of tenacity's, such as wait_fixed"):
        kubelb.Retry(wait=None)  # type: ignore[arg-type]
    assert kubelb.Retry(stop=None, retry=None, budget=None).attempts == 3


def test_a_generator_of_chance_is_one() -> None:
    """A seed in its place is refused."""
    with pytest.raises(TypeError, match=r"rng=7: give a random\.Random\(...\), or None"):
        kubelb.FullJitter(rng=7)  # type: ignore[arg-type]
    assert kubelb.FullJitter(rng=random.Random(7)).rng


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("outliers", "OutlierDetection"),
        ("limits", "ConcurrencyLimits"),
        ("breaker", "CircuitBreaker"),
        ("slow_start", "SlowStart"),
    ],
)
def test_a_mechanism_is_given_by_its_options(name: str, kind: str) -> None:
    """True, a number, the class in place of one made of it: refused at once, not by the first request."""
    for value in (True, 5, getattr(kubelb, kind)):
        with pytest.raises(TypeError, match=rf"{name}=.*: give a kubelb\.{kind}\(...\), or None"):
            Balancer(**{name: value})


def test_a_snapshot_holds_tuples() -> None:
    """A list, an Endpoint where the comma is missing, nothing: told when the snapshot is made, not by its update."""
    endpoint = kubelb.Endpoint("10.0.0.1", 80)
    strange: Any
    for strange, kind in (([endpoint], "list"), (endpoint, "Endpoint"), (None, "NoneType")):
        with pytest.raises(TypeError, match=rf"endpoints=\.\.\.\) is of type {kind}: give a tuple of Endpoints"):
            kubelb.Snapshot(1, strange)
        with pytest.raises(TypeError, match=r"Snapshot\(parked="):
            kubelb.Snapshot(1, (), strange)


def test_what_an_async_call_may_return() -> None:
    """Something to await; a plain function is told by its name, a callable object by its class."""

    async def ask() -> int:
        return 7

    async def asked() -> int:
        return await awaitable(ask, ask())

    assert asyncio.run(asked()) == 7
    made: Any = 7
    with pytest.raises(TypeError, match=r"acall\(.*ask\): it returned int, not an awaitable"):
        awaitable(ask, made)
    with pytest.raises(TypeError, match=r"acall\(Rig\): it returned int"):
        awaitable(Rig(1), made)
