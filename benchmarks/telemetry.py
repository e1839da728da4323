"""What telemetry adds to a call: nothing to speak of without an SDK, one measurement with one.

    python benchmarks/telemetry.py [--smoke]

The call is a no-op, so the differences are all there is; both sides of each come from one run. "http" is what an HTTP
adapter does for a request beside carrying it. Below stands what OpenTelemetry's SDK takes for a bare measurement, or
for two bare spans, of which ours are multiples. With --smoke the run is short; a missed gate exits 1.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import kubelb
from _gates import Gate, Gates
from _measure import Key, least, patiently
from kubelb.adapters.http import carrying
from kubelb.service import service_of
from kubelb.telemetry.conventions import http_answer

AIM = {"no SDK": 300, "metrics": 12_000}
"""Nanoseconds that a call should cost more at most: told where it does, and gated by ratios, for machines differ."""
OF_CALL = 0.25
"""What asking whether anything listens may cost, as a part of `LoadBalancer.call` around a no-op."""
OF_METRICS, OF_SPANS = 2.5, 2.5
"""Multiples of the SDK's own time for one measurement, and for two spans one below the other."""
NOISE = 1.15
"""What is forgiven, for the machine may be busy."""
KINDS = ("call", "acall", "http")
TARGET = "static:///" + ",".join(f"127.0.0.{i}:80" for i in range(1, 11))

URL = "http://reviews.prod/ratings/7"
HEADERS = [(b"Host", b"reviews.prod"), (b"Accept", b"*/*"), (b"User-Agent", b"python-httpx/0.28.1")]


def nothing(_attempt=None):
    return None


async def nothing_soon(_attempt=None):
    return None


def repeat(call):
    def chunk(size):
        for _ in range(size):
            call()

    return chunk


def dear_as(times: Mapping[Key, float]) -> list[Gate]:
    """Return the gates: what telemetry adds, of what it is to be compared with."""
    wholes = {
        "no SDK": ("a call", times["call, off"], OF_CALL),
        "metrics": ("the SDK's own", times["bare measurement"], OF_METRICS),
        "spans": ("the SDK's own", times["two bare spans"], OF_SPANS),
    }
    return [
        Gate(f"{kind}, {name}, of {what}", (times[f"{kind}, {name}"] - times[f"{kind}, off"]) / whole, bound * NOISE)
        for kind in KINDS
        for name, (what, whole, bound) in wholes.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates")
    rounds = 60 if parser.parse_args().smoke else 250
    meters, tracers = MeterProvider([InMemoryMetricReader()]), TracerProvider()
    said = {
        "off": False,
        "no SDK": True,
        "metrics": kubelb.Telemetry(meter_provider=meters),
        "spans": kubelb.Telemetry(tracer_provider=tracers),
    }
    balancers = {name: kubelb.LoadBalancer(TARGET, telemetry=telemetry) for name, telemetry in said.items()}
    histogram = meters.get_meter("bare").create_histogram("bare")
    tracer = tracers.get_tracer("bare")
    attributes = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "reviews.prod",
        "server.port": 80,
        "url.scheme": "http",
    }

    def two_spans():
        with tracer.start_as_current_span("call"), tracer.start_as_current_span("attempt"):
            pass

    loop = asyncio.new_event_loop()

    def soon(lb):
        async def many(size):
            for _ in range(size):
                await lb.acall(nothing_soon)

        return lambda size: loop.run_until_complete(many(size))

    def http(lb):
        endpoint = service_of(lb).balancer.states()[0].endpoint
        answer = http_answer(200)

        def request():
            if service_of(lb).watch.on():
                with service_of(lb).watch.http("GET", "http", "reviews.prod", None, URL, instrumented=False) as call:
                    with call.attempt(endpoint, 1) as attempt:
                        carrying(HEADERS, attempt.carrier())
                        attempt.answered(answer)
                    call.answered(answer)

        return repeat(request)

    chunks = {f"http, {name}": http(lb) for name, lb in balancers.items()}
    chunks |= {f"call, {name}": repeat(lambda lb=lb: lb.call(nothing)) for name, lb in balancers.items()}
    chunks |= {f"acall, {name}": soon(lb) for name, lb in balancers.items()}
    chunks["bare measurement"] = repeat(lambda: histogram.record(0.001, attributes))
    chunks["two bare spans"] = repeat(two_spans)

    def turn() -> dict[Key, float]:
        # Few at a time: 300 spans, or 300 measurements on a busy machine, hardly ever run undisturbed.
        return least(chunks, rounds * 3, size=40)

    times = patiently(turn, dear_as)
    loop.close()
    for lb in balancers.values():
        lb.close()

    print(f"{'us around a no-op':20} {'off':>7} " + "".join(f"{'+ ' + name:>11}" for name in list(said)[1:]))
    gates = Gates()
    gates.add(dear_as(times))
    for kind in KINDS:
        off = times[f"{kind}, off"]
        added = {name: times[f"{kind}, {name}"] - off for name in list(said)[1:]}
        print(f"{kind:20} {off / 1000:7.2f} " + "".join(f"{ns / 1000:11.2f}" for ns in added.values()))
        for name, aim in AIM.items():
            if added[name] > aim:
                print(f"  {name}: {added[name] / 1000:.2f} us more, where {aim / 1000} us is the aim")
    print(
        f"the SDK's own: measurement {times['bare measurement'] / 1000:.2f}, spans {times['two bare spans'] / 1000:.2f}"
    )
    return gates.close()


if __name__ == "__main__":
    sys.exit(main())
