"""The sub-channels that cannot connect: what they say of it, and what is said to a call that finds no other.

A connectivity state says that it fails and not why. So a few are asked for their last words, now and then, and only
where a refusal is about to be explained (see `lastwords.py`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from kubelb.adapters._grpc.shared.lastwords import FEW, PAUSE, commonest, cure
from kubelb.adapters._grpc.shared.subchannel import CONNECTING, FAILING, IDLE, SubChannel, state_of
from kubelb.core.balancer import Balancer
from kubelb.core.state import NEVER, EndpointState
from kubelb.errors import LoadBalancerError, NotReady, Unusable
from kubelb.runtime.links import any_of

__all__ = ["Unreached"]

Each: TypeAlias = Callable[[], Iterable[tuple[EndpointState, SubChannel]]]


class Unreached:
    """A `kubelb.runtime.links.Link` over the sub-channels that `each()` returns."""

    def __init__(self, balancer: Balancer, each: Each) -> None:
        self._balancer = balancer
        self._each = each
        self.ask: Callable[[SubChannel], object] = bool
        """Called with one whose words are to be put down."""
        self.advice = "do the pods listen there?"
        """What to look at where pods answer and no connection comes of it."""
        self.forget()

    def forget(self) -> None:
        """What was asked belongs to a loop, or a process, that is gone."""
        self._asked = NEVER
        self._questions = 0
        """Left until a pause after that time."""
        self.hearing: set[Any] = set()
        """Questions that have no answer yet."""

    def failing(self) -> Mapping[EndpointState, str]:
        """Return the endpoints in use whose connects fail, each with its last words; from any thread."""
        found: dict[EndpointState, str] = {}
        for state, sub in self._each():
            if state_of(sub, False) != FAILING:
                sub.words = ""  # those of an outage that is over
            elif state.in_use:
                found[state] = sub.words
        return found

    def trouble(self, words: Collection[str]) -> tuple[str, str]:
        """Return what most of these say, and the cure."""
        said = commonest(words)
        return said, cure(said, self.advice)

    def hear(self) -> bool:
        """Ask a few that fail for their words, those that were asked longest ago; False where it pays to wait."""
        now = self._balancer.clock()
        if now - self._asked >= PAUSE:
            self._asked, self._questions = now, FEW
        if self._questions:
            failing = self.failing()
            subs = (sub for state, sub in self._each() if state in failing)
            due = (sub for sub in subs if sub.channel is not None and now - sub.asked >= PAUSE)
            for sub in sorted(due, key=lambda sub: sub.asked)[: self._questions]:
                self._questions -= 1
                sub.asked = now
                self.ask(sub)
        return not self.hearing or any(self.failing().values())

    def explained(self, error: Unusable) -> LoadBalancerError:
        """Say what connections are doing, and whether one of them may be ready soon."""
        names = {CONNECTING: "connecting", IDLE: "connecting", FAILING: "cannot be reached"}
        counts: dict[str, int] = {}
        for state, sub in self._each():
            if self._balancer.serves(state):
                name = names.get(state_of(sub, False), "ready")
                counts[name] = counts.get(name, 0) + 1
        if counts.keys() <= {"cannot be reached"} and self.hear():
            words, advice = self.trouble(self.failing().values())
            whole = any_of(sum(counts.values()))
            reason = f"no connection to {whole}: {words or 'every connect has failed'}; {advice}"
            return Unusable(error.service, reason, counts)
        return NotReady(error.service, "no connection is ready yet", counts)
