"""What telemetry imports, and when: nothing without OpenTelemetry, and with it nothing that a request waits for."""

import subprocess
import sys

OURS = ["meters", "looking", "conventions", "calls"]
LOADED = f"loaded = lambda: [name for name in {OURS!r} if 'kubelb.telemetry.' + name in sys.modules]\n"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, kubelb\n{LOADED}{code}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_process_without_opentelemetry_does_not_pay_for_it() -> None:
    """The kind: every process imports what only some use. A load balancer and a call load none of it."""
    code = (
        "with kubelb.LoadBalancer('static:///127.0.0.1:1') as lb: lb.call(lambda attempt: 1)\n"
        "import os; os.fork() or (lb, os._exit(0)); os.wait()\n"
        "print(loaded())"
    )
    assert run(code) == "[]"


def test_no_request_pays_for_telemetry() -> None:
    """The kind: the first request waits for what could have been imported before: the constructor has it all."""
    code = (
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "with kubelb.LoadBalancer('static:///127.0.0.1:1', telemetry=kubelb.Telemetry(meter_provider=MeterProvider()))"
        " as lb:\n"
        "    print(sorted(loaded())); before = set(sys.modules); lb.call(lambda attempt: 1)\n"
        "    print([name for name in sys.modules if name not in before and name.startswith('kubelb')])"
    )
    assert run(code) == f"{sorted(OURS)}\n[]"


def test_meters_that_cannot_be_loaded_just_now_are_loaded_later() -> None:
    """The kind: what is imported while a failure is handled fails itself, where no descriptor is left: metrics then
    begin with the next event, and no event is lost.
    """
    code = (
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "reader = InMemoryMetricReader()\n"
        "sys.modules['kubelb.telemetry.meters'] = None\n"
        "telemetry = kubelb.Telemetry(meter_provider=MeterProvider([reader]))\n"
        "lb = kubelb.LoadBalancer('static:///127.0.0.1:1', telemetry=telemetry)\n"
        "del sys.modules['kubelb.telemetry.meters']\n"
        "lb.call(lambda attempt: 1)\n"
        "metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics\n"
        "print(*(each.data.data_points[0].value for each in metrics if each.name == 'kubelb.requests'), lb.close())"
    )
    assert run(code) == "1 None"
