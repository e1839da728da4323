"""The set of sub-channels by itself, with connections that are there as soon as anybody wants them."""

from collections.abc import Callable
from typing import Any

import pytest

from kubelb.adapters._grpc.shared.subchannel import IDLE, READY
from kubelb.adapters._grpc.shared.subchannels import SubChannels
from kubelb.core import Balancer
from kubelb.model import ANY, Endpoint, Snapshot


class Connection:
    def __init__(self) -> None:
        self.state = IDLE

    def check(self, connect: bool) -> Any:
        if connect:
            self.state = READY
        return self.state


class World:
    """One endpoint, whose connections are made and closed here; `edition` is that of the files."""

    def __init__(self) -> None:
        self.edition = 0
        self.made: list[Connection] = []
        self.closed: list[Connection] = []
        balancer = Balancer("round_robin")
        balancer.update(Snapshot(1, (Endpoint("10.0.0.1", 80),)))
        self.subs = SubChannels(balancer, self.make, self.closed.append, lambda: self.edition, RuntimeError)
        self.subs.connect()

    def make(self, _: object) -> Any:
        self.made.append(Connection())
        return self.made[-1], self.made[-1].check

    def lose(self) -> None:
        self.made[-1].state = IDLE


@pytest.mark.parametrize("begin", [lambda subs: subs.pick(ANY).release(), SubChannels.connectivity])
def test_what_has_changed_is_asked_before_connecting(begin: Callable[[SubChannels], object]) -> None:
    """However quick a connection is: the next one is made with what is in the files, whoever begins it."""
    world = World()
    world.lose()
    begin(world.subs)
    assert (len(world.made), world.closed) == (1, [])
    world.edition += 1
    begin(world.subs)  # it is connected: what is new is for the next
    assert len(world.made) == 1
    world.lose()
    begin(world.subs)
    assert (len(world.made), world.closed) == (2, world.made[:1])
    assert world.made[1].state == READY


def test_a_call_in_flight_keeps_its_channel() -> None:
    """A connection that is lost under a call is made again as it was; once that has ended, anew."""
    world = World()
    lease = world.subs.pick(ANY)
    world.edition += 1
    world.lose()
    world.subs.pick(ANY).release()
    assert (len(world.made), world.closed) == (1, [])
    lease.release()
    world.lose()
    world.subs.pick(ANY).release()
    assert (len(world.made), world.closed) == (2, world.made[:1])
