"""What every sub-channel is told.

The authority is the service's name: gRPC takes it for `:authority`, for SNI and for the check of the certificate, so a
connection to a pod's address is verified against the service. A proxy of the environment would be asked for pod
addresses, a service config would be looked up for them: neither is wanted. A pod that is gone answers nothing, so a
connect may take a second at most, and a pod that is back is found within a few.

Whatever the user gives is last, and counts. gRPC's own retries are left as they are: without a retry policy it repeats
only what no server has seen, on the same sub-channel.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from kubelb.target import Target

__all__ = ["Options", "default_authority", "sub_options"]

Options: TypeAlias = Sequence[tuple[str, Any]]

_DEFAULTS: Options = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also the time that a connect may take
    ("grpc.max_reconnect_backoff_ms", 4000),  # gRPC adds a fifth at most: a pod that is back is found within 5 s
)


def default_authority(target: Target, cluster_domain: str) -> str | None:
    """Return the service's name in full; None where the target names none (``static:///``)."""
    if not target.service:
        return target.host_name or None
    return f"{target.service}.{target.namespace}.svc.{cluster_domain}"


def sub_options(authority: str | None, given: Options | None) -> Options:
    """Return the options of every sub-channel."""
    given = tuple(given or ())
    named = {name for name, _ in given}
    ours = [*_DEFAULTS, *([("grpc.default_authority", authority)] if authority else [])]
    return (*((name, value) for name, value in ours if name not in named), *given)
