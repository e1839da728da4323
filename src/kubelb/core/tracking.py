"""What leases report, turned into statistics: latency, failures in a row and recent ones; and a word to health.

The latency of a success is a sample of peak EWMA (`kubelb.core.policies.peak_ewma` has the formula). A failure is
charged (`kubelb.core.charges`): as `failure_penalty` seconds at least, a 429 as its Retry-After (the penalty where it
names none, or a pod that refuses in a millisecond would look like the best of all); for that time it rests, too
(`kubelb.core.health.rests`). A cancelled request took at least as long as it took, so it can raise the cost as it
stands now and never lower it; where there is no cost yet it is no sample. Kept for every policy, because users look at
it. A silence is both: it took at least as long, and it is a failure, of a kind that `kubelb.core.health.silence`
weighs.

A refusal (`Outcome.refusal`: a 4xx, say) is a success to all of this; only that it comes at once is no sign of room,
which `kubelb.core.health.sinkholes` sees to.

An end that kubelb does not know (an exception of the application, or of a client) is charged, too, and no failure
beside that: as a quick success it would draw everything to the endpoint on which everything raises at once.

What this process itself lacks (`kubelb.core.local`) is no failure of an endpoint; nor is a network without a route to
any of them.

Failures that share an `Incident`, the end of their connection, are one failure: the first that is reported. A planned
end is none; but since it is the server that says so, it is believed once in twenty answers or once a second, and only
of an endpoint that since the last one has answered twice as many as that one left without an answer, or has kept its
connections for ten seconds. Beyond that it is a failure like any other, or a pod that ends every connection "as
planned" and answers little would never be ejected.
"""

import math
from collections.abc import Callable
from math import exp
from typing import TypeAlias

from kubelb.clock import Clock
from kubelb.core.charges import MAX_CHARGE, answered, charge, given_up
from kubelb.core.health.circuits import BAD, OK, SLOW, Circuit, CircuitPhase, Circuits
from kubelb.core.health.shares import NOTES
from kubelb.core.health.silence import meaning, note_fault
from kubelb.core.local import NO_ROUTE, Trouble, local, note, unreachable
from kubelb.core.refused import refused
from kubelb.core.state import NEVER, EndpointState, Phase
from kubelb.model import Incident, Outcome, Sent, Verdict

__all__ = ["CircuitTracker", "Tracker"]

Hear: TypeAlias = Callable[[Circuit, int, float, float], None]
"""Called with a circuit, what went wrong with a call, the start of that attempt, and now."""

Judge: TypeAlias = Callable[[EndpointState, int, float, float], None]
"""Called with a state, its failures in a row (0: it succeeded), the start of that attempt, and now."""

Rest: TypeAlias = Callable[[EndpointState, float, float, float], object]
"""Called with a state, the seconds that it asks for (0: it names none), the start of that attempt, and now.

Returns what `Balancer.lift` takes it back by."""

Refuse: TypeAlias = Callable[[EndpointState, float], object]
"""Called with a state on which a request ended, but not well, and now."""

Ours: TypeAlias = Callable[[EndpointState, Trouble], None]
Alike: TypeAlias = Callable[[EndpointState, float], bool]

_OK = Verdict.OK
_FAILED = Verdict.FAILED
_CANCELLED = Verdict.CANCELLED
_NEUTRAL = Verdict.NEUTRAL
_SILENT = Verdict.SILENT
_ODD = Verdict.ODD
_NEVER = Sent.NEVER

PARTING, QUIET = 1.0, 10.0
"""Seconds between two planned ends of connections of an endpoint that has answered meanwhile, and that has not."""
ANSWERED = 2
"""Answers for each request that the one before has left without any."""
ANSWERS = 20
"""Answers between two of them, whatever the time: a limit of requests a connection is reached often under load."""

_ACTIVE = Phase.ACTIVE
_CLOSED = CircuitPhase.CLOSED


