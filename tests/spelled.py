"""Options of a LoadBalancer as tests' own helpers take them: those of discovery among the others."""

from typing import Any

from kubelb import DiscoveryOptions

__all__ = ["spelled"]


def spelled(options: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the same options, those of discovery as one value."""
    options = {**more, **options}
    found = {name: options.pop(name) for name in DiscoveryOptions.__slots__ if name in options}
    return {**options, "discovery": DiscoveryOptions(**found)} if found else options
