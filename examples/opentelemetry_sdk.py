"""Spans and metrics by OpenTelemetry's SDK: set it up as always, kubelb finds it. Here they go to memory and are shown.

In a service the exporters of `opentelemetry-exporter-otlp` take the place of those in memory; nothing else changes.
"""

import httpx
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import kubelb
from kubelb.adapters.httpx import Transport
from kubelb.testing import LocalCluster


def main() -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([reader]))

    with LocalCluster() as cluster:
        pods = cluster.service("reviews.prod", replicas=3)
        pods[0].fail(503)
        target = "static:///" + ",".join(pod.address for pod in pods)  # "reviews.prod:http" in a cluster
        with (
            kubelb.LoadBalancer(target, policy="round_robin", telemetry=kubelb.Telemetry("reviews.prod:http")) as lb,
            httpx.Client(mounts={"http://reviews.prod": Transport(lb)}) as client,
        ):
            for _ in range(3):
                client.get("http://reviews.prod/ratings/7").raise_for_status()
            show(spans, reader)
    tracers.shutdown()


def show(spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
    for span in spans.get_finished_spans():
        said = dict(span.attributes or {})
        status = said.get("http.response.status_code", f"{said.get('kubelb.attempts')} attempts")
        print(f"{span.kind.name.lower():9} {span.name:26} {status}")
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            said = {name: value for name, value in (point.attributes or {}).items() if name != "kubelb.service"}
            print(metric.name, said or "", getattr(point, "value", ""))


if __name__ == "__main__":
    main()
