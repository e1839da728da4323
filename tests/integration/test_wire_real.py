"""The way to the API server is slow, silent, cut or full of garbage: endpoints stay, nobody hurries."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.stalls import elapsed

from kubelb.service import service_of

from .balancers import CLOSE_TIMEOUT, Balancer, Balancers, sockets_to, threads
from .cluster import Cluster
from .controlplane import ControlPlane
from .processes import wait_for
from .proxy import Proxy, chunk

ONE, TWO, THREE = "10.244.0.1", "10.244.0.2", "10.244.0.3"
FAULT = 4.0
READ_TIMEOUT, CONNECT_TIMEOUT = 1.5, 1.0

Fault = Callable[[Proxy, Balancer], None]


@pytest.fixture
def web(cluster: Cluster, ns: str) -> str:
    """A Service of two ready pods; its name as a target."""
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-1", ONE, {"app": "web"}, "node-a")
    cluster.pod(ns, "web-2", TWO, {"app": "web"}, "node-b")
    cluster.wait_ready(ns, "web", ONE, TWO)
    return f"web.{ns}:http"


@pytest.fixture
def make(
    control_plane: ControlPlane, balancers: Balancers, proxy: Proxy, web: str, tmp_path: Path
) -> Callable[[], Balancer]:
    """Load balancers of little patience that reach the API server through the proxy."""
    kubeconfig = control_plane.kubeconfig(tmp_path / "proxied", url=proxy.url)
    return lambda: balancers(web, kubeconfig=kubeconfig, read_timeout=READ_TIMEOUT, connect_timeout=CONNECT_TIMEOUT)


def slow(proxy: Proxy, lb: Balancer) -> None:
    proxy.pause = 0.002


def stalled(proxy: Proxy, lb: Balancer) -> None:
    proxy.stalled = True


def deaf(proxy: Proxy, lb: Balancer) -> None:
    proxy.deaf = True
    proxy.cut()


def black_hole(proxy: Proxy, lb: Balancer) -> None:
    proxy.black_hole()


def cut_mid_line(proxy: Proxy, lb: Balancer) -> None:
    proxy.cut_events = 3


def cut_mid_list(proxy: Proxy, lb: Balancer) -> None:
    proxy.cut_lists = 3
    lb.resync_now()


def garbage(proxy: Proxy, lb: Balancer) -> None:
    """A line that is no JSON, in a chunk that is well-formed."""
    proxy.inject(chunk(b'{"type": "MODIFIED", "obj\n'))


def garbled_framing(proxy: Proxy, lb: Balancer) -> None:
    """Bytes where the length of a chunk should be."""
    proxy.inject(b"\x00\xff no chunk \r\n" * 3)


FAULTS = [slow, stalled, deaf, black_hole, cut_mid_line, cut_mid_list, garbage, garbled_framing]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_wire_costs_neither_endpoints_nor_patience(
    proxy: Proxy, make: Callable[[], Balancer], cluster: Cluster, ns: str, fault: Fault
) -> None:
    """While it lasts the last known endpoints are used and few requests are made; after it, all changes are there."""
    lb = make()
    lb.wait_ready(30.0)
    lb.wait_used(ONE, TWO)
    proxy.wait_watch()  # so that the fault is in a stream, and what follows is counted from here
    requests, connections = len(proxy.seen), proxy.connections
    fault(proxy, lb)
    until = time.monotonic() + FAULT
    cluster.pod(ns, "web-3", THREE, {"app": "web"}, "node-b")
    while time.monotonic() < until:
        assert lb.used in ({ONE, TWO}, {ONE, TWO, THREE})
        assert lb.call(lambda attempt: attempt.endpoint.ip) in lb.used
        time.sleep(0.02)
    assert len(proxy.seen) - requests <= 6, [(seen.at - until, seen.target) for seen in proxy.seen[requests:]]
    assert proxy.connections - connections <= 6
    wait_for(lambda: not proxy.cut_events and not proxy.cut_lists, 30.0, what="all cuts to be made")
    assert fault is slow or len(proxy.seen) > requests or proxy.connections > connections or lb.failures
    proxy.heal()
    lb.wait_used(ONE, TWO, THREE, timeout=60.0)
    cluster.delete_pod(ns, "web-1")
    lb.wait_used(TWO, THREE, timeout=60.0)
    lb.wait_well(60.0)


@pytest.mark.parametrize("synced", [False, True], ids=["from the start", "once synced"])
@pytest.mark.parametrize(
    "fault",
    [None, slow, stalled, deaf, black_hole],
    ids=lambda fault: getattr(fault, "__name__", "healthy"),
)
def test_closing_takes_no_time_in_any_state(
    proxy: Proxy,
    make: Callable[[], Balancer],
    figure: Callable[[str], None],
    fault: Fault | None,
    synced: bool,
) -> None:
    """Connecting, shaking hands, waiting for an answer, reading it, watching, pausing: closed at once, no trace."""
    took, stages = [], set()
    for pause in (0.0, 0.02, 0.3, 1.2):
        lb = make()
        if synced:
            lb.wait_ready(30.0)
        if fault is not None:
            fault(proxy, lb)
        lb.resync_now()  # begins, or begins anew
        time.sleep(pause)
        stages.add(stage(lb))
        took.append(elapsed(lb.close))
        wait_for(lambda: not threads(), 1.0, what="its threads to end")
        wait_for(lambda: not sockets_to(proxy.port) - proxy.own, 1.0, what="its connection to be closed")
        proxy.heal()
    figure(f"close() at most {max(took).seconds * 1000:.0f} ms, while {', '.join(sorted(stages))}")
    assert all(each.own <= CLOSE_TIMEOUT for each in took), took


def stage(lb: Balancer) -> str:
    """What the stream is doing."""
    stream = getattr((feed := service_of(lb).opening.now) and feed.source, "_stream", None)
    return stream.stage.rpartition(" ")[0] if stream else "beginning"
