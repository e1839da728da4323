"""Whether anything listens: asked before every request, so it must cost next to nothing.

kubelb never is the first to import OpenTelemetry. A program without an SDK pays for two looks into a dictionary, and
one that sets its providers after the load balancers were built is noticed by the very next request.

The API offers no cheap way to ask: its getters read the environment while there is no provider (0.5 us), its no-op
tracer makes spans (0.5 us each). So its two globals are read as they stand; where a future version keeps them
elsewhere, the answer is yes, and the request is handed to the API's own no-ops: slower, and right all the same.
"""

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["always", "metering", "never", "present", "tracing"]

_loaded: Callable[[str], Any] = sys.modules.get
_ELSEWHERE = object()


def tracing() -> bool:
    """Whether the process has a tracer provider."""
    api = _loaded("opentelemetry.trace")
    return api is not None and getattr(api, "_TRACER_PROVIDER", _ELSEWHERE) is not None


def metering() -> bool:
    """Whether the process has a meter provider."""
    api = _loaded("opentelemetry.metrics._internal") or _loaded("opentelemetry.metrics")
    return api is not None and getattr(api, "_METER_PROVIDER", _ELSEWHERE) is not None


def present() -> bool:
    """Whether the process has either."""
    api = _loaded("opentelemetry.trace")
    if api is not None and getattr(api, "_TRACER_PROVIDER", _ELSEWHERE) is not None:
        return True
    return _loaded("opentelemetry.metrics") is not None and metering()


def always() -> bool:
    """For a load balancer that was given providers of its own."""
    return True


def never() -> bool:
    """For one that shall report nothing."""
    return False
