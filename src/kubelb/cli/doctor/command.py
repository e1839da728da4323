"""All checks in order, each printed as soon as it is done."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict

import typer

from kubelb.cli.doctor.around import look_around, look_up, reach
from kubelb.cli.doctor.cluster import Known, examine
from kubelb.cli.doctor.environment import look_at_environment
from kubelb.cli.doctor.finding import Finding, Mark, bad, good
from kubelb.cli.doctor.names import ask
from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.locate import locate
from kubelb.discovery.mapped import VARIABLE, mapped
from kubelb.discovery.namespace import in_own_namespace
from kubelb.discovery.options import seed_endpoints
from kubelb.discovery.special import CURE, left_out, screened
from kubelb.errors import TargetError
from kubelb.target import Target, domain_of, parse_target

__all__ = ["run_command"]

SIGNS = {Mark.GOOD: ("✔", "+"), Mark.NOTE: ("!", "!"), Mark.BAD: ("✘", "x")}
"""The second is for a terminal or a pipe that knows no more than ASCII."""
NOT_NEEDED = "not needed while EndpointSlices can be read"
NEEDED = (
    "kubelb falls back on DNS where EndpointSlices cannot be read, and cannot from here: run where the cluster's "
    "nameserver is asked, or see --cluster-domain"
)
COLOURS = {Mark.GOOD: typer.colors.GREEN, Mark.NOTE: typer.colors.YELLOW, Mark.BAD: typer.colors.RED}


def run_command(name: str, *, kubeconfig: str | None, context: str | None, cluster_domain: str, as_json: bool) -> int:
    """Print what is found and return the exit code: 0 all is well, 1 something is in the way, 2 not a target."""
    try:
        target = parse_target(name)
        cluster_domain = domain_of(target, cluster_domain)
    except TargetError as error:
        typer.echo(f"kubelb: {error}", err=True)
        return 2
    findings = []
    for finding in check(target, kubeconfig, context, cluster_domain):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        shown = [asdict(finding) | {"mark": finding.mark.value} for finding in findings]
        typer.echo(json.dumps({"target": str(target), "findings": shown}, indent=2))
    return 1 if any(finding.mark is Mark.BAD for finding in findings) else 0


def check(target: Target, kubeconfig: str | None, context: str | None, cluster_domain: str) -> Iterator[Finding]:
    """Yield every finding. Of a fixed list of addresses there is only the network to ask, of a DNS name only DNS."""
    given = target
    try:
        target = in_own_namespace(target, kubeconfig, context)
    except TargetError as error:
        elsewhere = _instead(given, cluster_domain)
        if elsewhere is None:
            reason, _, cure = str(error).partition("; ")
            yield bad("target", reason, cure)
            yield from look_at_environment(given, given, cluster_domain)
            return
        yield good("target", f"{given}; {VARIABLE} has it without its namespace")
        yield from look_at_environment(given, given, cluster_domain)
        yield from _without_cluster(elsewhere, cluster_domain)
        return
    yield good("target", str(target))
    yield from look_at_environment(target, given, cluster_domain)
    if target.scheme == "static" or target.name:
        yield from _without_cluster(target, cluster_domain)
        return
    view = View(os.environ.get("NODE_NAME", ""), os.environ.get("KUBELB_ZONE", ""))
    spare = target.scheme == "kube"
    for found in examine(target, locate(kubeconfig, context), view):
        if isinstance(found, Known):
            spare = True
            yield from reach(found.snapshot.endpoints)
        else:
            yield found
    yield look_up(f"{target.host}.svc.{cluster_domain}", NOT_NEEDED if spare else NEEDED)
    yield look_around()


def _instead(given: Target, cluster_domain: str) -> Target | None:
    """Where a target of an unknown namespace is mapped to: that needs neither a cluster nor a kubeconfig."""
    try:
        return mapped(given, given, cluster_domain)
    except TargetError:  # another entry's slip
        return None


def _without_cluster(target: Target, cluster_domain: str) -> Iterator[Finding]:
    """The network, and for a DNS name DNS."""
    if target.scheme == "static":
        endpoints, refused = screened(seed_endpoints(str(target).removeprefix("static:///").split(",")))
        if refused:
            yield bad("target", f"left out are {left_out(refused)}", CURE)
        yield from reach(endpoints)
    else:
        yield from ask(target, cluster_domain)
    yield look_around()


def _show(finding: Finding) -> None:
    plain = "utf" not in (getattr(sys.stdout, "encoding", None) or "").lower()
    sign = typer.style(SIGNS[finding.mark][plain], fg=COLOURS[finding.mark], bold=True)
    typer.echo(f"{sign} {finding.what:<13} {finding.text}")
    if finding.cure:
        typer.echo(f"  {'':<13} {typer.style('cure:', bold=True)} {finding.cure}")
