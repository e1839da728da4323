"""Addresses that are no pod's, and are not dialled unless that is asked for.

Anything that may write an EndpointSlice, or a DNS record, says where this process connects to, with its credentials. A
link's own addresses lead to what only this machine is to reach, such as the metadata server of a cloud at
169.254.169.254, which gives away the node's identity; 0.0.0.0 is this machine itself; multicast and broadcast are no
server's. The same in the forms of IPv6 that hold an IPv4 address. Loopback is left alone: an API server takes it from
no slice, and tests and static targets live there.
"""

import ipaddress
from collections.abc import Iterable

from kubelb.model import Endpoint

__all__ = ["CURE", "left_out", "screened", "special"]

CURE = "DiscoveryOptions(allow_special_addresses=True), if they are meant"
_METADATA = frozenset({"fd00:ec2::254", "fd20:ce::254"})
"""The metadata servers of AWS and Google Cloud over IPv6."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOW = (1 << 32) - 1


def special(ip: str) -> str:
    """Return what an address in canonical text is, "" for one that may be a server's. 0.2 us for nearly all.

    >>> special("10.0.0.7"), special("169.254.169.254"), special("::ffff:0.0.0.0"), special("fe80::1%eth0")
    ('', 'link-local', 'unspecified', '')
    """
    if ":" not in ip:
        first = ip.partition(".")[0]
        if not first.isdigit() or (0 < int(first) < 224 and not ip.startswith("169.254.")):
            return ""
    elif not ip.startswith(("::", "ff", "fe", "64:ff9b:", "fd00:ec2:", "fd20:ce:")):
        return ""
    return _kind(ip)


def _kind(ip: str) -> str:
    text, _, scope = ip.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # a name
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & _LOW)
        if inner is not None:
            return _kind(str(inner))
        if text in _METADATA:
            return "a cloud's metadata server"
        if scope and address.is_link_local:  # on a link that was named, which no slice and no record can
            return ""
    if address.is_unspecified or str(address).startswith("0."):
        return "unspecified"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    return "broadcast" if str(address) == "255.255.255.255" else ""


def left_out(ips: Iterable[str]) -> str:
    """Return what is said of addresses that are left out; the first three are named."""
    there = sorted(set(ips))
    named = ", ".join(f"{ip} ({special(ip)})" for ip in there[:3])
    more = f" and {len(there) - 3} more" if len(there) > 3 else ""
    return f"addresses that are not dialled: {named}{more}"


def screened(endpoints: Iterable[Endpoint]) -> tuple[tuple[Endpoint, ...], tuple[str, ...]]:
    """Return the endpoints that may be dialled, and the addresses of the others."""
    good, bad = list[Endpoint](), list[str]()
    for endpoint in endpoints:
        if special(endpoint.ip):
            bad.append(endpoint.ip)
        else:
            good.append(endpoint)
    return tuple(good), tuple(bad)
