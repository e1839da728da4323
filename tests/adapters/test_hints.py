"""`kubelb.hints` around requests, and the same said with a request."""

from typing import Any

import pytest
from tests.adapters.raw import OK, Peer
from tests.adapters.world import World

import kubelb
from kubelb import hints


def lost(peer: Peer) -> None:
    """Takes the request and hangs up."""
    peer.request()
    peer.reset()


def answers(peer: Peer) -> None:
    while True:
        peer.request()
        peer.send(OK)


def test_a_post_may_be_repeated_inside(world: World, raw: Any, balance: Any) -> None:
    """With idempotent=True it is sent again elsewhere; not so where the request itself says no, nor outside."""
    bad, good = raw(lost), raw(answers)
    client = world.client(balance(bad, good, policy="round_robin", outliers=None))

    def posts(**options: Any) -> list[int | str]:
        ends: list[int | str] = []
        for _ in range(4):
            try:
                ends.append(world.request(client, "POST", "http://reviews.prod/", content=b"x", **options).status_code)
            except world.httpx.TransportError:
                ends.append("lost")
        return ends

    with hints(idempotent=True):
        assert posts() == [200] * 4
        assert sorted(map(str, posts(extensions={"kubelb": {"idempotent": False}}))) == ["200", "200", "lost", "lost"]
    assert sorted(map(str, posts())) == ["200", "200", "lost", "lost"]


def test_the_deadline_is_for_all_of_them(world: World, raw: Any, balance: Any) -> None:
    """What hangs is given up when the block's time is over, and the next request is not even sent."""
    server = raw(Peer.hang)
    client = world.client(balance(server), timeout=20.0)
    with hints(deadline=0.3):
        with pytest.raises(world.httpx.TimeoutException):
            world.get(client, "http://reviews.prod/")
        accepted = server.accepted
        with pytest.raises(kubelb.DeadlineExceeded) as raised:
            world.get(client, "http://reviews.prod/")
    assert isinstance(raised.value, world.httpx.TimeoutException)
    assert server.accepted == accepted


def test_an_inner_deadline_cannot_give_time(world: World, raw: Any, balance: Any) -> None:
    """A request's own longer deadline does not outlast the block's."""
    client = world.client(balance(raw(Peer.hang)), timeout=20.0)
    with hints(deadline=0.2), pytest.raises(world.httpx.TimeoutException):
        world.get(client, "http://reviews.prod/", extensions={"kubelb": {"deadline": 15.0}})
