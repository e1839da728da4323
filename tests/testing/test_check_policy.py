"""check_policy: every built-in policy passes, and each law is there because something breaks it."""

import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import pytest

from kubelb import Members, PeakEwma, Picker, Policy, RingHash, RoundRobin
from kubelb.core import EndpointState
from kubelb.core.policies import REGISTRY
from kubelb.core.state import NEVER
from kubelb.testing import check_policy
from kubelb.testing.policies import breaches
from kubelb.testing.policy_laws import LAWS
from kubelb.testing.policy_threads import Turns
from kubelb.testing.policy_trial import Trial

Pick = Callable[[Any, float], Any]


class Has(Picker):
    """A picker that picks by a function, and has what else it is given in place of its own."""

    def __init__(self, states: Sequence[EndpointState], pick: Any, **methods: Any) -> None:
        self.states = states
        vars(self).update(methods, pick=pick)


class Made(Policy):
    """A policy whose pickers are what `make(states, rng)` returns: an object, or a function to pick with."""

    def __init__(self, make: Callable[[Any, Any], Any]) -> None:
        self._make = make

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> Any:
        made = self._make(members.states, rng)
        return Has(members.states, made) if callable(made) else made

    def __repr__(self) -> str:
        return "Made()"


def drawn(states: Any, rng: Any) -> EndpointState:
    return states[int(rng.random() * len(states))]


def good(states: Any, rng: Any) -> Pick:
    return lambda request, now: drawn(states, rng)


