"""What the tests of telemetry share: OpenTelemetry's own SDK, in memory."""

from typing import Any

from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import kubelb


class Sdk:
    """Providers of a test's own, and what reached them."""

    def __init__(self, **tracing: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(**tracing)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader(preferred_temporality={Histogram: AggregationTemporality.CUMULATIVE})
        self.meter_provider = MeterProvider([self.reader])

    def telemetry(self, service: str = "reviews") -> kubelb.Telemetry:
        return kubelb.Telemetry(service, self.tracer_provider, self.meter_provider)

    def points(self) -> dict[str, dict[tuple[tuple[str, Any], ...], Any]]:
        """Every data point by its instrument's name and its attributes, those of the service left out."""
        data = self.reader.get_metrics_data()
        found: dict[str, dict[tuple[tuple[str, Any], ...], Any]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                assert scope.scope.name == "kubelb"
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        attributes = dict(point.attributes or {})
                        attributes.pop("kubelb.service", None)
                        found.setdefault(metric.name, {})[tuple(sorted(attributes.items()))] = point
        return found

    def values(self, name: str) -> dict[str, float]:
        """The numbers of one instrument, by the value of the one attribute beside the service ("" for none)."""
        return {
            str(attributes[0][1]) if attributes else "": point.value
            for attributes, point in self.points().get(name, {}).items()
        }

    def counted(self, name: str) -> dict[str, float]:
        """The same of what has been counted at all: a counter is there at zero for all that is known beforehand."""
        return {said: value for said, value in self.values(name).items() if value}

    def durations(self, name: str) -> list[dict[str, Any]]:
        """The attributes of every duration, as often as it was recorded."""
        return [
            dict(attributes) for attributes, point in self.points().get(name, {}).items() for _ in range(point.count)
        ]

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def call(self) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """The span of the one call there was, and those of its attempts in their order."""
        spans = self.spans()
        (call,) = [span for span in spans if span.name.startswith("kubelb ")]
        attempts = [span for span in spans if span is not call]
        assert call.kind is SpanKind.INTERNAL
        for attempt in attempts:
            assert attempt.parent is not None
            assert attempt.parent.span_id == call.context.span_id
            assert attempt.end_time is not None
        return call, sorted(attempts, key=lambda span: span.start_time or 0)


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
