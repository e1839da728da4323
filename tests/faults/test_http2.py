"""The rows of HTTP/2, for httpx and httpx2, sync and asyncio; for calls that may be repeated, and that may not."""

import gc
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.clients import Client, Held
from tests.faults.http2_clients import CLIENTS, QUICK
from tests.faults.http2_pod import Pod, Told, answer
from tests.faults.http2_rows import ROWS, Row
from tests.faults.scene import InOrder
from tests.waiting import until

import kubelb


def cases() -> Iterator[Any]:
    """httpx2 has the same code as httpx: rows that take their time leave it out."""
    for row in ROWS:
        for kind in QUICK if row.slow else CLIENTS:
            for allowed in (Allowed.NO, Allowed.YES):
                quick = kind in QUICK and not row.slow and (allowed is Allowed.NO or row.again is not None)
                marks = [] if quick else [pytest.mark.slow]
                yield pytest.param(row, kind, allowed, id=f"{row.name}-{kind.name}-{allowed.name}", marks=marks)


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    made = [Pod(host=f"127.0.0.{number}", name=f"pod{number}") for number in (1, 2, 3)]
    yield made
    for pod in made:
        pod.close()


@pytest.mark.usefixtures("punctual")
@pytest.mark.parametrize(("row", "kind", "allowed"), list(cases()))
def test_a_fault_of_http2(pods: list[Pod], row: Row, kind: Callable[..., Client], allowed: Allowed) -> None:
    """It ends as the table says, is delivered and blamed as the table says, and leaves nothing behind."""
    then = row.once if allowed is Allowed.NO else row.again or row.once
    first = pods[0]
    row.first(first)
    addresses = [pod.address for pod in pods]
    lb = kubelb.LoadBalancer(
        f"static:///{','.join(addresses)}",
        policy=InOrder(addresses),
        retry=kubelb.Retry(wait=kubelb.FullJitter(0.0, 0.0)),
        rng=Random(7),
    )
    client = kind(lb)
    try:
        if row.warm is not None:
            assert client.ask(Ask()).pod == first.name
            row.warm(first)
            assert not row.gone or until(lambda: not first.links)
        ask = Ask(allowed, **row.ask)
        end = begun_and(row.halfway, client, first, ask) if row.halfway else client.ask(ask)
        assert end.how is then.how, (end, first.broken)
        assert until(lambda: delivered(pods, ask) == then.delivered), delivered(pods, ask)
        failures = {view.address: view.failures for view in lb.endpoints()}
        assert tuple(failures[address] for address in addresses) == then.blamed
        gc.collect()
        assert all(view.in_flight == 0 for view in lb.endpoints())
        assert until(lambda: len(first.links) <= row.most)
        well(first)
        assert until(lambda: not any(view.state == "resting" for view in lb.endpoints()))
        end = client.ask(Ask(Allowed.NO))
        assert (end.how, end.pod) == (How.ANSWERED, first.name), end
    finally:
        client.close()
        lb.close()
    assert until(lambda: not any(pod.links for pod in pods))
    assert not any(pod.broken for pod in pods), [pod.broken for pod in pods]


def delivered(pods: list[Pod], ask: Ask) -> tuple[int, ...]:
    """How often each pod was given this call: it may hear of it after the caller's time was over."""
    return tuple(pod.delivered[ask.marker] for pod in pods)


def begun_and(what: Callable[[Told], object], client: Client, pod: Pod, ask: Ask) -> End:
    """The answer has begun when it happens; then the rest is read."""
    held = client.open(ask)
    assert isinstance(held, Held), held
    what(next(told for told in pod.all_told() if told.marker == ask.marker))
    return held.finish()


def well(pod: Pod) -> None:
    """The fault is over, on new connections and on those that there are."""
    for link in list(pod.links):
        link.deaf = False
    pod.handler, pod.on_connect, pod.on_headers, pod.reads, pod.mute = answer, None, None, True, False
