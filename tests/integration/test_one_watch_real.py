"""Many services of a namespace on one watch of a real API server, and who may have one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kubelb.discovery.kube.transport import Transport
from kubelb.service import service_of

from .access import READ_SLICES, Access, wait_may
from .api import ApiError
from .balancers import Balancers, threads
from .cluster import SERVICE_LABEL, Cluster
from .controlplane import ControlPlane
from .processes import wait_for

SERVICES = 12


def watching() -> int:
    """Threads that watch."""
    return sum(name.startswith("kubelb-watch") for name in threads())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request so far, whether it was a watch."""
    seen: list[bool] = []
    ask = Transport.get

    def get(self: Transport, step: Any) -> Any:
        seen.append(step.watch)
        return ask(self, step)

    monkeypatch.setattr(Transport, "get", get)
    return seen


def test_twelve_services_are_one_watch(
    cluster: Cluster, balancers: Balancers, ns: str, asked: list[bool], figure: Callable[[str], None]
) -> None:
    """Opened in a loop they share one; opened and closed while slices change all the time, they lose nothing."""
    names = [f"s{number}" for number in range(SERVICES)]
    for number, name in enumerate(names):
        cluster.service(ns, name, {"http": 8080}, selector={})
        cluster.write_slice(ns, name, f"{name}-a", [f"10.244.1.{number}"])
    lbs = {name: balancers(f"kube:///{name}.{ns}:http") for name in names}
    for lb in lbs.values():
        service_of(lb).feed()
    for number, name in enumerate(names):
        lbs[name].wait_used(f"10.244.1.{number}")
    wait_for(lambda: watching() == 1, what="one watch")
    figure(f"{SERVICES} services of a process: {sum(asked)} watches begun, {len(asked) - sum(asked)} lists, 1 stays")
    assert sum(asked) <= 3

    stop, truth, dice = threading.Event(), {}, random.Random(1)

    def churn() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            name = names[turn % SERVICES]
            truth[name] = f"10.244.{2 + turn // 250 % 100}.{turn % 250}"
            cluster.write_slice(ns, name, f"{name}-a", [truth[name]])

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        for _ in range(20):
            name = dice.choice(names)
            lbs[name].close()
            lbs[name] = balancers(f"kube:///{name}.{ns}:http")
            service_of(lbs[name]).feed()
            stop.wait(dice.choice([0.0, 0.05, 0.3]))
    finally:
        stop.set()
        writer.join()
    for name in names:
        lbs[name].wait_used(truth[name])
    wait_for(lambda: watching() == 1, what="one watch again")
    assert not any(lb.failures for lb in lbs.values())


@pytest.mark.parametrize("selector", [f"{SERVICE_LABEL}=a", f"{SERVICE_LABEL} in (a,b)", SERVICE_LABEL])
@pytest.mark.parametrize(("names", "allowed"), [([], True), (["a", "b", "a-x", "b-x"], False)])
def test_a_role_allows_every_selector_or_none(
    control_plane: ControlPlane, access: Access, ns: str, selector: str, names: list[str], allowed: bool
) -> None:
    """RBAC knows no labels; and with resourceNames, which name slices, a role allows no selector at all."""
    rule = READ_SLICES | ({"resourceNames": names} if names else {})
    account = access.service_account(ns, "reader")
    access.bind(ns, access.role(ns, "reads", [rule]), account)
    limited = control_plane.client(access.token(ns, account))
    path = f"/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"
    if allowed:
        wait_may(limited, ns, "list", "watch")
        assert limited.get(path, labelSelector=selector)["items"] == []
        return
    with pytest.raises(ApiError) as refused:
        limited.get(path, labelSelector=selector)
    assert refused.value.status == 403
