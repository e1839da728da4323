"""Why there is nothing to send to, and what is wrong with what there is, in words that let the user act."""

from kubelb.discovery.dns.finding import Finding
from kubelb.discovery.special import CURE, left_out
from kubelb.target import Target

__all__ = ["kept", "lies", "not_dialled", "virtual", "why_empty"]

_SLICES = "or let kubelb read EndpointSlices (kube:///SVC.NS:PORT), which knows the pods of any Service"


def why_empty(target: Target, finding: Finding) -> str:
    """One sentence, never empty."""
    name = target.name.rstrip(".")
    if finding.none:
        return f'{name} says that there is no such service: its SRV record has the target "."'
    if finding.refused:
        return "; ".join(lies(target, finding))
    if not finding.absent:
        return f"{name} has no address now"
    if target.scheme == "dns":
        return f"DNS has no address for {name} ({finding.absent}): a wrong name, or a Service without a ready pod"
    host = name.split(".", 2)[2]
    numbers = ", ".join(port.removeprefix(":") for port in finding.ports)
    there = f"; the ports there are, by number, for DNS does not tell their names: {numbers}" if numbers else ""
    if finding.ports or finding.host_exists:
        return (
            f"DNS knows {host}, but no port {target.port!r} of it ({finding.absent}): only a port with that name has "
            f"SRV records{there}"
        )
    return (
        f"DNS knows no {name} ({finding.absent}): a wrong name or port name, no such Service, or a headless one "
        "without a ready pod"
    )


def kept(target: Target, finding: Finding, hold: float) -> tuple[str, str]:
    """Reason and cure, while endpoints are kept that DNS no longer has."""
    return (
        f"DNS has no {target.name.rstrip('.')} any more ({finding.absent})",
        f"is its last pod gone, or the Service? After {hold:g} s it counts as empty",
    )


def lies(target: Target, finding: Finding) -> tuple[str, str]:
    """Reason and cure, where a name has nothing but addresses that are not dialled."""
    name = target.name.rstrip(".")
    if finding.where:  # a list against advertisements, for one
        reason = f"{finding.where} gives {name} only {left_out(finding.refused)}"
        return reason, f"mend that line, or write {name}. to ask DNS for it; {CURE}"
    return f"{name} has only {left_out(finding.refused)}", CURE


def not_dialled(finding: Finding) -> tuple[str, str]:
    """Reason and cure, where addresses of an answer are left out; empty where none is."""
    return (f"left out are {left_out(finding.refused)}", CURE) if finding.refused else ("", "")


def virtual(target: Target, finding: Finding) -> tuple[str, str]:
    """Reason and cure, where DNS gives the Service's own address."""
    name = target.name.rstrip(".")
    reason = (
        f"{name} leads to the Service's own address {finding.virtual} (a VIP), not to pods: kube-proxy chooses those"
    )
    return reason, f"make the Service headless (clusterIP: None), {_SLICES}"
