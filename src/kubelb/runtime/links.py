"""Links: what clients that keep connections of their own know of them, for those that look at a load balancer.

A pick passes over an endpoint without a connection, so a connection that cannot be made is no failure of a request and
stands in no statistics. The clients know: each channel of gRPC's is asked when a caller looks, and never before. What
connects again is no longer reported.

A link is held weakly and ends with its client.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol
from weakref import ref

from kubelb.core.state import EndpointState

__all__ = ["REFUSED", "UNREACHABLE", "Link", "Links", "any_of"]

UNREACHABLE = (
    "may this process connect to pods? From outside the cluster it may not as a rule; inside, see NetworkPolicies, and "
    "whether the pods listen on that port and on their own address"
)
"""The cure where no endpoint can be connected to."""
REFUSED = (
    "their hosts answer, and nothing listens there: is it the port that the pods listen on (targetPort), do they "
    "listen on their own address and not on 127.0.0.1 alone, and have they started?"
)
"""The cure where every endpoint refuses."""
UNKNOWN = "every connect has failed"


class Link(Protocol):
    """One client's connections to the endpoints of the service."""

    def failing(self) -> Mapping[EndpointState, str]:
        """Return the endpoints in use that it cannot connect to, each with the last words of that, "" if unknown."""
        ...

    def trouble(self, words: Collection[str]) -> tuple[str, str]:
        """Return what most of these say, and the cure."""
        ...


class Links:
    """Those of one load balancer."""

    def __init__(self) -> None:
        self._all: set[ref[Link]] = set()

    def add(self, link: Link) -> None:
        """Ask this one, too, for as long as it is there."""
        self._all.add(ref(link, self._all.discard))

    def failing(self) -> dict[EndpointState, str]:
        """Return the endpoints in use that some client cannot connect to, each with the reason in words."""
        found: dict[EndpointState, str] = {}
        for link in self._each():
            found.update((state, words or UNKNOWN) for state, words in link.failing().items())
        return found

    def trouble(self, states: Collection[EndpointState]) -> tuple[str, str]:
        """Return error and cure where some client cannot connect to any of these, else two empty texts."""
        for link in self._each():
            failing = link.failing() if states else {}
            if failing and all(state in failing for state in states):
                words, cure = link.trouble([failing[state] for state in states])
                return f"no connection to {any_of(len(states))} in use: {words or UNKNOWN}", cure
        return "", ""

    def _each(self) -> Iterator[Link]:
        for weak in tuple(self._all):
            if (link := weak()) is not None:
                yield link


def any_of(count: int) -> str:
    """Return so many endpoints in words that follow "no connection to"."""
    return "the one endpoint" if count == 1 else f"any of {count} endpoints"
