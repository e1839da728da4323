"""A program whose kubelb is not installed: it uses what asks for a version, and what looks for parts of the package.

    python -I -S away_program.py FOLDER_OF_DEPENDENCIES [FOLDER_OR_ARCHIVE_OF_KUBELB]

It is run isolated, so that nothing is found that is not named. `kubelb` below is `app._vendor.kubelb` where it was
vendored under that name. It prints what it saw, as JSON.
"""
# ruff: noqa: E402 - what is imported lies where the arguments say

import http.server
import json
import os
import sys
import threading
from importlib import metadata

sys.path[:0] = sys.argv[1:]
del sys.argv[1:]

import httpx
import requests
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters.httpx import Transport
from kubelb.adapters.requests import mount
from kubelb.cli import main
from kubelb.service import service_of
from kubelb.testing import LocalCluster

PATIENCE = 20.0


class Pod(http.server.BaseHTTPRequestHandler):
    """Answers `ok`."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def listed():
    """What the process's metadata says of kubelb: nothing."""
    try:
        return metadata.version("kubelb")
    except metadata.PackageNotFoundError:
        return None


def told():
    """The scopes of a span and of a metric, of requests by each client."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pod)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = kubelb.Telemetry(meter_provider=MeterProvider([reader]), tracer_provider=tracers)
    with kubelb.LoadBalancer(f"static:///127.0.0.1:{server.server_port}", telemetry=telemetry) as lb:
        with httpx.Client(transport=Transport(lb)) as client, requests.Session() as session:
            mount(session, lb, hosts=["reviews.prod"])
            answers = [client.get("http://reviews.prod/").text, session.get("http://reviews.prod/").text]
        balanced.insecure_channel(lb).close()
        scopes = [each.scope for each in reader.get_metrics_data().resource_metrics[0].scope_metrics]
    server.shutdown()
    scopes += [span.instrumentation_scope for span in spans.get_finished_spans()]
    return answers, sorted({(scope.name, scope.version) for scope in scopes})


def in_child():
    """How many endpoints a forked child comes to see of a service that grows after the fork."""
    with LocalCluster() as cluster:
        service = cluster.service("reviews.prod:http", replicas=1)
        with kubelb.LoadBalancer(
            "reviews.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)
        ) as lb:
            lb.wait_ready(PATIENCE)
            seen, tell = os.pipe()
            child = os.fork()
            if not child:
                heard = threading.Event()
                ear = type("Ear", (), {"heard": lambda _, __: heard.set() if len(lb.endpoints()) == 2 else None})()
                service_of(lb).on_change(ear.heard)
                lb.endpoints()
                os.write(tell, b"listens")
                heard.wait(PATIENCE)
                os.write(tell, str(len(lb.endpoints())).encode())
                os._exit(0)
            os.read(seen, 100)
            service.scale(2)
            answer = int(os.read(seen, 100))
            os.waitpid(child, 0)
            return answer


def said():
    """What `kubelb --version` prints, and its exit code."""
    seen, tell = os.pipe()
    kept = os.dup(1)
    os.dup2(tell, 1)
    sys.argv[1:] = ["--version"]
    try:
        main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    os.dup2(kept, 1)
    return code, os.read(seen, 1000).decode().strip()


answers, scopes = told()
seen = {
    "file": kubelb.__file__,
    "listed": listed(),
    "version": kubelb.__version__,
    "answers": answers,
    "scopes": scopes,
    "child": in_child(),
    "said": said(),
    "strangers": sorted(name for name in sys.modules if name.partition(".")[0] == "kubelb"),
}
print(json.dumps(seen))
