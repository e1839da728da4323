"""Why there is nothing to send to, in words that let the user act.

The questions are asked in the order in which a person would find out: is there such a Service, does it have endpoints,
does it have that port, can any of them be used from here.
"""

from collections.abc import Mapping

from kubelb.discovery.kube.choose import DRAINING, LOCAL, READY, View
from kubelb.discovery.special import CURE, left_out
from kubelb.records import record

__all__ = ["Facts", "explain"]


@record(frozen=True, slots=True)
class Facts:
    """What the reducer knows, for a message."""

    service: str
    namespace: str
    port: str | int
    ports: tuple[str, ...]
    ambiguous: bool
    slices: int
    rows: int
    """Slices that hold any endpoint."""
    kinds: frozenset[str]
    """Address types of those."""
    families: tuple[str, ...]
    has_port: bool
    view: View
    tally: Mapping[int, int]
    total: int
    refused: tuple[str, ...] = ()
    """Addresses that are not dialled."""


def explain(facts: Facts) -> str:
    """One sentence, never empty."""
    name = f"Service {facts.service} in namespace {facts.namespace}"
    there = ", ".join(f"unnamed {port[1:]}" if port.startswith(":") else port for port in facts.ports) or "none"
    if not facts.slices and not facts.total:
        return (
            f"there is no {name}, as far as its EndpointSlices tell; check both names (kubectl get "
            f"services,endpointslices -n {facts.namespace}). A Service of type ExternalName has no slices: give the "
            "name that it stands for, as dns:///HOST:PORT. One without a selector has none, either, until they are "
            f"written for it: give it a selector, or slices with the label kubernetes.io/service-name={facts.service}"
        )
    if facts.ambiguous:
        return f"{name} has several ports and the target names none; name one of: {there}"
    if not facts.has_port and facts.ports:
        hint = _port_hint(facts)
        return f"no endpoint of {name} has the port {facts.port!r}; the ports there are, as name:number: {there}{hint}"
    if not facts.rows and not facts.total:
        return f"{name} has no endpoints: no pod matches its selector, or none of them has an address yet"
    if facts.rows and not facts.kinds & set(facts.families):
        return f"{name} has only endpoints of type {_list(facts.kinds)}; in use are those of {_list(facts.families)}"
    if not facts.ports:
        port = facts.port if isinstance(facts.port, int) else "PORT"
        return (
            f"{name} has endpoints and no TCP port: give it one in its spec, or use its addresses with a port "
            f"of yours, dns:///{facts.service}.{facts.namespace}.svc.cluster.local:{port}"
        )
    if facts.refused and not sum(facts.tally.values()):
        return f"{name} has only {left_out(facts.refused)}; {CURE}"
    return _none_usable(name, facts)


def _port_hint(facts: Facts) -> str:
    """What else may be meant: a name of digits, a port without a name, the Service's own number."""
    if isinstance(facts.port, int):
        if any(port.startswith(f"{facts.port}:") for port in facts.ports):
            return f" (one is named so: ask for it as {facts.service}.{facts.namespace}:_{facts.port})"
        return " (a number is the pods' port, not the Service's; a name is the better choice)"
    if any(port.startswith(":") for port in facts.ports):
        return " (one without a name is asked for by its number)"
    return ""


def _none_usable(name: str, facts: Facts) -> str:
    known = sum(facts.tally.values())
    ready = _count(facts, READY)
    if facts.view.local and (ready or _count(facts, DRAINING)):
        if not facts.view.node:
            return (
                f"traffic_policy='Local' and the own node is unknown: set NODE_NAME through the downward API "
                f"(spec.nodeName) or give DiscoveryOptions(node=...); {ready} of {known} endpoints are ready elsewhere"
            )
        remote = ready - _count(facts, READY | LOCAL)
        return (
            f"{name} has no usable endpoint on node {facts.view.node} and traffic_policy='Local' forbids the "
            f"{remote} ready on other nodes"
        )
    options = [
        text
        for wanted, text in (
            (facts.view.require_serving, "require_serving"),
            (facts.view.avoid_terminating, "avoid_terminating"),
        )
        if wanted
    ]
    also = f" (counted with {' and '.join(options)})" if options else ""
    if not known:
        return f"{name} has no endpoints with the port {facts.port!r} now"
    return f"none of the {known} endpoints of {name} is ready{also}; see its pods' readiness"


def _count(facts: Facts, marks: int) -> int:
    return sum(count for each, count in facts.tally.items() if each & marks == marks)


def _list(names: frozenset[str] | tuple[str, ...]) -> str:
    return " and ".join(sorted(names)) or "none"
