"""How the rows of the table are played: the fault there from the start, in mid-call, or halfway through the answer."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from tests.adapters.raw import Peer, RawServer, blackhole
from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.clients import Client, Held
from tests.faults.scene import Scene
from tests.waiting import until

__all__ = [
    "alone",
    "asked",
    "crowd",
    "drained",
    "dripping",
    "dropped",
    "dropped_later",
    "given_up",
    "goodbye",
    "halfway",
    "hole",
    "idle_closed",
    "leave",
    "no_time",
    "nobody",
    "refuse_all",
    "refuse_first",
    "too_large",
    "under_way",
    "warm",
]

Script: TypeAlias = Callable[[Scene, Ask], End]

# Scripts


def asked(inflict: Callable[[Any], object] = lambda pod: None) -> Script:
    """The first pod has the fault, and then the call is made."""

    def script(scene: Scene, ask: Ask) -> End:
        inflict(scene.pods[0])
        return scene.client.ask(ask)

    return script


def warm(inflict: Callable[[Any], object]) -> Script:
    """The same, on a connection that has served a call before."""

    def script(scene: Scene, ask: Ask) -> End:
        assert scene.client.ask(Ask()).pod == scene.pods[0].name
        return asked(inflict)(scene, ask)

    return script


def idle_closed(scene: Scene, ask: Ask) -> End:
    """The first pod closes the connection that a call before has left idle."""
    assert scene.client.ask(Ask()).pod == scene.pods[0].name
    scene.pods[0].close_idle()
    scene.client.noticed(2)
    return scene.client.ask(ask)


def under_way(happen: Callable[[Scene, Any], object]) -> Script:
    """The first pod works on the call when it happens."""

    def script(scene: Scene, ask: Ask) -> End:
        scene.hold_answer()
        going = scene.under_way(ask)
        happen(scene, going)
        return going.end()

    return script


def halfway(happen: Callable[[Scene, Held], object]) -> Script:
    """The answer has begun when it happens; then the rest is read."""

    def script(scene: Scene, ask: Ask) -> End:
        held = begun(scene, ask)
        happen(scene, held)
        return held.finish()

    return script


def given_up(way: Callable[[Held], object]) -> Script:
    """The answer has begun, and nobody wants the rest."""

    def script(scene: Scene, ask: Ask) -> End:
        way(begun(scene, ask))
        return End(How.CANCELLED)

    return script


def dropped_later(scene: Scene, ask: Ask) -> End:
    """The answer that is dropped halfway is that of a second try."""
    scene.pods[0].fail()
    scene.hold_halfway(1)
    held = scene.client.open(ask)
    if isinstance(held, End):
        return held
    held.drop()
    return End(How.CANCELLED)


def begun(scene: Scene, ask: Ask) -> Held:
    scene.hold_halfway()
    held = scene.client.open(ask)
    assert isinstance(held, Held), held
    return held


def dropped(scene: Scene, ask: Ask) -> End:
    """The call object is dropped while the pod works: either that ends the call, or it goes on and counts."""
    scene.hold_answer()
    call = scene.client.call_object(ask)
    assert until(lambda: scene.pods[0].in_flight == 1, 20.0)
    del call
    if until(scene.nothing_in_flight, 0.3):
        return End(How.CANCELLED)
    assert scene.pods[0].in_flight == 1
    scene.let_go()
    return End(How.ANSWERED)


def alone(scene: Scene, ask: Ask) -> End:
    """There is nobody but the first."""
    scene.publish([scene.first])
    return scene.client.ask(ask)


def nobody(scene: Scene, ask: Ask) -> End:
    """There is nobody."""
    scene.publish([])
    return scene.client.ask(ask)


def no_time(scene: Scene, ask: Ask) -> End:
    """The first pod fails at once, the second one has not enough time left."""
    scene.pods[0].fail()
    scene.pods[1].hang()
    return scene.client.ask(ask)


def dripping(scene: Scene, ask: Ask) -> End:
    """Each byte, or message, comes soon, and all of them would take too long."""
    scene.pods[0].drip(1, 0.3 if scene.speaks_grpc else 0.05)
    return scene.client.ask(ask)


def goodbye(scene: Scene, ask: Ask) -> End:
    """The first pod is told to end: it says so to HTTP with every answer, for a while yet, and to gRPC at once."""
    if scene.speaks_grpc:
        scene.pods[0].drain(grace=0.0)
        scene.client.noticed(2)
    else:
        scene.pods[0].drain(grace=60.0)
        assert scene.client.ask(Ask()).pod == scene.pods[0].name
    return scene.client.ask(ask)


def drained(scene: Scene, ask: Ask) -> End:
    """The first pod is told to end while it works; it has a second for that."""
    scene.pods[0].slow(0.2)
    going = scene.under_way(ask)
    scene.pods[0].drain(grace=0.0)
    return going.end()


def leave(scene: Scene, _: object) -> None:
    """Discovery says that the first pod is gone: others get what comes now, and what runs on it goes on."""
    scene.publish(scene.pods[1:])
    other = Ask(Allowed.NO)
    assert scene.client.ask(other).pod == scene.pods[1].name
    scene.let_go()


# Many calls


def crowd(client: Client, calls: int, threads: int = 4) -> list[End]:
    """So many calls that may be repeated, by so many callers at a time."""
    ends: list[End] = []

    def work() -> None:
        ends.extend(client.ask(Ask(Allowed.YES)) for _ in range(calls // threads))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return ends


# What is wrong before anybody connects


def refuse_first(scene: Scene) -> None:
    scene.pods[0].refuse()


def refuse_all(scene: Scene) -> None:
    for pod in scene.pods:
        pod.refuse()


# What stands in the place of the first pod


class Hole:
    """An address where nobody answers."""

    delivered = 0

    def __init__(self, address: str) -> None:
        self.address = address


@contextmanager
def hole() -> Iterator[Hole]:
    with blackhole() as address:
        yield Hole(address)


@contextmanager
def too_large() -> Iterator[RawServer]:
    """A server that answers 413 when it has seen the head, and reads on."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.hang()

    server = RawServer(script)
    try:
        yield server
    finally:
        server.close()
