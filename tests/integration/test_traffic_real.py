"""Real requests to real pods while these come, go and die: callers of idempotent requests see nothing of it.

A pod is always killed or drained in the midst of work: see `Fleet.catch`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from kubelb import EndpointView
from kubelb.policies import PeakEwma
from kubelb.service import service_of

from .backends import Backends
from .balancers import Balancer, Balancers
from .cluster import Cluster
from .controlplane import ControlPlane
from .fleet import Fleet
from .load import Load
from .processes import wait_for

LONG = any(os.environ.get(name, "").lower() not in {"", "0", "false"} for name in ("CI", "KUBELB_LONG"))
AWAY = 60.0 if LONG else 10.0

NEWS = 160  # requests, which take two seconds
# A newcomer that was never asked is taken whenever it is one of the two candidates (1 in 4 of eight) and its slow start
# lets it (1 in 10, more from the third second on): that none of six seconds' requests finds it has a chance of 1e-6.
SOON = 480

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def fleet(cluster: Cluster, backends: Backends, ns: str) -> Fleet:
    """Five pods."""
    fleet = Fleet(cluster, backends, ns)
    fleet.up(5)
    fleet.wait_listed()
    return fleet


@pytest.fixture
def lb(balancers: Balancers, fleet: Fleet, request: pytest.FixtureRequest) -> Balancer:
    """A load balancer of the policy that the test asks for, which knows them."""
    return balancers.ready(fleet.target, *fleet.addresses, policy=getattr(request, "param", "peak_ewma"))


@pytest.fixture
def load(lb: Balancer, fleet: Fleet, figure: Callable[[str], None]) -> Iterator[Load]:
    """Load on all of them; it must have been without an error in the end, whatever the test has done."""
    with Load(lb) as running:
        wait_for(lambda: set(running.backends()) == set(fleet.servers), what="every pod to be used")
        yield running
        time.sleep(0.5)
    figure(f"{len(running.done)} requests, {len(running.errors)} errors, {len(running.broken)} bodies cut")
    assert not running.errors
    assert len(running.done) == running.started
    assert running.kinds == {"sync", "asyncio"}
    assert lb.in_flight == 0


def view_of(lb: Balancer, name: str) -> EndpointView:
    """What the load balancer knows of a pod."""
    (view,) = (view for view in lb.endpoints() if view.pod == name)
    return view


def test_new_pods_get_traffic_and_removed_ones_none(lb: Balancer, fleet: Fleet, load: Load) -> None:
    """Scaled from five to eight and down to three: newcomers get their share at once, the others finish theirs."""
    new = set(fleet.up(3))
    lb.wait_used(*fleet.addresses)
    known = time.monotonic()
    wait_for(lambda: new <= set(load.backends(since=known)))
    # By requests and not by the clock: those that were due while the machine stood still are made after it.
    first = [done for done in sorted(load.done) if done.began >= known][:SOON]
    assert new <= {done.backend for done in first}
    for name in list(fleet.servers)[:5]:
        fleet.down(name)
    lb.wait_used(*fleet.addresses)
    gone = time.monotonic()
    wait_for(lambda: load.backends(since=gone).total() >= NEWS)
    assert set(load.backends(since=gone)) == set(fleet.servers)


@pytest.mark.parametrize("lb", ["peak_ewma", "round_robin"], indirect=True)
def test_a_crashed_pod_is_noticed_by_nobody(
    lb: Balancer, fleet: Fleet, load: Load, figure: Callable[[str], None]
) -> None:
    """kill -9 under load: what was under way is repeated elsewhere, few try it again, and it goes when its pod goes."""
    (name, *_) = fleet.servers
    at_work = fleet.crash(name, at_least=2)
    time.sleep(3.0)
    dead = view_of(lb, name)
    figure(f"{dead.failures} attempts wasted on it in 3 s, {at_work} were under way; then it was {dead.state}")
    assert dead.failures <= at_work + 20  # fewer than were at work: on a connection used before, a reset blames nobody
    policy = service_of(lb).balancer.policy
    if not isinstance(policy, PeakEwma):  # which avoids it as slow, before it has failed five times
        assert dead.state == "ejected"
    fleet.forget(name)
    lb.wait_used(*fleet.addresses)


def test_a_drained_pod_finishes_its_work(lb: Balancer, fleet: Fleet, load: Load, figure: Callable[[str], None]) -> None:
    """Terminating and SIGTERM at the same moment: new requests go elsewhere although its address is still known."""
    (name, *_) = fleet.servers
    address = fleet.servers[name].ip
    at_work = fleet.catch(name)
    assert view_of(lb, name).in_flight >= at_work
    drained = time.monotonic()
    fleet.down(name)
    lb.wait_used(*fleet.addresses)
    assert address not in lb.used

    def finished() -> int:
        return sum(done.backend == name and done.began < drained <= done.ended for done in list(load.done))

    wait_for(lambda: finished() >= at_work, what=f"the end of {at_work} requests")
    figure(f"{at_work} were under way, {finished()} were finished")
    assert not load.broken


def test_a_rolling_restart_of_all_is_seen_by_nobody(lb: Balancer, fleet: Fleet, load: Load) -> None:
    """Every pod is replaced, one after the other, by one with another address."""
    before = list(fleet.servers)
    for name in before:
        fleet.up(1)
        fleet.wait_listed()
        fleet.catch(name)
        fleet.down(name)
    lb.wait_used(*fleet.addresses)
    assert not set(before) & set(fleet.servers)
    start = time.monotonic()
    wait_for(lambda: set(load.backends(since=start)) == set(fleet.servers))
    assert not load.broken


def test_the_api_server_is_not_needed_for_traffic(
    control_plane: ControlPlane, lb: Balancer, fleet: Fleet, load: Load
) -> None:
    """Away for a while, in which a pod dies, too: nobody notices; back, it tells what came and went."""
    control_plane.kill_api_server()
    (name, *_) = fleet.servers
    time.sleep(AWAY / 2)
    fleet.crash(name)
    time.sleep(AWAY / 2)
    health = lb.health()
    assert health.synced
    assert health.error
    assert (health.age or 0.0) >= AWAY - 1.0
    control_plane.restart_api_server()
    fleet.forget(name)
    (new,) = fleet.up(1)
    lb.wait_used(*fleet.addresses, timeout=90.0)
    wait_for(lambda: load.backends()[new])
    lb.wait_well()


def test_a_post_is_never_delivered_twice(
    lb: Balancer, fleet: Fleet, figure: Callable[[str], None], cluster: Cluster
) -> None:
    """Requests that may not be repeated, and crashes in the midst of them: errors, but never a second delivery."""
    lost = 0
    with Load(lb, method="POST", path=lambda number: f"/{number}?delay=0.2") as load:
        wait_for(lambda: load.kinds == {"sync", "asyncio"})
        for name in list(fleet.servers)[:3]:
            time.sleep(0.7)
            lost += fleet.crash(name, at_least=4)  # of both worlds, most likely
            time.sleep(0.3)
            fleet.forget(name)
            fleet.up(1)
        time.sleep(0.7)
    delivered = Counter(path for server in fleet.ever for path in server.posts)
    answered = {done.path for done in load.done if done.status == 200}
    failed = Counter(done.kind for done in load.done if done.status != 200)
    figure(f"{load.started} POSTs, {len(delivered)} delivered, {lost} lost, errors: {dict(failed)}")
    assert max(delivered.values()) == 1
    assert len(load.done) == load.started
    assert answered <= set(delivered)
    assert len(set(delivered) - answered) >= lost  # what the dead had taken is not answered by anybody
    assert set(failed) == load.kinds == {"sync", "asyncio"}
    assert lost <= failed.total() <= lost + load.started * 0.1
    assert lb.in_flight == 0
