"""ddtrace: it patches requests and the clients of httpx and httpx2."""

import os
from collections.abc import Callable

os.environ |= {
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
}

import ddtrace
from ddtrace.trace import Span, TraceFilter, tracer

HEADER = "x-datadog-trace-id"
TRACES = ["httpx", "httpx async", "requests"]

_sent: list[Span] = []


class Kept(TraceFilter):
    """Sends nothing."""

    def process_trace(self, trace: list[Span]) -> None:
        _sent.extend(trace)


def start() -> Callable[[Callable[[], object]], list[tuple[str, str]]]:
    tracer.configure(trace_processors=[Kept()])
    ddtrace.patch(httpx=True, requests=True)
    return record


def record(call: Callable[[], object]) -> list[tuple[str, str]]:
    _sent.clear()
    with tracer.trace("page"):
        call()
    return [(span.get_tag("out.host") or "", span.get_tag("http.url") or "") for span in _sent if span.name != "page"]
