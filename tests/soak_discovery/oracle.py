"""Which addresses each service's requests may go to, read from an API server: what a person would read off `kubectl`.

It takes all slices at once, in no order, and keeps no state; so it cannot make the mistakes of what is under test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from tests.integration.api import Api, Json
from tests.integration.cluster import SERVICE_LABEL

__all__ = ["cached", "read", "usable"]

_PATH = "/apis/discovery.k8s.io/v1/endpointslices"


def read(api: Api, namespaces: Collection[str]) -> list[Json]:
    """All slices as etcd has them: a list without a version is never from a cache that is behind."""
    return _of(namespaces, api.get(_PATH))


def cached(api: Api, namespaces: Collection[str]) -> list[Json]:
    """All slices as this server has them, which is what its watches tell."""
    return _of(namespaces, api.get(_PATH, resourceVersion="0"))


def _of(namespaces: Collection[str], slices: Json) -> list[Json]:
    return [each for each in slices["items"] if each["metadata"]["namespace"] in namespaces]


def usable(slices: list[Json]) -> dict[str, set[str]]:
    """Service to ip:port of its ready endpoints, or, where it has none, of those that serve and terminate."""
    ready: dict[str, set[str]] = defaultdict(set)
    last: dict[str, set[str]] = defaultdict(set)
    for piece in slices:
        service = piece["metadata"]["labels"][SERVICE_LABEL]
        port = next(port["port"] for port in piece["ports"] if port["name"] == "http")
        for endpoint in piece.get("endpoints") or []:
            conditions, where = endpoint["conditions"], f"{endpoint['addresses'][0]}:{port}"
            if conditions["ready"]:
                ready[service].add(where)
            elif conditions["serving"] and conditions["terminating"]:
                last[service].add(where)
    return {service: ready[service] or last[service] for service in {*ready, *last}}
