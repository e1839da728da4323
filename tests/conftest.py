"""What all tests share: hypothesis draws the same examples in every run; no test leaves a thread of ours behind."""

import gc
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings, strategies

settings.register_profile("kubelb", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kubelb")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hundreds of tests collect garbage at their end: they are spared what was loaded before the first of them.

    With its first example hypothesis looks for who refers to its sources of chance, and frozen objects refer to
    nothing: so that one comes before.
    """
    given(strategies.none())(lambda _: None)()
    gc.collect()
    gc.freeze()


def ours() -> set[threading.Thread]:
    return {
        each for each in threading.enumerate() if each.name.startswith(("kubelb-watch", "kubelb-dns", "kubelb-timer"))
    }


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """A load balancer that a test forgets to close would be found by the next test, far from its cause."""
    before = ours()
    yield
    until = time.monotonic() + 5.0
    while (left := ours() - before) and time.monotonic() < until:
        time.sleep(0.005)
    assert not left, f"left behind: {left}"