class Tracker:
    """Feeds the states of one balancer. `judge` is None where nothing is ever ejected."""

    __slots__ = ("_clock", "_judge", "_pace", "_penalty", "alike", "decay", "ours", "refuse", "rest")

    def __init__(
        self, clock: Clock, decay: float, penalty: float, judge: Judge | None = None, pace: float = math.inf
    ) -> None:
        """`pace` is in seconds: how far the notes are apart that failure shares are counted by."""
        self._clock = clock
        self.decay = decay
        self._penalty = penalty
        self._judge = judge
        self._pace = pace
        self.rest: Rest = _no_rest
        """Told of an endpoint that asks to be left alone."""
        self.refuse: Refuse = _no_matter
        """Told of an end that was no success."""
        self.ours: Ours = _not_told
        """Told of a failure that is this process's own."""
        self.alike: Alike = _alone
        """Whether all others fail as this state does, without a route."""

    def succeeded(self, state: EndpointState, start: float) -> float:
        """Take an ordinary success: what `record` does for one, without asking what it is. Return the time."""
        now = self._clock()
        if now >= state.turn:
            self._note(state, now)
        latency = now - start
        state.successes += 1
        state.consecutive = 0
        if state.charge:
            answered(state, latency, start, now, self.decay)
        else:
            cost = state.cost
            if latency < cost:
                weight = exp((state.stamp - now) / self.decay)
                latency += (cost - latency) * weight
            state.cost = latency
            state.stamp = now
        if state.phase is not _ACTIVE and self._judge:
            self._judge(state, 0, start, now)
        return now

    def record(self, state: EndpointState, outcome: Outcome, start: float) -> bool:
        """Take the end of an attempt, or its headers where the body is still to come. Return whether it says anything:
        not, where it is the end of a connection that was counted before.
        """
        now = self._clock()
        if now >= state.turn:
            self._note(state, now)
        latency = outcome.latency
        if latency is None:
            latency = now - start
        if outcome.error is not None and self._excused(state, outcome, now):
            return False
        verdict = outcome.verdict
        if verdict is _OK:
            state.successes += 1
            if not outcome.open:
                state.consecutive = 0
            answered(state, latency, start, now, self.decay)
            if state.phase is not _ACTIVE and self._judge:
                self._judge(state, 0, start, now)
            if outcome.refusal:
                state.refusals += 1
                self.refuse(state, now)
        elif verdict is _CANCELLED or verdict is _NEUTRAL:
            state.others += 1
            if state.stamp != NEVER:
                given_up(state, latency, start, now, self.decay)
        elif verdict is _ODD:
            state.others += 1
            state.odd += 1
            charge(state, max(latency, self._penalty), start, now, self.decay, latency)
            self.refuse(state, now)
        elif verdict is _SILENT:
            self._unanswered(state, outcome, latency, start, now)
        elif outcome.incident is not None and not _counts(state, outcome.incident, now):
            state.others += 1
            state.parted_lost += outcome.incident.planned
            return False
        else:
            state.failures += 1
            hint = min(outcome.retry_after or 0.0, MAX_CHARGE)
            failed = verdict is _FAILED
            least = max(hint, self._penalty) if failed else hint or self._penalty
            charge(state, max(latency, least), start, now, self.decay, max(latency, hint))
            if not failed:
                state.unreachable = NEVER  # it answered
                outcome.rest = self.rest(state, hint, start, now)
            else:
                self._sent(state, outcome)
                self._failed(state, start, now)
            self.refuse(state, now)
        return True

    def record_end(self, state: EndpointState, outcome: Outcome, start: float) -> bool:
        """Take the end of a body whose headers were a success: its own success ends a streak, a failure makes one.

        Return as `record` does.
        """
        verdict = outcome.verdict
        if verdict is _OK:
            state.consecutive = 0
        elif verdict is _FAILED:
            now = self._clock()
            if outcome.incident is not None and not _counts(state, outcome.incident, now):
                return False
            if now >= state.turn:
                self._note(state, now)
            state.failures += 1
            charge(state, self._penalty, start, now, self.decay, 0.0)
            self._failed(state, start, now)
            self.refuse(state, now)
        return True

    def _excused(self, state: EndpointState, outcome: Outcome, now: float) -> bool:
        """Whether this failure is our own, whatever endpoint it was met on; then say so, and blame none."""
        if outcome.verdict is _CANCELLED:
            return False
        if (trouble := local(outcome.error)) is None:
            if outcome.verdict is not _FAILED or outcome.sent is not _NEVER or not unreachable(outcome.error):
                return False
            state.unreachable = now
            if not self.alike(state, now):
                return False
            trouble = NO_ROUTE
            state.charged = now  # for those that ask whether anything is reached
            state.cut = state.cut_off + 1, state.successes
        state.others += 1
        outcome.verdict = _NEUTRAL
        outcome.reason = f"no {trouble.kind}"
        assert outcome.error is not None  # the trouble was read in it
        note(outcome.error, f"kubelb: {trouble.reason}: {trouble.cure}")
        self.ours(state, trouble)
        return True

    def _note(self, state: EndpointState, now: float) -> None:
        """Write down how many requests there were by now, before this one is counted."""
        state.turn = now + self._pace
        if self._judge:
            notes = state.notes
            notes.append((now, state.successes + state.failures, state.faults))
            if len(notes) > NOTES:
                del notes[:1]

    def _unanswered(self, state: EndpointState, outcome: Outcome, latency: float, start: float, now: float) -> None:
        counts = meaning(latency, outcome.overdue)
        if state.stamp != NEVER:
            if counts is not _NEUTRAL:
                given_up(state, latency, start, now, self.decay)
        elif counts is _FAILED:  # what it took would be its first sample, and the best one of all where that was short
            charge(state, max(latency, self._penalty), start, now, self.decay, latency)
        if counts is _FAILED:
            state.failures += 1
            self._sent(state, outcome)
            self._failed(state, start, now, silent=1)
        else:
            state.others += 1

    def _sent(self, state: EndpointState, outcome: Outcome) -> None:
        """Count failures to connect in a row, of the streak that this failure is about to become a part of."""
        if outcome.sent is _NEVER:
            state.unsent = min(state.unsent, state.consecutive) + 1
            state.refused = refused(outcome.error)
        else:
            state.unsent = 0

    def _failed(self, state: EndpointState, start: float, now: float, silent: int = 0) -> None:
        state.faults += 1
        if not state.consecutive:  # here and not with the success that ended the last streak, which is to cost nothing
            state.silent = 0
            state.comparison = None
        # The count is passed on: read again from the state, two threads could both see it beyond the threshold.
        state.consecutive = count = state.consecutive + 1
        if silent:
            state.silent += 1
            state.silent_at = now
        if self._judge:
            self._judge(state, count, start, now)
            note_fault(state)


