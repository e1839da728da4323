"""Who listens, asked cheaply; and those who begin to listen late, in processes of their own."""

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from kubelb.telemetry import presence


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The modules that seem to be loaded."""
    modules: dict[str, Any] = {}
    monkeypatch.setattr(presence, "_loaded", modules.get)
    return modules


def module(**names: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(**names)


def test_nobody(loaded: dict[str, Any]) -> None:
    """Without OpenTelemetry, and with its API alone."""
    assert not presence.present()
    loaded["opentelemetry.trace"] = module(_TRACER_PROVIDER=None)
    loaded["opentelemetry.metrics"] = module()
    loaded["opentelemetry.metrics._internal"] = module(_METER_PROVIDER=None)
    assert not presence.present()
    assert not presence.tracing()
    assert not presence.metering()


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("metered", [False, True])
def test_somebody(loaded: dict[str, Any], traced: bool, metered: bool) -> None:
    """Either provider will do."""
    loaded["opentelemetry.trace"] = module(_TRACER_PROVIDER=object() if traced else None)
    loaded["opentelemetry.metrics"] = module()
    loaded["opentelemetry.metrics._internal"] = module(_METER_PROVIDER=object() if metered else None)
    assert presence.present() is (traced or metered)
    assert presence.tracing() is traced
    assert presence.metering() is metered


def test_a_version_that_keeps_them_elsewhere(loaded: dict[str, Any]) -> None:
    """Then the API's own no-ops are asked."""
    loaded["opentelemetry.trace"] = module()
    loaded["opentelemetry.metrics"] = module()
    assert presence.present()
    assert presence.tracing()
    assert presence.metering()


def test_the_globals_are_where_we_look() -> None:
    """In the version at hand: with these two names nothing is asked of the API on the path of a request."""
    from opentelemetry import trace
    from opentelemetry.metrics import _internal

    assert hasattr(trace, "_TRACER_PROVIDER")
    assert hasattr(_internal, "_METER_PROVIDER")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SET_UP = """
from opentelemetry import metrics, trace
from telemetry.kit import Sdk
sdk = Sdk()
trace.set_tracer_provider(sdk.tracer_provider)
metrics.set_meter_provider(sdk.meter_provider)
"""
USE = """
import sys, kubelb
lb = kubelb.LoadBalancer("static:///10.0.0.1:80,10.0.0.2:80")
lb.call(lambda attempt: attempt)
"""


def test_an_sdk_that_is_set_up_later() -> None:
    """Metrics tell of everything since the load balancer was built, spans of what comes."""
    code = f"""
{USE}
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
{SET_UP}
assert sdk.points() == {{}}
lb.call(lambda attempt: attempt)
print(int(sdk.values("kubelb.requests")[""]), int(sdk.values("kubelb.discovery.updates")[""]), len(sdk.spans()))
"""
    assert run(code) == "2 1 2"


def test_an_sdk_that_is_set_up_later_where_the_api_is_loaded() -> None:
    """Then not even a request is needed."""
    code = f"""
import opentelemetry.metrics
{USE}
{SET_UP}
print(int(sdk.values("kubelb.requests")[""]), sorted(sdk.values("kubelb.endpoints")))
"""
    assert run(code) == "1 ['ready']"


def test_an_sdk_that_is_set_up_first() -> None:
    """The usual order."""
    code = f"""
{SET_UP}
{USE}
print(int(sdk.values("kubelb.requests")[""]), len(sdk.spans()), sdk.durations("kubelb.call.duration"))
"""
    assert run(code) == "1 2 [{}]"


def test_a_forked_child_begins_at_zero() -> None:
    """What was counted is the parent's to report, and a lock that a thread held there holds up nobody."""
    code = f"""
import os, threading
{SET_UP}
{USE}
from kubelb.service import service_of
service = service_of(lb)
leases = [service.balancer.pick() for _ in range(2)]
service._publish(kubelb.Snapshot(2, (kubelb.Endpoint("10.0.0.3", 80),)))
lease = service.balancer.pick()
from kubelb.telemetry import meters
held, go_on = threading.Event(), threading.Event()
def hold():
    with service.watch._tally._lock, service.watch._meters._lock, meters._lock:
        held.set(); go_on.wait(20)
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    lb.call(lambda attempt: attempt)
    said = [sdk.values("kubelb." + name) for name in ("requests", "attempts", "attempts.active", "discovery.updates")]
    good = said == [{{"": 1}}, {{"success": 1, "failure": 0, "other": 0}}, {{"": 0}}, {{"": 0}}]
    with kubelb.LoadBalancer("static:///10.0.0.1:80") as another:
        another.call(lambda attempt: attempt)
        good = good and sdk.values("kubelb.requests") == {{"": 2}}
    os._exit(0 if good else 1)
_, status = os.waitpid(child, 0)
go_on.set()
print(os.waitstatus_to_exitcode(status), int(sdk.values("kubelb.requests")[""]))
"""
    assert run(code) == "0 4"


def test_a_process_without_an_sdk_stays_without_it() -> None:
    """Nor is the API imported by us, not even by adapters."""
    code = """
import sys, kubelb, kubelb.adapters.httpx, kubelb.adapters.requests
with kubelb.LoadBalancer("static:///10.0.0.1:80") as lb:
    lb.call(lambda attempt: attempt)
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert run(code) == "[]"
