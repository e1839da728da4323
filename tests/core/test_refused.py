"""Refusals are told from networks, however deep a client wraps the error of its socket."""

from kubelb import Endpoint, Snapshot
from kubelb.core import Balancer
from kubelb.core.refused import refused
from kubelb.model import Outcome, Sent, Verdict


def wrapped(inner, times):
    for _ in range(times):
        outer = RuntimeError("around")
        outer.__cause__ = inner
        inner = outer
    return inner


def test_the_chain_is_searched():
    """Causes, contexts and arguments; what is not there is not found, and circles end."""
    assert refused(ConnectionRefusedError())
    assert refused(wrapped(ConnectionRefusedError(), 5))
    assert refused(RuntimeError("pool", ConnectionRefusedError()))
    assert not refused(wrapped(ConnectionResetError(), 5))
    assert not refused(None)
    circle = RuntimeError()
    circle.__cause__ = wrapped(circle, 1)
    assert not refused(circle)


def test_a_state_remembers_its_last_refusal():
    """The last failure to connect counts."""
    balancer = Balancer("round_robin", outliers=None)
    balancer.update(Snapshot(1, (Endpoint("10.0.0.1", 80),)))
    (state,) = balancer.states()
    for error in (ConnectionRefusedError(), OSError("no route")):
        balancer.pick().release(Outcome(Verdict.FAILED, sent=Sent.NEVER, error=error))
        assert state.refused == isinstance(error, ConnectionRefusedError)
    balancer.pick().release(Outcome(Verdict.FAILED, sent=Sent.MAYBE))
    assert state.unsent == 0
