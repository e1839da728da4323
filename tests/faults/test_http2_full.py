"""Kind: a pod of HTTP/2 that has no room and says so before it looks at the request (REFUSED_STREAM, RFC 9113, 8.7).

That is load, as 503 with Retry-After is: nothing was processed, so also a POST goes elsewhere at once; the pod is
neither ejected for it nor asked again and again.
"""

import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from tests.faults.asking import Allowed, Ask, How
from tests.faults.http2_clients import QUICK
from tests.faults.http2_pod import Pod, Told, answer
from tests.faults.http2_rows import CODES
from tests.spelled import spelled
from tests.waiting import until

import kubelb
from kubelb.adapters._httpx.http2.endings import MOMENT

CALLS = 60


def refuses(told: Told) -> None:
    told.cancel(CODES["REFUSED_STREAM"])


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    made = [Pod(host=f"127.0.0.{number}", name=f"pod{number}") for number in (1, 2)]
    yield made
    for pod in made:
        pod.close()


def balanced(*pods: Pod, **options: Any) -> kubelb.LoadBalancer:
    addresses = ",".join(pod.address for pod in pods)
    return kubelb.LoadBalancer(f"static:///{addresses}", policy="round_robin", rng=Random(7), **spelled(options))


def states(lb: kubelb.LoadBalancer) -> list[str]:
    return [view.state for view in lb.endpoints()]


@pytest.mark.parametrize("kind", QUICK)
def test_one_that_refuses_everything_rests(pods: list[Pod], kind: Callable[..., Any]) -> None:
    """Every POST is answered by the other one, without a pause; it is left alone meanwhile, and never ejected.

    Before, ten such calls ejected it for ten seconds and more, as one that is broken.
    """
    pods[0].handler = refuses
    lb = balanced(*pods, outliers=kubelb.OutlierDetection(consecutive_failures=2), breaker=kubelb.CircuitBreaker())
    client = kind(lb)
    began = time.monotonic()
    try:
        ends = [client.ask(Ask(Allowed.NO)) for _ in range(CALLS)]
        assert [(end.how, end.pod) for end in ends] == [(How.ANSWERED, "pod2")] * CALLS
        tried = pods[0].delivered.total()
        assert tried == lb.endpoints()[0].failures
        assert 0 < tried <= (time.monotonic() - began) / MOMENT + 2
        assert "ejected" not in states(lb)
        assert "open" not in states(lb)
        pods[0].handler = answer
        assert until(lambda: client.ask(Ask(Allowed.NO)).pod == "pod1")
    finally:
        client.close()
        lb.close()


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("deadline", [None, 20.0])
def test_the_only_one(pods: list[Pod], kind: Callable[..., Any], deadline: float | None) -> None:
    """It is asked again after a moment: a limit of streams that was not known yet, or a burst."""
    refused: list[Told] = []

    def once(told: Told) -> None:
        if not refused:
            refused.append(told)
            refuses(told)
        else:
            answer(told)

    pods[0].handler = once
    lb = balanced(pods[0])
    client = kind(lb)
    try:
        assert client.ask(Ask(Allowed.NO, deadline=deadline)).how is How.ANSWERED
        assert pods[0].delivered.total() == 2
    finally:
        client.close()
        lb.close()


@pytest.mark.parametrize("kind", QUICK)
def test_where_all_refuse(pods: list[Pod], kind: Callable[..., Any]) -> None:
    """The client's own error, after as many tries as there may be; no pod is to blame, and both have traffic again."""
    for pod in pods:
        pod.handler = refuses
    lb = balanced(*pods, outliers=kubelb.OutlierDetection(consecutive_failures=2))
    client = kind(lb)
    try:
        for _ in range(3):
            end = client.ask(Ask(Allowed.NO))
            assert (end.how, end.own) == (How.LOST, "RemoteProtocolError")
            assert end.tries == 2
        assert "ejected" not in states(lb)
        for pod in pods:
            pod.handler = answer
        found: set[str] = set()
        assert until(lambda: found.add(client.ask(Ask(Allowed.NO)).pod) or len(found) == 2)
    finally:
        client.close()
        lb.close()
