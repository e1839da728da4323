"""Losses: which calls share the loss of a connection, by what was seen of it and when."""

import pytest

from kubelb.adapters._grpc.shared.losses import KEPT, LAG, OUTLIVED, SHARED, TRUST, Losses
from kubelb.model import Incident

AGED = "Stream removed (Socket closed (GOAWAY received; Error code: 0; Debug Text: max_age))"


def shared(losses: Losses, start: float, now: float, details: str = "Socket closed", *, trust: bool = True) -> Incident:
    incident = losses.of(start, now, details, trust=trust)
    assert incident is not None
    return incident


def test_calls_that_began_before_a_loss_share_it() -> None:
    """However late each is told of it; what begins afterwards has a connection of its own."""
    losses = Losses()
    losses.failed(1.0, 10.0)
    one = shared(losses, 1.0, 10.0)
    losses.failed(9.9, 10.2)
    assert shared(losses, 9.9, 10.2) is one
    assert losses.of(10.1, 10.2, "", trust=False) is None
    losses.failed(10.1, 20.0)
    other = shared(losses, 10.1, 20.0)
    assert other is not one
    assert shared(losses, 5.0, 20.1) is one


def test_a_pick_that_finds_no_connection_sees_a_loss_once() -> None:
    """Asked again and again while nothing begins there, it is the same loss."""
    losses = Losses()
    for n in range(100):
        losses.passed_over(7, 10.0 + n / 1000)
    one = shared(losses, 9.0, 10.2)
    assert shared(losses, 10.0, 10.2) is one
    losses.passed_over(8, 11.0)
    assert shared(losses, 10.5, 11.0) is not one


def test_calls_that_are_told_before_the_state_changes() -> None:
    """The first sees its connection READY yet: it is believed, and what it shares is the loss that is seen next."""
    losses = Losses()
    one = shared(losses, 1.0, 10.0)
    assert shared(losses, 2.0, 10.001) is one
    losses.failed(3.0, 10.002)
    assert shared(losses, 3.0, 10.002) is one
    assert shared(losses, 4.0, 10.002 + SHARED * 2) is one, "it was seen, so it counts for as long as calls last"
    assert shared(losses, 11.0, 12.0) is not one, "trust was justified, so it is given again"


def test_calls_that_begin_before_the_state_changes() -> None:
    """Kind: a loss counted once for each call. Many begin on a busy machine until the state says that all is lost."""
    losses, later = Losses(), 10.0 + LAG / 2
    one = shared(losses, 1.0, 10.0)
    assert losses.of(later, 10.0 + LAG, "", trust=True, among=True) is one
    assert losses.of(later, 10.0 + LAG, "", trust=True) is None, "alone"
    assert losses.of(later, 10.0 + LAG, "", trust=False, among=True) is None
    assert losses.of(10.0 + LAG * 2, 10.0 + LAG * 3, "", trust=True, among=True) is None, "on another, if any"
    losses.failed(10.0 + LAG, 10.0 + LAG * 2)
    assert shared(losses, 10.0 + LAG * 1.5, 10.0 + LAG * 4) is one
    assert losses.of(10.0 + LAG * 2.5, 10.0 + LAG * 4, "", trust=True, among=True) is not one, "it was seen: no lag"


def test_trust_that_nothing_justifies_is_short_and_rare() -> None:
    """Kind: a server that hides its failures by claiming what it has not done."""
    losses = Losses()
    one = shared(losses, 1.0, 10.0)
    assert shared(losses, 9.0, 10.0 + SHARED / 2) is one
    assert losses.of(9.0, 10.0 + SHARED, "", trust=True) is None
    assert losses.of(11.0, 12.0, "", trust=True) is None
    assert shared(losses, 12.0, 10.0 + TRUST) is not one


def test_statuses_of_the_application_are_not_taken_for_a_loss() -> None:
    """INTERNAL and UNKNOWN share a loss that was seen, and claim none."""
    losses = Losses()
    assert losses.of(1.0, 2.0, "", trust=False) is None
    losses.passed_over(1, 3.0)
    assert losses.of(1.0, 3.1, "", trust=False) is not None


@pytest.mark.parametrize("details", [AGED, "max connection age"])
def test_what_was_announced_is_planned(details: str) -> None:
    """Whether or not the loss was seen before the first call failed."""
    losses = Losses()
    assert shared(losses, 1.0, 2.0, details).planned
    losses.passed_over(1, 5.0)
    assert shared(losses, 4.0, 5.01, details).planned
    losses.failed(6.0, 7.0)
    assert not shared(losses, 6.0, 7.0).planned


def test_calls_that_outlive_the_loss_were_left_to_end() -> None:
    """Core leaves calls on a connection only if that was announced to end: whatever the status says."""
    losses = Losses()
    losses.passed_over(1, 10.0)
    assert shared(losses, 9.0, 10.0 + 2 * OUTLIVED).planned


def test_only_a_few_are_kept() -> None:
    """A call older than all of them shares the oldest."""
    losses = Losses()
    for n in range(50):
        losses.failed(n, n + 0.5)
    assert len(losses._known) == KEPT
    assert shared(losses, 0.0, 60.0) is losses._known[0].incident
