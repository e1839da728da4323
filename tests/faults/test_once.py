"""The rule without an exception: what must not be repeated is delivered once at most, whatever goes wrong.

Random faults at three pods, random clients that share a load balancer, calls that are made, cancelled, given up and
dropped; counted at the pods.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.asking import Allowed, Ask, End
from tests.faults.by_hand import HAND, Acall, Call
from tests.faults.clients import Client, Held
from tests.faults.over_grpc import RPC, AioStream, AioUnary, FutureCall, Stream, Unary
from tests.faults.over_http import AsyncHttpx, Httpx, Requests
from tests.faults.scene import Scene
from tests.faults.table import BLOCKING

from kubelb.testing import Backend, LocalCluster

SPEAKERS: dict[str, tuple[type[Client], ...]] = {
    "http": (Httpx, AsyncHttpx, Requests, Call, Acall),
    "grpc": (Unary, FutureCall, Stream, AioUnary, AioStream),
}
FAULTS: dict[str, Callable[[Backend], object]] = {
    "well": lambda pod: None,
    "slow": lambda pod: pod.slow(0.02),
    "dripping": lambda pod: pod.drip(40, 0.01),
    "failing": lambda pod: pod.fail(),
    "hanging": lambda pod: pod.hang(),
    "resetting": lambda pod: pod.reset(),
    "resetting after headers": lambda pod: pod.reset_after_headers(),
    "truncating": lambda pod: pod.truncate(),
    "refusing": lambda pod: (pod.refuse(), pod.close_connections()),
    "dead": lambda pod: pod.kill(),
    "reborn": lambda pod: pod.restart(),
    "closing": lambda pod: pod.close_idle(),
}
ATTEMPTS = 3
IN_TIME = 0.25
"""Seconds: the deadline of every call."""
_numbers = count()


@dataclass(frozen=True)
class Step:
    """What is wrong with each pod, and a call by one of the clients."""

    faults: tuple[str, str, str]
    client: int
    allowed: Allowed
    act: str


STEPS = st.lists(
    st.builds(
        Step,
        faults=st.tuples(*[st.sampled_from(sorted(FAULTS))] * 3),
        client=st.integers(0, 4),
        allowed=st.sampled_from(Allowed),
        act=st.sampled_from(["ask", "ask", "cancel", "give up", "drop"]),
    ),
    min_size=4,
    max_size=8,
)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("speakers", SPEAKERS)
def test_what_must_not_be_repeated_is_delivered_once(cluster: LocalCluster, speakers: str) -> None:
    """A call that nobody allowed to be repeated is seen by one pod at most; every call ends, and nothing is left."""
    kinds = SPEAKERS[speakers]

    @settings(max_examples=25)
    @given(steps=STEPS)
    def property_of(steps: list[Step]) -> None:
        scene = Scene(cluster, kinds[0], f"once{next(_numbers)}-{speakers}.prod")
        clients: list[Client] = []
        try:
            scene.begin(policy="round_robin")
            clients += [kind(scene.lb) for kind in kinds[1:]]
            for step in steps:
                for pod, fault in zip(scene.pods, step.faults, strict=True):
                    pod.heal()
                    FAULTS[fault](pod)
                ask = Ask(step.allowed, deadline=IN_TIME)
                made(step.act, [scene.client, *clients][step.client], ask)
                assert sum(scene.delivered(ask)) <= (1 if step.allowed is Allowed.NO else ATTEMPTS), step
            assert scene.at_rest()
        finally:
            for client in clients:
                client.close()
            scene.end()

    property_of()


def made(act: str, client: Client, ask: Ask) -> Any:
    """Make the call in this way, or as it is where the client knows no such way."""
    if act == "cancel" and type(client) not in BLOCKING:
        going = client.begin(ask)
        client.cancel()
        return going.end()
    if act in {"give up", "drop"} and client.family not in {RPC, HAND}:
        held = client.open(ask)
        if isinstance(held, End):
            return held
        assert isinstance(held, Held)
        return held.give_up() if act == "give up" else held.drop()
    return client.ask(ask)
