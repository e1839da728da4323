"""Standing: how a service stands with this process, from what requests and connections have met.

Read by those that look (a user, discovery that has to choose), and never on the path of a request.
"""

from collections import Counter
from collections.abc import Collection

from kubelb.core.balancer import Balancer
from kubelb.core.reach import reached
from kubelb.core.state import EndpointState
from kubelb.core.view import EndpointView
from kubelb.model import Address, Health
from kubelb.printable import printable
from kubelb.records import replace
from kubelb.runtime.links import REFUSED, UNREACHABLE, Links

__all__ = ["Standing"]


class Standing:
    """Of one balancer, and of the clients that keep connections for it."""

    def __init__(self, balancer: Balancer, links: Links) -> None:
        self._balancer = balancer
        self._links = links

    def views(self) -> tuple[EndpointView, ...]:
        """Return one line for each known endpoint; among its reasons that it cannot be connected to."""
        views = self._balancer.view()
        if not (failing := self._links.failing()):
            return views
        words = {state.endpoint.authority: printable(f"no connection: {why}") for state, why in failing.items()}
        return tuple(
            view._replace(reasons=(*view.reasons, words[view.address])) if view.address in words else view
            for view in views
        )

    def health(self, said: Health, broken: str) -> Health:
        """Return what discovery says of itself, with what is known here: counts, trouble, the service's circuit.

        `broken`: why nothing can work any more, "" where it can.
        """
        counts = Counter(view.state for view in self.views())
        error, cure = self.trouble()
        if error and (not said.error or error in said.error):
            said = replace(said, error=said.error or error, cure=said.cure or cure)
        if broken:
            said = replace(said, error=broken, cure="patch first")
        return replace(said, counts=dict(sorted(counts.items())), circuit=self._balancer.circuit)

    def trouble(self) -> tuple[str, str]:
        """Return error and cure where discovery is well and no request can be sent; else two empty texts."""
        snapshot = self._balancer.snapshot
        if snapshot is None:
            return "", ""
        if not snapshot.endpoints:
            doctor = f"`kubelb doctor {self._balancer.service}` says what is there"
            cure = doctor if snapshot.exists else f"check the Service's name, its namespace and the cluster; {doctor}"
            return snapshot.problem or "no endpoint can be used", cure
        in_use = self._in_use()
        if reached(in_use, self._balancer.clock()) is False:
            count = len(snapshot.endpoints)
            if all(state.unsent and state.refused for state in in_use if state.consecutive or state.cut_off):
                refusing = "the one endpoint" if count == 1 else f"all of the {count} endpoints"
                return f"connections are refused by {refusing} in use", REFUSED
            silent = "the one endpoint" if count == 1 else f"any of the {count} endpoints"
            return f"requests could not connect to {silent} in use", UNREACHABLE
        return self._links.trouble(in_use)

    def reached(self, addresses: Collection[Address] | None = None) -> bool | None:
        """Return whether requests reach any of these endpoints, or of those in use; None where that is not known.

        Here every failure counts, of requests and of connections that clients make ahead of them: endpoints that
        nothing vouches for and that all fail may give way.
        """
        if addresses is None:
            states = self._in_use()
        else:
            states = [state for state in self._balancer.states() if state.endpoint.address in addresses]
        answers = reached(states, self._balancer.clock(), any_failure=True)
        return False if answers is None and self._links.trouble(states)[0] else answers

    def _in_use(self) -> list[EndpointState]:
        return [state for state in self._balancer.states() if state.in_use]
