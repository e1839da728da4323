"""Thirty services of a process and a real API server that is away for half a minute while all their pods change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from kubelb.discovery.kube.steps import Reply
from kubelb.discovery.kube.transport import Transport

from .balancers import Balancer, Balancers
from .cluster import Cluster
from .controlplane import ControlPlane
from .processes import wait_for

SERVICES = 30
AWAY = 32.0
# Promised are 3 s in the median and 8 s at most, on a machine that does nothing else.
MEDIAN, MOST = 6.0, 20.0


def busiest(times: list[float]) -> int:
    """Requests in the busiest second."""
    return max((sum(first <= at < first + 1.0 for at in times) for first in times), default=0)


@pytest.mark.timeout(240)
def test_thirty_services_come_back_soon_and_in_turn(
    control_plane: ControlPlane,
    cluster: Cluster,
    balancers: Balancers,
    ns: str,
    monkeypatch: pytest.MonkeyPatch,
    figure: Callable[[str], None],
) -> None:
    """Right again soon after the server is, without a stampede, and few requests while it is away."""
    names = [f"s{number}" for number in range(SERVICES)]
    for number, name in enumerate(names):
        cluster.service(ns, name, {"http": 8080}, selector={})
        cluster.write_slice(ns, name, f"{name}-a", [f"10.244.1.{number}"])
    asked: list[float] = []
    answered: list[float] = []
    ask = Transport.get

    def get(self: Transport, step: Any) -> Any:
        asked.append(time.monotonic())
        said = ask(self, step)
        if isinstance(said, Reply) and said.status == 200:
            answered.append(time.monotonic())
        return said

    monkeypatch.setattr(Transport, "get", get)
    lbs: list[Balancer] = [balancers(f"kube:///{name}.{ns}:http") for name in names]
    for number, lb in enumerate(lbs):
        lb.feed()
        lb.wait_used(f"10.244.1.{number}", timeout=60.0)
    with control_plane.second_api_server() as other:
        control_plane.kill_api_server()
        died = time.monotonic()
        for number, name in enumerate(names):
            Cluster(other.api).write_slice(ns, name, f"{name}-a", [f"10.244.2.{number}"])
        time.sleep(max(0.0, died + AWAY - time.monotonic()))
        away = [at for at in asked if at > died]
        assert {address for lb in lbs for address in lb.used} == {f"10.244.1.{n}" for n in range(SERVICES)}
        restart = threading.Thread(target=control_plane.restart_api_server)
        restart.start()
        seen: dict[str, float] = {}

        def all_right() -> bool:
            for number, (name, lb) in enumerate(zip(names, lbs, strict=True)):
                if name not in seen and lb.used == {f"10.244.2.{number}"}:
                    seen[name] = time.monotonic()
            return len(seen) == SERVICES

        wait_for(all_right, 120.0)
        restart.join()
    back = next(at for at in answered if at > died + AWAY)
    right = [at - back for at in seen.values()]
    for lb in lbs:
        lb.wait_well(60.0)
        assert lb.failures
        assert set(lb.failures) <= {"unreachable", "forbidden", "server-error", "throttled"}
    first = [at for at in asked if back - 0.5 <= at < back + 0.5]
    figure(
        f"right again {median(right):.1f} s after the first answer in the median, {max(right):.1f} s at most; "
        f"busiest second {busiest(away)} requests while away; {len(first)} in the second of the first answer"
    )
    assert busiest(away) <= 10
    assert len(first) <= 10
    assert median(right) <= MEDIAN
    assert max(right) <= MOST
