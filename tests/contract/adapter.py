"""What the contract suite needs of an EndpointSlice API, and how it talks to it: plain HTTP, no Kubernetes client.

A server is put under test by one subclass of `ApiUnderTest`. Everything that is read goes over the wire with `get` and
`watch`; only writes and the making of trouble differ from server to server.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import urllib3

Json = dict[str, Any]
GROUP = "/apis/discovery.k8s.io/v1"


def slices_path(namespace: str | None) -> str:
    """The collection of a namespace, or of the whole cluster."""
    return f"{GROUP}/endpointslices" if namespace is None else f"{GROUP}/namespaces/{namespace}/endpointslices"


class ApiUnderTest(ABC):
    """One API server. Each method returns when its effect is there."""

    url: str
    token: str
    ca_file: str | None = None

    @abstractmethod
    def namespace(self) -> str:
        """A namespace of its own for the test."""

    @abstractmethod
    def address(self, number: int) -> str:
        """The n-th address for an endpoint: real servers refuse loopback."""

    @abstractmethod
    def put(self, item: Json) -> Json:
        """Create or replace a slice; what the server stored."""

    @abstractmethod
    def delete(self, namespace: str, name: str) -> None:
        """Delete a slice."""

    @abstractmethod
    def service(self, namespace: str, name: str) -> None:
        """Create a Service."""

    @abstractmethod
    def expire(self) -> None:
        """Make every resourceVersion and continue token so far too old."""

    @abstractmethod
    def without_watch_list(self) -> None:
        """Switch WatchList off until the end of the test."""

    @abstractmethod
    def limited_token(self, namespaces: Collection[str], verbs: Collection[str]) -> tuple[str, str]:
        """A token that may only do that with endpoint slices, and the name of its user."""

    def slice(
        self,
        namespace: str,
        name: str,
        *,
        service: str = "web",
        labels: Mapping[str, str] | None = None,
        count: int = 1,
    ) -> Json:
        """A slice with `count` endpoints, ready to be `put`."""
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service, **(labels or {})},
            },
            "addressType": "IPv4",
            "endpoints": [
                {
                    "addresses": [self.address(number)],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                }
                for number in range(count)
            ],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        }

    # -- reading, the same for all

    def connect(self) -> None:
        """Open the pool; `url` and `ca_file` are set by then."""
        # No retries: the suite wants to see each answer as it is.
        self.http = urllib3.PoolManager(ca_certs=self.ca_file, retries=False, timeout=10.0, maxsize=4)

    def disconnect(self) -> None:
        self.http.clear()

    def request(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        token: str | None = "",
        method: str = "GET",
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One exchange; `token` None sends none, "" the admin's."""
        return self.http.request(
            method,
            self.url + path,
            fields=dict(query or {}) if method == "GET" else None,
            headers=self._headers(token) | dict(headers or {}),
            json=body,
        )

    def list(self, namespace: str | None, **query: str) -> Json:
        """A list that must succeed. `continue_` stands for `continue`."""
        response = self.request(slices_path(namespace), _query(query))
        assert response.status == 200, response.data
        found: Json = response.json()
        return found

    def refusal(self, path: str, query: Mapping[str, str] | None = None, *, token: str | None = "") -> Json:
        """The Status of a request that must be refused, with the code of the answer checked against it."""
        response = self.request(path, query, token=token)
        status: Json = response.json()
        assert response.status >= 400, status
        assert status["kind"] == "Status"
        assert status["apiVersion"] == "v1"
        assert status["status"] == "Failure"
        assert status["code"] == response.status
        return status

    @contextmanager
    def watch(self, namespace: str | None, *, token: str | None = "", **query: str) -> Iterator[Watching]:
        """An open watch, with `timeoutSeconds=8` unless told."""
        wish = {"watch": "1", "timeoutSeconds": "8", **_query(query)}
        response = self.http.request(
            "GET", self.url + slices_path(namespace), fields=wish, headers=self._headers(token), preload_content=False
        )
        try:
            assert response.status == 200, response.data
            yield Watching(response)
        finally:
            response.close()

    def _headers(self, token: str | None) -> dict[str, str]:
        chosen = self.token if token == "" else token
        return {"Authorization": f"Bearer {chosen}"} if chosen else {}


class Watching:
    """The events of one watch."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self.response = response
        self._events = self._read()

    def next(self) -> Json | None:
        """The next event, bookmarks too, waiting for it; None when the server has ended the watch."""
        return next(self._events, None)

    def take(self, count: int) -> list[Json]:
        """So many events."""
        return [next(self._events) for _ in range(count)]

    def rest(self) -> list[Json]:
        """All until the server ends the watch."""
        return list(self._events)

    def _read(self) -> Iterator[Json]:
        unfinished = b""
        for piece in self.response.stream():
            *lines, unfinished = (unfinished + piece).split(b"\n")
            for line in lines:
                yield json.loads(line)
        assert not unfinished


def _query(query: Mapping[str, str]) -> dict[str, str]:
    return {name.rstrip("_"): value for name, value in query.items()}


def names(found: Json) -> list[str]:
    """The names of a list's items, in its order."""
    return [item["metadata"]["name"] for item in found["items"]]


def version(thing: Json) -> int:
    """The resourceVersion of an object, list or event's object."""
    return int(thing["metadata"]["resourceVersion"])