def with_more(**methods: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """A good picker that has more methods; each is given states and rng, and what it is called with."""

    def make(states: Any, rng: Any) -> Any:
        bound = {name: lambda *args, method=method: method(states, rng, *args) for name, method in methods.items()}
        return Has(states, good(states, rng), **bound)

    return make


def broken(make: Callable[[Any, Any], Any]) -> list[str]:
    """Return what check_policy says, law by law."""
    try:
        check_policy(Made(make))
    except AssertionError as error:
        first, *lines = str(error).split("\n - ")
        assert first == f"Made() breaks {len(lines)} of {len(LAWS)} laws of policies:"
        return lines
    return []


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_policy_there_is_keeps_the_laws(name: str, seed: int) -> None:
    """With its defaults, by its name."""
    check_policy(name, seed=seed)


@pytest.mark.parametrize(
    "policy",
    [
        RingHash(balance_factor=None),
        RingHash(header="x-user", balance_factor=1.0, virtual_nodes=1, max_ring_size=1),
        PeakEwma(decay=0.01, failure_penalty=1e-9),
    ],
)
def test_with_unusual_options_too(policy: Policy) -> None:
    """Whatever can be set."""
    check_policy(policy)


def test_a_good_one_passes() -> None:
    """Two lines of it, and with everything that a picker may have."""
    assert broken(good) == []
    others = with_more(
        other=lambda states, rng, request, now, fits: next(filter(fits, states), None),
        chance=lambda states, rng, request, draw, random: random(),
    )
    assert broken(others) == []


# What is wrong with each, as a law says it. Each breaks at least the law that it is under.


def nobody(states: Any, rng: Any) -> Pick:
    return lambda request, now: None


def a_copy(states: Any, rng: Any) -> Pick:
    """Equal is not enough: leases are counted on the state itself."""

    def pick(request: Any, now: float) -> EndpointState:
        state = drawn(states, rng)
        return EndpointState(state.endpoint, state.tracker)

    return pick


def two_at_least(states: Any, rng: Any) -> Pick:
    return lambda request, now: min(rng.sample(states, 2), key=lambda state: len(state.leases))


def only_idle(states: Any, rng: Any) -> Pick:
    return lambda request, now: rng.choice([state for state in states if not state.leases])


def only_text(states: Any, rng: Any) -> Pick:
    return lambda request, now: states[len((request.key or "").encode()) % len(states)]


def only_forward(states: Any, rng: Any) -> Pick:
    """Time may be read by another thread a moment earlier."""
    last = [-1.0]

    def pick(request: Any, now: float) -> EndpointState:
        assert now >= last[0]
        last[0] = now
        return drawn(states, rng)

    return pick


def latency_of_the_unknown(states: Any, rng: Any) -> Pick:
    """An endpoint that has never answered has no latency."""
    return lambda request, now: states[int(1e3 / min(s.cost for s in states[:3])) % len(states)]


def marks(states: Any, rng: Any) -> Pick:
    def pick(request: Any, now: float) -> EndpointState:
        state = drawn(states, rng)
        state.stamp = now
        return state

    return pick


def resets(states: Any, rng: Any) -> Pick:
    for state in states:
        state.cost, state.stamp = 0.0, NEVER
    return good(states, rng)


def leases(states: Any, rng: Any) -> Pick:
    def pick(request: Any, now: float) -> EndpointState:
        state = drawn(states, rng)
        state.leases.clear()
        return state

    return pick


def marks_requests(states: Any, rng: Any) -> Pick:
    def pick(request: Any, now: float) -> EndpointState:
        request.key = None
        return drawn(states, rng)

    return pick


def one_for_all() -> Callable[[Any, Any], Pick]:
    """The policy is its own picker, as a first draft likes to be."""
    kept: dict[str, Any] = {}

    def make(states: Any, rng: Any) -> Pick:
        kept["states"] = states
        return lambda request, now: drawn(kept["states"], rng)

    return make


def remembers() -> Callable[[Any, Any], Pick]:
    kept: set[EndpointState] = set()

    def make(states: Any, rng: Any) -> Pick:
        kept.update(states)
        return good(states, rng)

    return make


def own_chance(states: Any, rng: Any) -> Pick:
    return lambda request, now: random.choice(states)


def another_seed(states: Any, rng: Any) -> Pick:
    mine = random.Random()
    return lambda request, now: drawn(states, mine)


def order_of_a_set(states: Any, rng: Any) -> Pick:
    """States are hashed by where they are in memory."""
    turns = itertools.cycle(set(states))
    return lambda request, now: next(turns)


def a_shared_generator(states: Any, rng: Any) -> Pick:
    """Two threads in one generator: ValueError."""

    def turns() -> Any:
        for number in itertools.count():
            yield look(number)

    def look(number: int) -> EndpointState:
        return states[number % len(states)]

    running = turns()
    return lambda request, now: next(running)


def a_cursor(states: Any, rng: Any) -> Pick:
    """Another thread may move it between the comparison and the look."""
    at = [0]

    def pick(request: Any, now: float) -> EndpointState:
        at[0] += 1
        if at[0] >= len(states):
            at[0] = 0
        return states[at[0]]

    return pick


def never_one(states: Any, rng: Any) -> Pick:
    """A build that fails is replaced by chance and goes unnoticed, but for an event."""
    if len(states) == 1:
        raise RuntimeError("no table for one")
    return good(states, rng)


def five_of_them(states: Any, rng: Any) -> Pick:
    return good(states[:5], rng) if len(states) != 8 else lambda request, now: states[8]


def scan(states: Any, rng: Any) -> Pick:
    return lambda request, now: min(states, key=lambda state: len(state.leases))


def shuffle(states: Any, rng: Any) -> Pick:
    return lambda request, now: list(states)[0]  # noqa: RUF015 - a copy of all is the point


def waits(states: Any, rng: Any) -> Pick:
    def pick(request: Any, now: float) -> EndpointState:
        if len(states) > 50:
            time.sleep(0.002)
        return states[0]

    return pick


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "law", "how"),
    [
        (nobody, "one of the states that the picker was built for", "pick(Request(key=None"),
        (a_copy, "one of the states that the picker was built for", "returned <10.0.0."),
        (only_idle, "one of the states that the picker was built for", "IndexError"),
        (only_text, "one of the states that the picker was built for", "has no attribute 'encode'"),
        (only_forward, "one of the states that the picker was built for", "was raised at"),
        (latency_of_the_unknown, "one of the states that the picker was built for", "ZeroDivisionError"),
        (two_at_least, "of one endpoint, that one is picked", "ValueError('Sample larger"),
        (marks, "alters", "'stamp'"),
        (resets, "alters", "'cost'"),
        (leases, "alters", "'leases'"),
        (marks_requests, "alters", "request"),
        (one_for_all(), "serves several load balancers", "the first of two pickers returned"),
        (remembers(), "does not remember endpoints", "10 of 10 states"),
        (own_chance, "with the same seed", "use the rng that build is given"),
        (another_seed, "with the same seed", "two runs with seed 0"),
        (order_of_a_set, "with the same seed", "two runs with seed 0"),
        (a_shared_generator, "threads may pick at the same time", "generator already executing"),
        (a_cursor, "threads may pick at the same time", "IndexError"),
        (never_one, "from the endpoints of now", "no table for one"),
        (scan, "no more among 10 000", "it looks at all of them"),
        (shuffle, "no more among 10 000", "it looks at all of them"),
        (waits, "no more among 10 000", "it waits for something"),
        (
            with_more(other=lambda states, rng, request, now, fits: states[1]),
            "what `other` finds fits",
            "other, with some that fit, returned",
        ),
        (
            with_more(other=lambda states, rng, request, now, fits: states[6]),
            "what `other` finds fits",
            "does not fit",
        ),
        (
            with_more(other=lambda states, rng, request, now, fits: states[0]),
            "from the endpoints of now",
            "which had been tried",
        ),
        (with_more(chance=lambda *_: 1.0), "what `other` finds fits", "is not from 0 to below 1"),
    ],
)
def test_what_is_wrong_is_found_and_told(make: Callable[[Any, Any], Any], law: str, how: str) -> None:
    """One line for the law, with how it was broken."""
    (judge,) = (each for each in LAWS if law in (each.__doc__ or ""))
    (line,) = breaches(Trial(Made(make), 0, (1, 2, 3, 17)), [judge])
    assert line.startswith(f"{judge.__doc__}: ")
    assert how in line


