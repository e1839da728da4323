"""The API server dies, freezes, forgets and changes its ways: endpoints stay, and what was missed is caught up."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from kubelb import NotReady
from kubelb.core.events import EndpointsChanged

from .balancers import Balancer, Balancers
from .cluster import Cluster
from .controlplane import ControlPlane
from .processes import wait_for
from .proxy import Proxy

ONE, TWO, THREE, FOUR = "10.244.0.1", "10.244.0.2", "10.244.0.3", "10.244.0.4"
DOWN = 6.0


@pytest.fixture
def web(cluster: Cluster, ns: str) -> str:
    """A Service without a selector, with a slice for each of two addresses; its name as a target.

    Slices by hand, because the controllers hang on the API server whose faults these are.
    """
    cluster.service(ns, "web", {"http": 8080}, selector={})
    cluster.write_slice(ns, "web", "web-a", [ONE])
    cluster.write_slice(ns, "web", "web-b", [TWO])
    return f"web.{ns}:http"


def added(lb: Balancer) -> Counter[str]:
    """How often each address came as new."""
    events = [event for event in lb.events if isinstance(event, EndpointsChanged)]
    return Counter(address.partition(":")[0] for event in events for address in event.added)


def removed(lb: Balancer) -> list[str]:
    """The addresses that were told to be gone."""
    return [address for event in lb.events if isinstance(event, EndpointsChanged) for address in event.removed]


def tries(seconds: float, each: float = 0.0) -> int:
    """How many there may be in this time, each so long: 0.8 s between the first two, then twice as much, and so on."""
    count, rest = 1, seconds
    while rest >= each:
        rest -= each + 0.8 * 2 ** (count - 1)
        count += 1
    return count


def test_a_dead_api_server_is_missed_by_nobody(
    control_plane: ControlPlane, balancers: Balancers, ns: str, web: str
) -> None:
    """Killed: calls go on, the age grows and is told, tries are few. Back on its port: found without a word of ours."""
    lb = balancers.ready(web, ONE, TWO, max_stale=DOWN / 2)
    control_plane.kill_api_server()
    died = time.monotonic()
    health = lb.health()
    assert health.stale is ((health.age or 0.0) >= DOWN / 2)
    picked = Counter[str]()
    while time.monotonic() < died + DOWN:
        picked[lb.call(lambda attempt: attempt.endpoint.ip)] += 1
        time.sleep(0.01)
    assert set(picked) == {ONE, TWO}
    health = lb.health()
    assert health.synced
    assert health.stale
    assert health.age is not None
    assert health.age > DOWN - 1.0
    assert "connection refused" in health.error
    assert "is the API server up" in health.cure
    assert 2 <= len(lb.failures) <= tries(time.monotonic() - died), lb.failures
    control_plane.restart_api_server()
    # Although nothing has changed, and no bookmark came yet.
    wait_for(lambda: (health := lb.health()).error == "" and not health.stale, 60.0)
    control_plane.cluster.write_slice(ns, "web", "web-c", [THREE])
    lb.wait_used(ONE, TWO, THREE)
    wait_for(lambda: THREE in added(lb))  # told a moment after it is used
    assert added(lb) == {ONE: 1, TWO: 1, THREE: 1}
    assert not removed(lb)


def test_a_resync_ends_the_wait_for_a_server_that_is_back(
    control_plane: ControlPlane, balancers: Balancers, proxy: Proxy, ns: str, web: str, tmp_path: Path
) -> None:
    """`resync_now()` does not wait for the next try: what changed meanwhile is there before that was due."""
    lb = balancers.ready(web, ONE, TWO, kubeconfig=control_plane.kubeconfig(tmp_path / "proxied", url=proxy.url))
    proxy.wait_watch()
    proxy.refuse()
    wait_for(lambda: len(lb.failures) >= 4, 60.0)
    due = time.monotonic() + 0.8 * 2**3  # or up to twice as long
    proxy.heal()
    control_plane.cluster.write_slice(ns, "web", "web-a", [THREE])
    lb.resync_now()
    lb.wait_used(TWO, THREE)
    assert time.monotonic() < due


def test_a_pod_may_start_while_the_api_server_is_away(
    control_plane: ControlPlane, balancers: Balancers, web: str
) -> None:
    """Nothing known yet: the error names host and cause, a seed is used at once, the first list replaces it."""
    control_plane.kill_api_server()
    lb, seeded = balancers(web), balancers(web, seed=[f"{FOUR}:8080"])
    lb.resync_now()
    lb.wait_told("connection refused")
    with pytest.raises(NotReady, match=r"connecting to 127\.0\.0\.1:\d+: connection refused"):
        lb.wait_ready(0.5)
    assert seeded.call(lambda attempt: attempt.endpoint.ip) == FOUR
    control_plane.restart_api_server()
    lb.wait_used(ONE, TWO, timeout=60.0)
    seeded.wait_used(ONE, TWO, timeout=60.0)


def test_a_frozen_api_server_costs_nothing_that_is_written_meanwhile(
    control_plane: ControlPlane, balancers: Balancers, ns: str, web: str
) -> None:
    """Silence is noticed by the read timeout; after the thaw all changes are there, each once and in order."""
    lb = balancers.ready(web, ONE, TWO, read_timeout=2.0, connect_timeout=1.0)
    with control_plane.second_api_server() as second:
        meanwhile = Cluster(second.api)
        control_plane.freeze_api_server()
        frozen, earlier = time.monotonic(), len(lb.failures)  # two servers may be too much for the little patience
        for number in range(10, 20):
            meanwhile.write_slice(ns, "web", f"web-{number}", [f"10.244.0.{number}"])
            meanwhile.write_slice(ns, "web", "web-b", [f"10.244.1.{number}"])
        lb.stays(ONE, TWO, seconds=6.0)
        lb.wait_told("no answer in time")
        assert 1 <= len(lb.failures) - earlier <= tries(time.monotonic() - frozen, each=1.0), lb.failures
        control_plane.thaw_api_server()
    expected = {ONE, "10.244.1.19", *(f"10.244.0.{number}" for number in range(10, 20))}
    lb.wait_used(*expected, timeout=60.0)
    wait_for(lambda: expected <= set(added(lb)) and removed(lb))  # told a moment after they are used
    assert {address: added(lb)[address] for address in expected} == dict.fromkeys(expected, 1)
    assert removed(lb)[-1].startswith(("10.244.1.", TWO))
    lb.wait_well()


@pytest.mark.parametrize(
    "flags",
    [("--watch-cache=false",), ("--feature-gates=WatchList=false", "--min-request-timeout=3")],
    ids=["no watch cache", "no WatchList"],
)
def test_an_api_server_may_be_of_another_kind(
    control_plane: ControlPlane, balancers: Balancers, ns: str, web: str, flags: tuple[str, ...]
) -> None:
    """Restarted with other flags: who was connected goes on, who comes now starts, and changes reach both."""
    before = balancers.ready(web, ONE, TWO)
    control_plane.restart_api_server(*flags)
    after = balancers.ready(web, ONE, TWO)
    control_plane.cluster.write_slice(ns, "web", "web-c", [THREE])
    after.wait_used(ONE, TWO, THREE)
    before.wait_used(ONE, TWO, THREE, timeout=60.0)
    time.sleep(4.0)  # longer than the shortest request that the server insists on
    control_plane.cluster.write_slice(ns, "web", "web-a", [FOUR])
    for lb in (before, after):
        lb.wait_used(TWO, THREE, FOUR)
    assert not after.failures


def test_a_long_list_comes_in_pages(
    control_plane: ControlPlane, balancers: Balancers, proxy: Proxy, ns: str, web: str, tmp_path: Path
) -> None:
    """Without its watch cache a server honours `limit`: more slices than fit on a page are all there."""
    control_plane.restart_api_server("--watch-cache=false")
    addresses = [f"10.244.{3 + number // 200}.{1 + number % 200}" for number in range(510)]
    for number, address in enumerate(addresses):
        control_plane.cluster.write_slice(ns, "web", f"web-{number}", [address])
    kubeconfig = control_plane.kubeconfig(tmp_path / "proxied", url=proxy.url)
    balancers.ready(web, ONE, TWO, *addresses, kubeconfig=kubeconfig)
    assert ["continue=" in seen.target for seen in proxy.lists] == [False, True]


@pytest.mark.parametrize("flags", [(), ("--watch-cache=false",)], ids=["watch cache", "no watch cache"])
def test_history_that_is_gone_costs_one_list_and_no_endpoint(
    control_plane: ControlPlane,
    balancers: Balancers,
    proxy: Proxy,
    ns: str,
    web: str,
    tmp_path: Path,
    flags: tuple[str, ...],
) -> None:
    """410 as the server really says it, in an event of a watch that began with 200: one relist, the least change."""
    lb = balancers.ready(web, ONE, TWO, kubeconfig=control_plane.kubeconfig(tmp_path / "proxied", url=proxy.url))
    proxy.wait_watch()
    with control_plane.second_api_server() as second:
        control_plane.kill_api_server()
        Cluster(second.api).write_slice(ns, "web", "web-b", [THREE])
        Cluster(second.api).write_slice(ns, "web", "web-c", [FOUR])
        control_plane.compact()
    lists = len(proxy.lists)
    control_plane.restart_api_server(*flags)
    lb.wait_used(ONE, THREE, FOUR, timeout=60.0)
    wait_for(lambda: removed(lb) and FOUR in added(lb))  # told a moment after it is so
    assert len(proxy.lists) == lists + 1
    assert "resourceVersion=0" not in proxy.lists[-1].target  # not older than what is known, or etcd's own
    assert added(lb) == {ONE: 1, TWO: 1, THREE: 1, FOUR: 1}
    assert removed(lb) == [f"{TWO}:8080"]
    control_plane.cluster.write_slice(ns, "web", "web-b", [TWO])
    lb.wait_used(ONE, TWO, FOUR)
    assert len(proxy.lists) == lists + 1
