"""What every sub-channel is told.

The authority is the service's name: gRPC takes it for `:authority`, for SNI and for the check of the certificate, so a
connection to a pod's address is verified against the service. A proxy of the environment would be asked for pod
addresses, a service config would be looked up for them: neither is wanted.

gRPC has one bound for TCP, the TLS handshake and the first settings together. No call waits for a connection while
another pod is ready, so that bound is a patient one: what is slow to shake hands is served, and has not to begin again.
Five seconds are short enough to find a pod within five whose packets were dropped and that is back: the system asks
anew after one second and three, and the next connect after five.

A node that vanishes says no goodbye. What was sent to it may stay unacknowledged for 45 seconds, then the connection
has ended: gRPC gives that bound to TCP where keep-alive is on, as `grpc.keepalive_timeout_ms`. Its pings are for a call
that waits with nothing under way, and servers allow them every five minutes; more often, and they end the connection
with ENHANCE_YOUR_CALM, "too_many_pings", under a call that is in no trouble at all. Nor do they allow them while no
call runs (gRFC A8, A18). So a call that was waiting already ends six minutes after its node, and any other one within
the 45 seconds. A pod that is slow to answer goes on: its kernel acknowledges bytes, and its library answers pings.

Whatever the user gives is last, and counts; with a time of keep-alive goes gRPC's own timeout, where none is given.
gRPC's own retries are left as they are: without a retry policy it repeats only what no server has seen, on the same
sub-channel.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import grpc

from kubelb.masking import masked
from kubelb.target import Target

__all__ = ["Options", "advice", "check_compression", "check_options", "default_authority", "sub_options"]

Options: TypeAlias = Sequence[tuple[str, Any]]
"""As gRPC has them: pairs of a name and a number, a text, or one of gRPC's own objects."""

_DEFAULTS: Options = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # what a connect may take; no pause
    ("grpc.max_reconnect_backoff_ms", 3000),  # gRPC adds a fifth at most: a pod that is back is found within 5 s
    ("grpc.keepalive_time_ms", 310_000),  # servers have 300 000 for their least; the network may hurry a ping
    ("grpc.keepalive_timeout_ms", 45_000),  # for a ping, and as TCP_USER_TIMEOUT for every byte
)

_LARGEST = 1 << 31


def default_authority(target: Target, cluster_domain: str) -> str | None:
    """Return the service's name in full; None where the target names none (``static:///``)."""
    if not target.service:
        return target.host_name or None
    if not target.namespace:
        return target.service  # the own namespace, as long as it is unknown
    return f"{target.service}.{target.namespace}.svc.{cluster_domain}"


def sub_options(authority: str | None, given: Options | None) -> Options:
    """Return the options of every sub-channel; raises TypeError or ValueError for what is none."""
    given = check_options(given)
    named = {name for name, _ in given}
    if "grpc.keepalive_time_ms" in named:
        named.add("grpc.keepalive_timeout_ms")
    ours = [*_DEFAULTS, *([("grpc.default_authority", authority)] if authority else [])]
    return (*((name, value) for name, value in ours if name not in named), *given)


def advice(options: Options, *, secure: bool) -> str:
    """Return what to look at where no connection can be made: a failed handshake looks like a closed port from here."""
    if not secure:
        return "do the pods listen there, and without TLS? GRPC_VERBOSITY=info logs each reason"
    names = [value for name, value in options if name == "grpc.default_authority"]
    name = repr(names[-1]) if names else "a pod's address, as there is no ('grpc.default_authority', NAME)"
    return (
        "do the pods listen there with TLS, is their certificate for "
        f"{name}, and of an authority that is trusted here? GRPC_VERBOSITY=info logs each reason"
    )


def check_compression(compression: Any) -> None:
    """Raise TypeError for what is no `grpc.Compression`."""
    if compression is not None and compression not in tuple(grpc.Compression):
        raise TypeError(f"compression={compression!r}: give a grpc.Compression, such as grpc.Compression.Gzip")


def check_options(given: Any) -> Options:
    """Return them as a tuple; raises for what is none.

    gRPC would look at them when the first connection is made, and take a float for an address in memory.
    """
    if given is None:
        return ()
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"options={masked(repr(given))}: give pairs, such as [('grpc.keepalive_time_ms', 30000)]")
    checked = tuple(given)
    for option in checked:
        if not isinstance(option, tuple | list) or len(option) != 2 or not isinstance(option[0], str | bytes):
            raise TypeError(f"options=[{masked(repr(option))}]: give pairs, such as ('grpc.keepalive_time_ms', 30000)")
        value = option[1]
        if isinstance(value, float) or not (isinstance(value, str | bytes) or hasattr(value, "__int__")):
            raise TypeError(f"options=[({option[0]!r}, {masked(repr(value))})]: give an int or a str")
        if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise ValueError(f"options=[({option[0]!r}, {masked(repr(value))})]: give an int of 32 bits")
    return checked
