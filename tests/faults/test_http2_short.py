"""Over HTTP/2, the answer is here when its body is, if that is short: hypercorn ends between the two.

The kind: a connection that is cut between the headers and the body, which is lost for a request that may be repeated.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.faults.asking import Allowed, Ask, How
from tests.faults.http2_clients import QUICK, SyncH2
from tests.faults.http2_pod import Pod, Told

import kubelb
from kubelb.adapters.defaults import SMALL


@pytest.fixture
def pods() -> Iterator[tuple[Pod, Pod]]:
    pods = Pod(name="a"), Pod(name="b")
    yield pods
    for pod in pods:
        pod.close()


@pytest.fixture(params=QUICK)
def client(request: pytest.FixtureRequest, pods: tuple[Pod, Pod]) -> Iterator[Any]:
    with kubelb.LoadBalancer(f"static:///{','.join(pod.address for pod in pods)}", policy="round_robin") as lb:
        made = request.param(lb)
        yield made
        made.close()
        assert all(view.in_flight == 0 for view in lb.endpoints())


def cutting(length: int, part: bytes = b"") -> Callable[[Told], None]:
    """Headers, perhaps a part of the body, and the end of the connection."""

    def handler(told: Told) -> None:
        told.headers(200, ("content-length", str(length)))
        if part:
            told.data(part)
        told.link.cut()

    return handler


@pytest.mark.parametrize("part", [b"", b"o"])
def test_a_cut_before_the_end_of_a_short_body_is_repeated(client: Any, pods: tuple[Pod, Pod], part: bytes) -> None:
    pods[0].handler = cutting(2, part)
    ends = [client.ask(Ask(Allowed.YES)) for _ in range(4)]
    assert [end.how for end in ends] == [How.ANSWERED] * 4
    assert sum(view.failures for view in client.lb.endpoints()) >= 1


def test_it_is_not_where_that_could_do_a_thing_twice(client: Any, pods: tuple[Pod, Pod]) -> None:
    pods[0].handler = pods[1].handler = cutting(2)
    end = client.ask(Ask(Allowed.NO, body=b"x"))
    assert end.how in {How.LOST, How.BROKEN}
    assert end.own == "RemoteProtocolError"
    assert sum((pods[0].delivered + pods[1].delivered).values()) == 1


@pytest.mark.parametrize("length", [None, SMALL + 1])
def test_headers_of_a_body_that_is_long_or_of_unknown_length_are_handed_over_at_once(
    client: Any, pods: tuple[Pod, Pod], length: int | None
) -> None:
    def handler(told: Told) -> None:
        told.headers(200, *([("content-length", str(length))] if length else []))

    pods[0].handler = pods[1].handler = handler
    response = client.do(client.begin_answer, Ask(Allowed.YES))
    assert response.status_code == 200
    client.do(getattr(response, "close" if isinstance(client, SyncH2) else "aclose"))


def test_a_short_body_in_pieces_has_the_read_timeout_for_each(client: Any, pods: tuple[Pod, Pod]) -> None:
    def handler(told: Told) -> None:
        told.headers(200, ("content-length", "7"))
        for number in range(7):
            time.sleep(0.3)
            told.data(b"x", end=number == 6)

    pods[0].handler = pods[1].handler = handler
    assert client.ask(Ask(Allowed.NO, timeout=1.8)).how is How.ANSWERED


def test_a_short_body_that_never_comes_ends_with_the_read_timeout(client: Any, pods: tuple[Pod, Pod]) -> None:
    pods[0].handler = pods[1].handler = lambda told: told.headers(200, ("content-length", "2"))
    began = time.monotonic()
    assert client.ask(Ask(Allowed.NO, timeout=0.3)).how is How.LATE
    assert time.monotonic() - began < 5
