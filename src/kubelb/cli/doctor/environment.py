"""What the environment of this process says about where requests go; nothing is said where it says nothing."""

from collections.abc import Iterator
from urllib.request import getproxies

from kubelb.adapters.hosts import service_hosts
from kubelb.cli.doctor.finding import Finding, bad, note
from kubelb.discovery.mapped import VARIABLE as TARGETS
from kubelb.discovery.mapped import mapped
from kubelb.errors import TargetError
from kubelb.runtime.switch import VARIABLE as DISABLE
from kubelb.runtime.switch import switched_off
from kubelb.target import Target

__all__ = ["look_at_environment"]


def look_at_environment(target: Target, given: Target, cluster_domain: str) -> Iterator[Finding]:
    """Yield what changes where a program with this environment sends requests for the target.

    `given` is the target without the own namespace.
    """
    if target.scheme == "static":
        return
    if switched_off():
        yield note(
            "off switch",
            f"{DISABLE} is set: requests go past kubelb, through the Service's own name",
            f"unset {DISABLE}",
        )
    try:
        other = mapped(target, given, cluster_domain)
    except TargetError as error:
        yield bad("targets", str(error))
    else:
        if other is not None:
            yield note("targets", f"{TARGETS} sends requests to {other} instead", f"unset {TARGETS}")
    short = bool(given.service and not given.namespace)
    names = {name.decode() for name in service_hosts(target, cluster_domain, None, short) or ()}
    if outranking := sorted(names & _excepted()):
        yield note(
            "proxies",
            f"NO_PROXY names {outranking[0]}, which httpx ranks above a mount of that name: kubelb would not be asked",
            "mount by kubelb.adapters.httpx.mounts(lb), which cannot be outranked",
        )


def _excepted() -> set[str]:
    """The names of NO_PROXY that stand there whole."""
    entries = [entry.strip().lower() for entry in getproxies().get("no", "").split(",")]
    hosts = [entry.rpartition("://")[2].partition("/")[0].removeprefix("*") for entry in entries]
    return set() if "*" in entries else {host.rstrip(".") for host in hosts}
