"""A fork of which nobody was told: the first pick in the child notices, before it looks at anything of the parent's."""

import pytest

import kubelb.core.balancer as balancer_module
import kubelb.core.health.limits as limits_module
from kubelb.core import Balancer
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.model import Snapshot

from . import kit


class Elsewhere:
    """Stands for `kubelb.process`, in a child that `balancer` was copied into."""

    def __init__(self, balancer: Balancer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.balancer = balancer
        self.here = bytearray(b"\1")
        self.settled = 0
        for module in (limits_module, balancer_module):
            monkeypatch.setattr(module, "here", self.here)
            monkeypatch.setattr(module, "settle", self.settle)

    def fork(self) -> None:
        self.here[0] = 0

    def settle(self) -> None:
        self.settled += 1
        self.here[0] = 1
        self.balancer.forget_in_flight()


def test_a_pick_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in flight but its own request, and only the first one settles."""
    rig = kit.Rig(3)
    elsewhere = Elsewhere(rig.balancer, monkeypatch)
    held = [rig.balancer.pick() for _ in range(5)]
    assert elsewhere.settled == 0
    elsewhere.fork()
    mine = [rig.balancer.pick(), rig.balancer.pick()]
    assert elsewhere.settled == 1
    assert [lease.released for lease in held] == [True] * 5
    assert sum(state.in_flight for state in rig.balancer.states()) == len(mine)


def test_a_limit_is_no_sum_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent has in flight fills no place of the child's."""
    balancer = Balancer(limits=ConcurrencyLimits(max_requests=1))
    balancer.update(Snapshot(1, kit.pods(2)))
    elsewhere = Elsewhere(balancer, monkeypatch)
    held = balancer.pick()
    elsewhere.fork()
    balancer.pick().release()
    assert (elsewhere.settled, held.released) == (1, True)
