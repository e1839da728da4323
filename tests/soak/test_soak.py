"""The soak in short, as CI runs it; its long form is a command (see the package)."""

import pytest
from tests.soak.soak import soak

SECONDS = 25.0


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.timeout(240)
def test_nothing_is_lost_hung_or_sent_twice() -> None:
    """Every adapter at once, pods that fail all the time: nothing in flight, no task, thread or descriptor is left, and
    what must not be repeated was delivered once."""
    report = soak(SECONDS, seed=1)
    report.print()
    assert not report.problems
