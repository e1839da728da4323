"""What SRV records and the addresses of their targets mean, as endpoints.

Weights count relative to the largest of their tier, so that CoreDNS's equal ones, which differ with the number of pods,
are all 1. A weight of 0 means "seldom", not "never" (RFC 2782): it counts as a tenth of the weight 1.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from kubelb.discovery.dns.finding import FAMILIES, family_of
from kubelb.discovery.dns.steps import Answer, Srv
from kubelb.model import Endpoint

__all__ = ["endpoints_of", "oddities", "usable"]

SELDOM = 0.1


def endpoints_of(
    records: Iterable[Srv], addresses: Mapping[str, tuple[str, ...]], families: Collection[str]
) -> dict[str, tuple[Endpoint, ...]]:
    """One endpoint for each address and port of each record."""
    most: dict[int, float] = defaultdict(float)
    for record in records:
        most[record.priority] = max(most[record.priority], record.weight or SELDOM)
    found: dict[str, dict[tuple[str, int], Endpoint]] = {family: {} for family in FAMILIES}
    for record in sorted(records):  # of two records with the same address the first tier counts
        label = record.target.split(".", 1)[0]
        for ip in addresses.get(record.target, ()):
            family = family_of(ip)
            if family not in families:
                continue
            endpoint = Endpoint(
                ip,
                record.port,
                hostname="" if _is_address(label, ip) else label,
                weight=(record.weight or SELDOM) / most[record.priority],
                priority=record.priority,
            )
            found[family].setdefault(endpoint.address, endpoint)
    return {family: tuple(sorted(each.values())) for family, each in found.items()}


def usable(answer: Answer) -> list[Srv]:
    return [record for record in answer.srv if record.target != "." and record.port]


def _is_address(label: str, ip: str) -> bool:
    """CoreDNS calls a pod without a name after its address, ``10-244-0-7``; none of its labels ends with a dash."""
    dashed = ip.replace(".", "-").replace(":", "-")
    return label == (f"{dashed}0" if dashed.endswith("-") else dashed)


def oddities(name: str, answer: Answer, addresses: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, str], ...]:
    found = [("an SRV record", f"its port is 0, its target {each.target}") for each in answer.srv if not each.port]
    found += [
        ("an SRV record", f"its target {target} has no address") for target, known in addresses.items() if not known
    ]
    if answer.partial:
        lost = f"the answer for {name} does not fit into 64 KiB; nothing that is missing is taken as gone"
        found.append(("a part of the SRV records", lost))
    return tuple(sorted(found))