class CircuitTracker(Tracker):
    """Writes outcomes into circuits too; `hear` is told of those that may change one."""

    __slots__ = ("_circuits", "_hear", "_slow")

    def __init__(
        self,
        clock: Clock,
        decay: float,
        penalty: float,
        judge: Judge | None,
        pace: float,
        circuits: Circuits,
        hear: Hear,
    ) -> None:
        Tracker.__init__(self, clock, decay, penalty, judge, pace)
        self._circuits = circuits
        self._hear = hear
        self._slow = circuits.config.slow_call_duration

    def succeeded(self, state: EndpointState, start: float) -> float:
        now = Tracker.succeeded(self, state, start)
        if now - start < self._slow:
            for circuit in state.circuits or self._circuits.of(state):
                if circuit.phase is _CLOSED:
                    circuit.append(OK)
                else:
                    self._hear(circuit, OK, start, now)
        else:
            self._write(state, SLOW, start, now)
        return now

    def record(self, state: EndpointState, outcome: Outcome, start: float) -> bool:
        if not Tracker.record(self, state, outcome, start):
            return False
        now = self._clock()
        latency = now - start if outcome.latency is None else outcome.latency
        verdict = outcome.verdict
        if verdict is _SILENT:  # by itself: a circuit knows no peers
            verdict = meaning(latency, outcome.overdue)
        what = (BAD if verdict is _FAILED else OK) | (SLOW if latency >= self._slow else OK)
        if what or not (verdict is _CANCELLED or verdict is _NEUTRAL):
            self._write(state, what, start, now)
        return True

    def record_end(self, state: EndpointState, outcome: Outcome, start: float) -> bool:
        if not Tracker.record_end(self, state, outcome, start):
            return False
        if outcome.verdict is _FAILED:
            self._write(state, BAD, start, self._clock())
        return True

    def _write(self, state: EndpointState, what: int, start: float, now: float) -> None:
        for circuit in state.circuits or self._circuits.of(state):
            if circuit.phase is _CLOSED and start >= circuit.until:
                circuit.append(what)
            self._hear(circuit, what, start, now)


def _not_told(state: EndpointState, trouble: Trouble) -> None:
    """Without a balancer there is none to tell."""


def _alone(state: EndpointState, now: float) -> bool:  # noqa: ARG001
    """Without a balancer nothing is known of others."""
    return False


def _no_rest(state: EndpointState, seconds: float, start: float, now: float) -> None:
    """Without a balancer nothing rests."""


def _no_matter(state: EndpointState, now: float) -> None:
    """Without a policy that goes by load nothing is drawn to what ends soon."""


def _counts(state: EndpointState, incident: Incident, now: float) -> bool:
    """Whether a failure that bears this incident is one of the endpoint."""
    if not incident.first():
        return False
    if not incident.planned:
        return True
    answers, since = state.successes - state.parted_after, now - state.parted
    if since < QUIET and (answers < max(1, ANSWERED * state.parted_lost) or (answers < ANSWERS and since < PARTING)):
        return True
    state.parted, state.parted_after, state.parted_lost = now, state.successes, 0
    return False
