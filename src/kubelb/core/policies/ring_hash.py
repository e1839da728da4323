"""Ring hash: requests with the same key go to the same endpoint, while it is there and has no more than its part.

Consistent hashing (Karger et al. 1997) over the ring of `kubelb.core.policies.ring`, with bounded load (Mirrokni et al.
2018; `load_bound`): a key whose endpoint is at its bound, ejected, or was tried before goes on along the ring to the
next, and always to the same next one. A request without a key goes to a random endpoint, by weight (gRFC A76 has it go
to a random point).

Each endpoint has `virtual_nodes` points, and fewer where the ring would grow beyond `max_ring_size`: half as many, or a
quarter and so on, for all. Their number does not depend on the number of endpoints otherwise, as it does with Envoy and
gRPC, where each scale-up takes points away from every endpoint and so moves keys between endpoints that stay.

An endpoint stands there by its name (`kubelb.core.policies.names`), so that a StatefulSet's pod keeps its keys when it
returns with another address.

The ring is that of all endpoints in use. A picker for some of them, because others are ejected or new, shares it and
passes over the others: that is where the keys would be without them, and costs no new ring.
"""

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from kubelb.core.keys import KeySource
from kubelb.core.members import Members
from kubelb.core.options import number, whole
from kubelb.core.policies.base import Needs, Picker, Policy
from kubelb.core.policies.load_bound import LoadBound
from kubelb.core.policies.names import names_of
from kubelb.core.policies.ring import BITS, SLOTS, Digest, Ring
from kubelb.core.policies.weights import weights_of
from kubelb.core.state import EndpointState, Usable
from kubelb.model import Request
from kubelb.records import record

__all__ = ["RingHash"]

WALK = 64
"""Points looked at for an endpoint below its bound, before the least loaded of those seen is taken."""
SEARCH = 1024
"""Points looked at for one that fits, before the balancer looks through all endpoints itself."""


