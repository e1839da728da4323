"""Agents that patch gRPC for the whole process, each in a process of its own; and py-grpc-prometheus."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from py_grpc_prometheus.prometheus_client_interceptor import PromClientInterceptor
from tests.companions.rpc import serving, until

from kubelb.adapters.grpc import insecure_channel

ROOT = Path(__file__).parent.parent.parent
ECHO = "/kubelb.testing.Echo/"


def told_by(agent: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.companions.agents_program", agent],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def check_failing(spans: list[list[Any]], pods: list[str], calls: int) -> None:
    """One span for each try: the pod that is UNAVAILABLE is named on its own, and others have made it good."""
    places = [place for _, place, _ in spans]
    assert set(places) == set(pods)
    assert len(places) == calls + places.count(pods[0])


@pytest.mark.slow
def test_ddtrace() -> None:
    """A span for each try of every kind of call, with the pod's IP and port; no call is lost to the agent's proxies."""
    told = told_by("ddtrace")
    pods = told["pods"]
    kinds = ["Unary", "ServerStream", "ClientStream", "BidiStream"]
    assert [method for method, _, _ in told["sync"]] == [ECHO + kind for kind in ["Unary", "Unary", *kinds]]
    assert [method for method, _, _ in told["asyncio"]] == [ECHO + kind for kind in kinds]
    for spans in (told["sync"], told["asyncio"]):
        assert {place for _, place, _ in spans} == set(pods)
        assert not any(failed for _, _, failed in spans)
    for spans, calls in ((told["sync failing"], 6), (told["streams failing"], 3), (told["asyncio failing"], 6)):
        check_failing(spans, pods, calls)
        assert {place for _, place, failed in spans if failed} == {pods[0]}
        assert {place for _, place, failed in spans if not failed} == set(pods[1:])


@pytest.mark.slow
def test_elastic() -> None:
    """A span for each try of a call with one answer, which is all that it sees; it calls none of them failed."""
    told = told_by("elastic")
    assert [method for method, _, _ in told["sync"]] == [ECHO + "Unary"] * 3
    assert {place for _, place, _ in told["sync"]} == set(told["pods"])
    check_failing(told["sync failing"], told["pods"], 6)
    assert told["streams failing"] == told["asyncio"] == told["asyncio failing"] == []
    assert told["traced"] >= 9


def counted(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "each pod"])
def test_prometheus(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    """Around the channel it counts calls; around those to the pods it counts tries, with the status of each."""
    registry = CollectorRegistry()
    interceptor = PromClientInterceptor(enable_client_handling_time_histogram=True, registry=registry)
    if not whole:
        make = grpc.insecure_channel
        monkeypatch.setattr(
            grpc, "insecure_channel", lambda *said, **named: grpc.intercept_channel(make(*said, **named), interceptor)
        )
    with serving(grpc=True) as (pods, lb), insecure_channel(lb, idempotent=True) as balanced:
        channel: Any = grpc.intercept_channel(balanced, interceptor) if whole else balanced
        assert until(lambda: balanced._channel.check_connectivity_state(True) == 2)  # type: ignore[attr-defined]
        unary = channel.unary_unary(ECHO + "Unary")
        assert [unary(b"x", timeout=20) for _ in range(6)] == [b"x"] * 6
        assert unary.future(b"x", timeout=20).result() == b"x"
        assert list(channel.unary_stream(ECHO + "ServerStream")(b"x", timeout=20)) == [b"x"] * 3
        assert channel.stream_unary(ECHO + "ClientStream")(iter([b"x", b"y"]), timeout=20) == b"xy"
        assert list(channel.stream_stream(ECHO + "BidiStream")(iter([b"x", b"y"]), timeout=20)) == [b"x", b"y"]
        assert counted(registry, "grpc_client_handled_total", grpc_code="OK", grpc_method="Unary") == 7
        assert counted(registry, "grpc_client_msg_received_total", grpc_method="ServerStream") == 3
        assert counted(registry, "grpc_client_msg_sent_total", grpc_method="ClientStream") == 2
        pods[0].fail(grpc.StatusCode.UNAVAILABLE)
        assert [unary(b"x", timeout=20) for _ in range(6)] == [b"x"] * 6
        assert counted(registry, "grpc_client_handled_total", grpc_code="OK", grpc_method="Unary") == 13
        tries = counted(registry, "grpc_client_handled_total", grpc_code="UNAVAILABLE")
        assert (tries == 0) if whole else (tries >= 1)
