"""A failure, as peak EWMA sees it: a charge that is held for a while, and dropped by the first success after that.

Linkerd's load biaser (2026) feeds a failure into the moving average as five seconds of latency, and only time takes it
out again. Beside peers that answer in five milliseconds one failure then costs a pod its traffic for two minutes, while
the ejection that follows five in a row takes ten seconds. So a charge is kept apart from latency:

    failure                  cost = the charge, or what is left of an earlier one; held for 0.5, 1, 2, 4, 4, ... s
    success before the end   no news: the charge decays, and no more
    hold is over             due one probe, like an endpoint without a sample for one decay
    success of that          cost = its latency

Why not drop it with the first success: where all fail now and then, the one that failed last would get nothing, and
one of two pods the work of both. As it is, failures that come faster than the holds end leave all charged alike, and
it is the requests in flight that decide. Why not more than 4 s: whatever was down has its share again within five.
"""

from math import exp

from kubelb.core.state import EndpointState

__all__ = ["MAX_CHARGE", "answered", "charge", "excused", "given_up"]

MAX_CHARGE = 300.0
"""Seconds; a server's own hint is believed up to this (Envoy and Linkerd cap theirs so)."""

FIRST_HOLD = 0.5
"""Seconds; twice as long with each further failure."""

MAX_DOUBTS = 4.0
"""Failures that are remembered; one is forgotten with every decay."""


def charge(state: EndpointState, seconds: float, start: float, now: float, decay: float, wait: float) -> None:
    """Charge `seconds` and hold that for `wait` seconds at least; failures that had begun by the last count with it."""
    if start >= state.charged:
        state.doubts = min(max(0.0, state.doubts - (now - state.charged) / decay) + 1.0, MAX_DOUBTS)
    state.charged = now
    _hold(state, seconds, now, decay, wait)


def answered(state: EndpointState, latency: float, start: float, now: float, decay: float) -> None:
    """Take the latency of a success: as a sample of the moving average, or as that of a probe."""
    cost = state.cost
    if state.charge:
        if start - state.stamp < decay:
            _raise(state, latency, now, decay)
            return
        state.charge = 0.0
    elif latency < cost:
        latency += (cost - latency) * exp((state.stamp - now) / decay)
    state.cost = latency
    state.stamp = now


def given_up(state: EndpointState, latency: float, start: float, now: float, decay: float) -> None:
    """Take what was cancelled: it would have lasted `latency` seconds at least."""
    if not state.charge:
        state.cost = max(latency, state.cost * exp((state.stamp - now) / decay))
        state.stamp = now
    elif start - state.stamp < decay:
        _raise(state, latency, now, decay)
    else:  # a probe without an answer: so the next one has to wait again
        _hold(state, latency, now, decay, latency)


def excused(state: EndpointState, now: float, decay: float) -> None:
    """End the hold of a charge: it is due its probe now."""
    if state.charge:
        state.stamp = min(state.stamp, now - 1.001 * decay)


def _hold(state: EndpointState, seconds: float, now: float, decay: float, wait: float) -> None:
    """Let the cost be `seconds` now, and the endpoint be due a probe when the hold is over: in one decay at most.

    A picker takes an endpoint as due that has no sample for one decay. So this is stamped as a sample of so long ago
    that its decay ends with the hold, and by as much higher: the same curve, and the pick has nothing more to ask.
    """
    state.charge = max(seconds, state.cost * exp((state.stamp - now) / decay))
    early = max(0.0, decay - max(wait, FIRST_HOLD * 2.0 ** (state.doubts - 1.0)))
    state.cost = state.charge * exp(early / decay)
    state.stamp = now - early


def _raise(state: EndpointState, seconds: float, now: float, decay: float) -> None:
    """Let the cost be `seconds` now, where a charge that is still held has come down to less."""
    age = now - state.stamp
    if age < decay:
        state.cost = max(state.cost, seconds * exp(age / decay))
