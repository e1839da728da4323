"""Table: states by address, kept in step with snapshots.

Diffing by identity: an endpoint that is still there keeps its state; the same address with another pod's uid is a new
endpoint. One that comes into use is new to us even if it was known before (a pod is not ready at first): what was
measured of it is forgotten and it counts as a newcomer. A snapshot may say what changed since a base version; where
that is the version in the table only those endpoints are touched, so one pod's change among 10 000 costs what it costs
among ten.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kubelb.core.state import EndpointState
from kubelb.core.tracking import Tracker
from kubelb.model import Address, Endpoint, Snapshot

__all__ = ["Difference", "Table"]


class Difference(NamedTuple):
    """What an update did."""

    added: tuple[EndpointState, ...]
    removed: tuple[EndpointState, ...]
    entered: tuple[EndpointState, ...]
    """In use now and not before, whether added or known already."""
    elders: bool
    """Whether any that is in use was in use before."""


class Table:
    """`states` are all known ones, `used` those that discovery says to pick from; both in order of arrival."""

    def __init__(self, tracker: Tracker) -> None:
        self.states: dict[Address, EndpointState] = {}
        self.used: dict[Address, EndpointState] = {}
        self._tracker = tracker
        self._newcomers: dict[EndpointState, None] = {}

    def apply(self, snapshot: Snapshot, version: int | None) -> Difference:
        """Take over a snapshot; `version` is that of the one before."""
        changes = snapshot.changes
        added: list[EndpointState] = []
        removed: list[EndpointState] = []
        entered: list[EndpointState] = []
        if changes is not None and changes.base == version:
            used, parked = changes.used, changes.parked
            gone = [endpoint.address for endpoint in changes.removed]
        else:
            used, parked = snapshot.endpoints, snapshot.parked
            keep = {endpoint.address for endpoint in used + parked}
            gone = [address for address in self.states if address not in keep]
        for address in gone:
            self._remove(address, removed)
        for endpoint in parked:
            self.used.pop(endpoint[:2], None)
            self._put(endpoint, added, removed).in_use = False
        for endpoint in used:
            state = self._put(endpoint, added, removed)
            if not state.in_use:
                self.used[endpoint.address] = state
                entered.append(state)
                state.forget()
                state.in_use = True
        return Difference(tuple(added), tuple(removed), tuple(entered), len(self.used) > len(entered))

    def warm(self, states: Iterable[EndpointState], now: float) -> None:
        """Begin the slow start of these."""
        for state in states:
            state.warm_since = now
            self._newcomers[state] = None

    def warming(self, since: float) -> list[EndpointState]:
        """Return the states in use whose slow start began after `since`."""
        for state in [state for state in self._newcomers if state.removed or state.warm_since <= since]:
            del self._newcomers[state]
        return [state for state in self._newcomers if state.in_use]

    def mend(self) -> None:
        """In a forked child: the parent may have been in the middle of `apply`."""
        self.used = {address: state for address, state in self.states.items() if state.in_use}

    def _put(self, endpoint: Endpoint, added: list[EndpointState], removed: list[EndpointState]) -> EndpointState:
        address = endpoint[:2]  # `.address` without the call: as many of these as endpoints changed
        state = self.states.get(address)
        if state is not None:
            if state.endpoint.same_as(endpoint):
                state.endpoint = endpoint
                return state
            self._remove(address, removed)
        state = self.states[address] = EndpointState(endpoint, self._tracker)
        added.append(state)
        return state

    def _remove(self, address: Address, removed: list[EndpointState]) -> None:
        state = self.states.pop(address, None)
        if state is not None:
            self.used.pop(address, None)
            state.removed = True
            state.in_use = False
            # Of peers that hold theirs in turn: the gone are not to keep the gone.
            state.comparison = state.contrast = None
            removed.append(state)
