"""kubelb's own threads, begun in the middle of a user's request: they inherit nothing of it.

The kind: a tracer hands the context of the request to each thread that is started in it. Discovery lives as long as the
process, and each of its requests to the API server counted as a part of the first page that was ever served.
"""

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

import kubelb
from kubelb.runtime.worker import Worker
from kubelb.testing import LocalCluster

PAGE: ContextVar[str] = ContextVar("page", default="")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Threads by name, and what a tracer would have handed to each: the page that is being served."""
    seen: dict[str, str] = {}
    start = threading.Thread.start

    def handing_over(thread: threading.Thread) -> None:
        if thread.name.startswith("kubelb-") and not thread.name.startswith("kubelb-testing"):
            seen[thread.name] = PAGE.get()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", handing_over)
    token = PAGE.set("the first page")
    yield seen
    PAGE.reset(token)


def test_discovery(begun):
    """Of slices and of DNS, with the worker behind both."""
    with LocalCluster() as cluster:
        cluster.service("reviews.prod", replicas=1)
        target = cluster.dns.target("reviews.prod", "http")
        with (
            kubelb.LoadBalancer(
                "kube:///reviews.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)
            ) as slices,
            kubelb.LoadBalancer(target) as names,
        ):
            slices.wait_ready()
            names.wait_ready()
    assert any(name.startswith("kubelb-watch") for name in begun)
    assert any(name.startswith("kubelb-dns") for name in begun)
    assert set(begun.values()) == {""}


def test_the_worker(begun):
    """Its timer and what runs when it is due."""
    done = threading.Event()
    worker = Worker()
    worker.retain()
    try:
        worker.call_at(worker.clock(), done.set)
        assert done.wait(5)
    finally:
        worker.release()
    assert len(begun) >= 2
    assert set(begun.values()) == {""}
