"""Names: what an endpoint is called where its place must not move, on a ring or in the rank of a subset.

That is its hostname where it has one of its own, as StatefulSet's pods do, so that it keeps its place when it returns
with another address (gRFC A76's hash_key); else it is ip:port. A hostname that several have is none's: by one name all
of them would stand in one place.
"""

from collections import Counter
from collections.abc import Iterable

from kubelb.core.state import EndpointState

__all__ = ["names_of"]


def names_of(states: Iterable[EndpointState]) -> dict[EndpointState, str]:
    """Return the name of each state, in their order, which the names do not depend on."""
    names = {state: state.endpoint.hostname or state.endpoint.authority for state in states}
    times = Counter(names.values())
    if len(times) == len(names):
        return names
    return {state: name if times[name] == 1 else state.endpoint.authority for state, name in names.items()}