MIX = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio (Knuth's multiplicative hashing)."""


def _xxhash64() -> Digest:
    try:
        from xxhash import xxh64_intdigest
    except ImportError as error:
        raise ImportError("RingHash needs xxhash: pip install 'kubelb[hash]'") from error
    return xxh64_intdigest


@record(frozen=True, slots=True)
class RingHash(Policy):
    """The endpoint that a request's key belongs to; the next one on the ring where that has too much in flight.

    The key is the caller's (`kubelb.hints(key=)`), else the request's `header`, `cookie` or, with ``path=True``, its
    path, whichever of those given it has first. Options:

    - `balance_factor`: an endpoint may have so many times the mean in flight, 1.25; None for no bound. 1.25 to 2.0 are
      usual (HAProxy's `hash-balance-factor`, in per cent there);
    - `virtual_nodes`: points of an endpoint of mean weight on the ring, 128; more spread keys more evenly;
    - `max_ring_size`: points on the whole ring, 131072, which take 9 MB and 50 ms to build.

    Raises `ImportError` where xxhash is missing (``pip install 'kubelb[hash]'``), `ValueError` for an option out of
    range.

    >>> import kubelb
    >>> policy = kubelb.policies.RingHash(header="x-user-id")
    >>> with kubelb.LoadBalancer("static:///127.0.0.1:80,127.0.0.2:80,127.0.0.3:80", policy=policy) as lb:
    ...     len({lb.call(lambda attempt: attempt.endpoint.ip, key="user-7") for _ in range(20)})
    1
    """

    header: str | None = None
    cookie: str | None = None
    path: bool = False
    balance_factor: float | None = 1.25
    virtual_nodes: int = 128
    max_ring_size: int = 131072

    def __post_init__(self) -> None:
        _xxhash64()
        KeySource(self.header, self.cookie, self.path)
        if self.balance_factor is not None and not 1 <= number(self.balance_factor) < math.inf:
            raise ValueError(
                f"RingHash(balance_factor={self.balance_factor!r}): give 1 or more, e.g. 1.25, or None for no bound"
            )
        numbers: tuple[tuple[str, object, int], ...] = (
            ("virtual_nodes", self.virtual_nodes, 1 << 16),
            ("max_ring_size", self.max_ring_size, 1 << 23),
        )
        for name, value, limit in numbers:
            if not (whole(value) and 1 <= value <= limit):
                raise ValueError(f"RingHash({name}={value!r}): give a whole number from 1 to {limit}")

    @property
    def digest(self) -> Digest:
        """xxHash64, of the package that the extra brings."""
        return _xxhash64()

    @property
    def needs(self) -> Needs:
        """Where adapters find the key of a request whose caller gives none."""
        return Needs(key=KeySource(self.header, self.cookie, self.path) or None)

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> "RingPicker":
        """Build a picker over the members, on the ring of all in use.

        What that has in common with the ring of an earlier picker is taken over from it.
        """
        names = names_of(members.used)
        shares = shares_of(names, self)
        if isinstance(before, RingPicker) and before.config == self:
            ring = before.ring.changed(shares)
        else:
            ring = Ring(self.digest, shares)
        return RingPicker(self, ring, names, members.states, rng)


class RingPicker(Picker):
    """Looks keys up. `names` are those of all that stand on the ring; it picks among `states` alone."""

    __slots__ = (
        "_bound",
        "_count",
        "_digest",
        "_points",
        "_random",
        "_shares",
        "_shift",
        "_size",
        "_starts",
        "_states",
        "_sums",
        "config",
        "ring",
        "states",
    )

    def __init__(
        self,
        config: RingHash,
        ring: Ring,
        names: dict[EndpointState, str],
        states: Sequence[EndpointState],
        rng: random.Random,
    ) -> None:
        self.config = config
        self.ring = ring
        self._digest = config.digest
        self._points = ring.points
        self._starts = ring.starts
        self._shift = ring.shift
        self._size = len(ring.points)
        self._random = rng.random
        self.states = states
        self._count = len(states)
        points = [ring.shares[names[state]] for state in states]
        total = sum(points)
        self._sums = None if min(points) == max(points) else [part / total for part in accumulate(points)]
        self._states: list[EndpointState | None] = [None] * (max(ring.slots.values()) + 1)
        self._shares = [0.0] * len(self._states)
        for state, part in zip(states, points, strict=True):
            slot = ring.slots[names[state]]
            self._states[slot] = state
            self._shares[slot] = part / total
        factor = config.balance_factor
        leases = [state.leases for state in states]
        self._bound = None if factor is None else LoadBound(factor, leases, min(points) / total)

    def pick(self, request: Request, now: float) -> EndpointState:  # noqa: ARG002
        key = request.key
        place = -1
        state: EndpointState | None
        if key is None:
            drawn = self._random()
            state = self.states[int(drawn * self._count) if self._sums is None else bisect_right(self._sums, drawn)]
        else:
            place = self._place(key)
            state = self._states[self._points[place] & SLOTS]
        if state is not None:
            bound = self._bound
            if bound is None or not state.leases:
                return state
            if bound.credit > 0 and len(state.leases) < bound.sure:
                bound.credit -= 1
                return state
        found = self._walk(self._place(None) if place < 0 else place, self._size, WALK)
        assert found is not None
        return found

    def other(self, request: Request, now: float, fits: Usable) -> EndpointState | None:  # noqa: ARG002
        """Return the next one along the ring that fits; None where there was none for a while."""
        return self._walk(self._place(request.key), min(self._size, SEARCH), WALK, fits)

    def chance(self, request: Request, draw: int, random: Callable[[], float]) -> float:
        """Return a number from 0 to below 1 for slow start: a key's own, so that it moves over once and stays."""
        key = request.key
        if key is None:
            return random()
        try:
            digest = self._digest(key.encode() if isinstance(key, str) else key)
        except (TypeError, UnicodeEncodeError):
            digest = self._odd(key)
        # The leading bits of a hash say where on the ring it is: mixed, or neighbours would move over together.
        return (digest * MIX >> 16 * draw & 0xFFFF) / 0x10000

    def _place(self, key: str | bytes | None) -> int:
        """Return the position of the point that a key belongs to, a random one for none."""
        if key is None:
            return int(self._random() * self._size)
        try:
            digest = self._digest(key.encode() if isinstance(key, str) else key)
        except (TypeError, UnicodeEncodeError):
            digest = self._odd(key)
        part = digest >> self._shift
        place = bisect_left(self._points, digest << BITS, self._starts[part], self._starts[part + 1])
        return place if place < self._size else 0

    def _odd(self, key: Any) -> int:
        """Return the hash of a key that is no proper text; a random one for what is neither text nor bytes."""
        if isinstance(key, str):
            return self._digest(key.encode(errors="surrogatepass"))
        return int(self._random() * (1 << 64))

    def _walk(
        self, place: int, steps: int, enough: int, fits: Callable[[EndpointState], bool] | None = None
    ) -> EndpointState | None:
        """Return the first below its bound from a position on, or the least loaded of as many as are enough."""
        points, states, shares, bound, size = self._points, self._states, self._shares, self._bound, self._size
        if bound is not None:
            bound.look()
        best, least = None, math.inf
        for step in range(place, place + steps):
            slot = points[step % size] & SLOTS
            state = states[slot]
            if state is None or (fits is not None and not fits(state)):
                continue
            busy = len(state.leases)
            if bound is None or busy < bound.of(shares[slot]):
                return state
            if busy < least * shares[slot]:
                best, least = state, busy / shares[slot]
            enough -= 1
            if not enough:
                break
        return best


def shares_of(names: dict[EndpointState, str], config: RingHash) -> dict[str, int]:
    """Return how many points each name has on a ring of all of them."""
    weights = weights_of(tuple(names))
    mean = math.fsum(weights) / len(weights)
    points = config.virtual_nodes
    while points > 1 and points * len(weights) > config.max_ring_size:
        points //= 2
    return {name: max(1, round(points * weight / mean)) for name, weight in zip(names.values(), weights, strict=True)}
