"""Reading the API and waiting, for these tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import urllib3

from kubelb.testing import LocalCluster

SLICES = "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices"


def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for a condition; the test fails where it does not come."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


def ask(
    cluster: LocalCluster, http: urllib3.PoolManager, path: str = SLICES, token: str | None = None, **query: str
) -> urllib3.BaseHTTPResponse:
    """A GET at the API."""
    headers = {"Authorization": f"Bearer {token or cluster.token}"}
    return http.request("GET", cluster.url + path, fields=query, headers=headers)


@contextmanager
def watching(
    cluster: LocalCluster, http: urllib3.PoolManager, **query: str
) -> Iterator[tuple[urllib3.BaseHTTPResponse, Iterator[bytes]]]:
    """An open watch: its response, and its pieces as they come, a chunk a piece."""
    headers = {"Authorization": f"Bearer {cluster.token}"}
    api = cluster.api
    before = api.watchers
    response = http.request(
        "GET", cluster.url + SLICES, fields={"watch": "1", **query}, headers=headers, preload_content=False
    )
    api.wait_for_watchers(before + 1)
    try:
        yield response, response.stream(None)
    finally:
        response.close()
        until(lambda: api.watchers <= before)


def event(line: bytes) -> tuple[str, dict[str, Any]]:
    """Type and object."""
    decoded = json.loads(line)
    return decoded["type"], decoded["object"]


def conditions(cluster: LocalCluster, service: str = "reviews") -> dict[str, tuple[bool, bool, bool]]:
    """Pod name to (ready, serving, terminating), from the slices."""
    return {
        endpoint["targetRef"]["name"]: tuple(
            endpoint["conditions"][name] for name in ("ready", "serving", "terminating")
        )
        for piece in cluster.slices("prod", service)
        for endpoint in piece["endpoints"] or []
    }
