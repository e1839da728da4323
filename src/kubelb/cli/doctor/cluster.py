"""The way from a configuration to endpoints, step by step: where it ends, the rest would only repeat the reason."""

from collections.abc import Generator, Iterator
from typing import NamedTuple

from kubelb.cli.doctor.api import Api
from kubelb.cli.doctor.finding import Finding, bad, good, note
from kubelb.clock import monotonic
from kubelb.discovery.kube.access import CredentialsError, Locator
from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.diagnose import RESOURCE, Code, Trouble, role_for
from kubelb.discovery.kube.places import CURE as ZONE_CURE
from kubelb.discovery.kube.places import UNPLACED
from kubelb.discovery.kube.ports import PortTable, pick_port, tcp_ports
from kubelb.discovery.kube.reducer import Reducer
from kubelb.discovery.kube.wire import Slice
from kubelb.discovery.special import CURE, left_out
from kubelb.model import Snapshot
from kubelb.target import Target

__all__ = ["Known", "examine"]


class Known(NamedTuple):
    """What there is to send to, where the way was open to its end."""

    snapshot: Snapshot


def examine(target: Target, locator: Locator, view: View) -> Iterator[Finding | Known]:
    """Yield a finding for each step, at last what is known of the Service."""
    try:
        access = locator.open()
    except CredentialsError as error:
        yield bad("configuration", error.reason, error.cure)
        return
    yield good("configuration", f"{access.origin}, for {access.server}")
    with Api(access) as api:
        try:
            if not (yield from _permission(api, target.namespace)):
                return
            slices = api.slices(target.namespace, target.service)
        except Trouble as trouble:
            yield bad(_place(trouble), trouble.reason, trouble.cure)
            return
        odd = api.odd
    yield from _slices(target, slices, odd)
    reducer = Reducer(target.service, target.namespace, target.port, view=view)
    reducer.replace(slices, monotonic())
    snapshot = reducer.snapshot(monotonic())
    assert snapshot is not None
    yield from _endpoints(target, slices, snapshot)
    if reducer.refused:
        yield note("endpoints", f"left out are {left_out(reducer.refused)}", CURE)
    yield from _zone(reducer.view, snapshot)
    yield Known(snapshot)


def _place(trouble: Trouble) -> str:
    if trouble.code in {Code.UNAUTHORIZED, Code.CREDENTIALS}:
        return "credentials"
    return "permission" if trouble.code is Code.FORBIDDEN else "API server"


def _permission(api: Api, namespace: str) -> Generator[Finding, None, bool]:
    """Return whether to try a list. By SelfSubjectAccessReview, which every user may ask (ClusterRole
    system:basic-user) unless that was taken away.
    """
    try:
        missing = [verb for verb in ("list", "watch") if not api.may(verb, namespace)]
    except Trouble as trouble:
        if trouble.code is not Code.FORBIDDEN:
            raise
        yield good("credentials", "accepted")
        yield note("permission", "this user may not ask what it may do; the list tells")
        return True
    yield good("credentials", "accepted")
    if missing:
        yield bad("permission", f"may not {' and '.join(missing)} {RESOURCE} in {namespace}", role_for(namespace))
    else:
        yield good("permission", f"may list and watch {RESOURCE} in {namespace}")
    return "list" not in missing


def _slices(target: Target, slices: list[Slice], odd: list[str]) -> Iterator[Finding]:
    for text in odd:
        yield note("slices", text)
    if slices:
        rows = sum(len(piece.endpoints or ()) for piece in slices)
        yield good("slices", f"{_count(len(slices), 'EndpointSlice')} of {target.host} with {_count(rows, 'endpoint')}")


def _endpoints(target: Target, slices: list[Slice], snapshot: Snapshot) -> Iterator[Finding]:
    """The port, where there is one to speak of, and what can be used."""
    if not snapshot.exists:
        yield _empty("slices", target, snapshot.problem)
        return
    table = PortTable()
    for piece in slices:
        table.change((), tcp_ports(piece.ports))
    if table.has(target.port):
        numbers = {found[0] for piece in slices if (found := pick_port(tcp_ports(piece.ports), target.port))}
        yield good(
            "port", f"{target.port or 'the only one'} is {', '.join(map(str, sorted(numbers)))} on the endpoints"
        )
    elif table.texts:
        yield bad("port", snapshot.problem, "name one that there is; a number is the endpoint's, not the Service's")
        return
    if snapshot.endpoints:
        parked = f", {len(snapshot.parked)} not to be used now" if snapshot.parked else ""
        yield good("endpoints", f"{len(snapshot.endpoints)} to be used{parked}")
    else:
        yield _empty("endpoints", target, snapshot.problem)


def _empty(what: str, target: Target, problem: str) -> Finding:
    """Why there is nothing to send to: what stands behind a semicolon is what to do about it."""
    text, _, cure = problem.partition("; ")
    return bad(what, text, cure or f"kubectl get service,endpointslices,pods --namespace {target.namespace}")


def _zone(view: View, snapshot: Snapshot) -> Iterator[Finding]:
    """Hints matter where every endpoint has one (KEP-2433); without a zone they cannot be followed."""
    hinted = any(endpoint.zone_hints or endpoint.node_hints for endpoint in (*snapshot.endpoints, *snapshot.parked))
    if view.zone:
        yield good("zone", f"{view.zone}{f', node {view.node}' if view.node else ''}")
    elif hinted:
        yield note("zone", UNPLACED, ZONE_CURE)
    elif view.node:
        yield note("zone", f"unknown: no endpoint of this Service is on node {view.node}; nor are there any hints")
    else:
        yield note("zone", "unknown, and not needed: the slices have no topology hints", ZONE_CURE)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