def test_one_that_fits_some_requests_to_some_endpoints_passes() -> None:
    """Kind: a law that asks for more than a policy promises. A retry was expected at the last endpoint left, though the
    picker admits the request elsewhere alone."""

    class Half(Has):
        def admits(self, request: Any, state: EndpointState) -> bool:
            number = int(state.endpoint.ip.rpartition(".")[2])
            return request.key is None or (number + crc32(str(request.key).encode())) % 2 == 0

    def make(states: Any, rng: Any) -> Any:
        def pick(request: Any, now: float) -> EndpointState | None:
            some = [state for state in states[:50] if picker.admits(request, state)]
            return drawn(some, rng) if some else None

        picker = Half(states, pick)
        return picker

    assert broken(make) == []


def test_threads_that_end_while_another_gives_way() -> None:
    """Kind: a list that is counted and then indexed while others shorten it."""

    class Last(random.Random):
        def choice(self, seq: Any) -> Any:
            place = len(seq) - 1
            turns._running[1:] = []
            return seq[place]

    turns = Turns(3, 1)
    turns._rng = Last()
    turns._give_way(0)
    assert turns._running == [0]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """A policy that picks nobody breaks nearly all there is to break."""
    assert len(broken(nobody)) >= 6


def test_what_is_no_policy_is_refused() -> None:
    """As by a load balancer."""
    with pytest.raises(TypeError, match="has no build"):
        check_policy(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"there are {', '.join(REGISTRY)}"):
        check_policy("fastest")


@pytest.mark.slow
def test_sizes_may_be_ones_own() -> None:
    """A policy that fails among seven is found among seven."""

    def make(states: Any, rng: Any) -> Pick:
        return good(states if len(states) != 7 else [None], rng)

    assert broken(make) == []
    with pytest.raises(AssertionError, match="among 7, pick"):
        check_policy(Made(make), sizes=(7,))


@pytest.mark.slow
def test_its_own_state_is_as_it_was() -> None:
    """What traces this thread stays, and the chance of others is not used up by a trial."""
    tracing, chance = sys.gettrace(), random.getstate()
    assert broken(own_chance)
    check_policy(RoundRobin())
    assert sys.gettrace() is tracing
    assert random.getstate() != chance  # the broken one's doing
    chance = random.getstate()
    check_policy(RoundRobin())
    assert random.getstate() == chance


def test_a_policy_with_a_lock_passes() -> None:
    """Whoever waits for it is not waited for."""

    def make(states: Any, rng: Any) -> Pick:
        lock = threading.Lock()

        def pick(request: Any, now: float) -> EndpointState:
            with lock:
                state = drawn(states, rng)
                return state  # noqa: RET504 - a line more for the others to wait at

        return pick

    assert broken(make) == []
