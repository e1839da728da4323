"""Telemetry: what a user may say about metrics and spans; the default needs no word."""

from typing import TYPE_CHECKING

from kubelb.records import record

if TYPE_CHECKING:  # importing it costs 25 ms and an event loop's modules
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["Telemetry"]


@record(frozen=True, slots=True)
class Telemetry:
    """Where metrics and spans go, and under which name; `LoadBalancer(telemetry=False)` reports none at all.

    Providers are OpenTelemetry's, the process's own by default, whenever they are set. `service` is the value of the
    attribute ``kubelb.service``: by default the target, and ``static`` for a fixed list, whose addresses belong into no
    attribute. Load balancers of one name are reported as one.

    >>> from kubelb import LoadBalancer
    >>> lb = LoadBalancer("static:///10.0.0.7:80,10.0.0.8:80", telemetry=Telemetry(service="ratings"))
    >>> lb.close()
    """

    service: str = ""
    tracer_provider: "TracerProvider | None" = None
    meter_provider: "MeterProvider | None" = None

    def __post_init__(self) -> None:
        if not isinstance(self.service, str):
            raise TypeError(f"Telemetry(service={self.service!r}): give a string, '' for the target")
        for name, maker in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            provider = getattr(self, name)
            if provider is not None and not callable(getattr(provider, maker, None)):
                raise TypeError(f"Telemetry({name}={provider!r}): it has no {maker}(); give a provider, or None")
