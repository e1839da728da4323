"""Subset: of many endpoints a few, the same ones for as long as they are there.

A process that talks to a thousand pods has a thousand connections, and each pod one from every process. A subset bounds
both (Site Reliability Engineering, 2016, chapter 20). It is chosen by rendezvous hashing (Thaler and Ravishankar 1998):
every endpoint has a number that follows from its name and the client's, and the highest `size` of them are taken. So
one that leaves, or is ejected, is replaced by the next in rank and nothing else moves; and one that comes displaces one
at the most. Which endpoints a client has is chance over all clients: of m clients each endpoint has m * size / n in the
mean, give or take the square root of that.
"""

import os
from functools import lru_cache
from heapq import nlargest

from kubelb.core.members import Members
from kubelb.core.options import whole
from kubelb.core.policies.base import Policy
from kubelb.core.policies.names import names_of
from kubelb.core.policies.wrapper import Wrapper
from kubelb.core.state import EndpointState
from kubelb.records import record

__all__ = ["Subset"]


@record(frozen=True, slots=True)
class Subset(Wrapper):
    """`of`, a policy or its name, among `size` endpoints that are this client's own.

    `client` is the name that these follow from: every process has its own by default, from the name of its host (in
    Kubernetes the pod's) and its process id. So a process that is started again in the same pod has the same endpoints
    only if it gets the same process id, as the first process of a container does; else give `client`. Where there are
    no more than `size`, all of them are used.

    An endpoint's name is its hostname where it has one of its own, as StatefulSet's pods do, else ip:port. Raises
    `ValueError` for a `size` below 1.

    >>> import kubelb
    >>> balancer = kubelb.core.Balancer(kubelb.policies.Subset("round_robin", size=3))
    >>> _ = balancer.update(kubelb.Snapshot(1, tuple(kubelb.Endpoint(f"10.0.0.{n}", 80) for n in range(100))))
    >>> len({balancer.pick().endpoint.ip for _ in range(50)})
    3
    """

    of: Policy | str
    size: int
    client: str | None = None

    def __post_init__(self) -> None:
        Wrapper.__post_init__(self)
        if not (whole(self.size) and self.size >= 1):
            raise ValueError(f"Subset(size={self.size!r}): give a whole number, 1 or more")
        client: object = self.client
        if not (client is None or (isinstance(client, str) and client)):
            raise ValueError(f"Subset(client={client!r}): give a name, or None for one of this process's own")

    def among(self, members: Members) -> Members:
        """Narrow the members down to the highest in rank, of those that the inner policy would ever pick."""
        members = self.inner.among(members)
        if len(members.states) <= self.size:
            return members
        client = self.client or f"{_host()}/{os.getpid()}"  # asked each time: a forked child is another client
        ranks = {state: rank(client, name, state) for state, name in names_of(members.used).items()}
        best = nlargest(self.size, members.states, key=ranks.__getitem__)
        least, mine = ranks[best[-1]], frozenset(best)
        # Those in use that rank among them and are out: what stands on all in use is to keep their places.
        used = frozenset(state for state in members.used if ranks[state] >= least)
        return members.only(lambda state: state in used, "of this client's subset").among(
            tuple(state for state in members.states if state in mine)
        )


def rank(client: str, name: str, state: EndpointState) -> tuple[int, str]:
    """Return what endpoints are ordered by for a client; higher is first."""
    return _number(client, name), state.endpoint.authority


@lru_cache(maxsize=1 << 14)
def _number(client: str, name: str) -> int:
    from hashlib import blake2b  # loaded where it is needed: `import kubelb` is to be quick

    return int.from_bytes(blake2b(f"{client}\0{name}".encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=1)
def _host() -> str:
    import platform

    return platform.node()
