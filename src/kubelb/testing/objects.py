"""Kubernetes objects as dicts: pure functions, one an object, shaped like those of a real cluster."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

Object = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
SLICE_HEAD = b'{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1",'
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # what generateName draws from: no vowels, so no words

# The reasons that the API server gives; a code that is not here has the reason "Unknown".
_REASON = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What a slice and a Service object say about their service."""

    name: str
    namespace: str
    uid: str
    port_name: str
    port: int
    cluster_ip: str | None  # None: headless
    labels: Mapping[str, str] = field(default_factory=dict)
    app_protocol: str | None = None


def generated_name(service: str) -> str:
    """What `generateName: SERVICE-` becomes."""
    return f"{service}-{''.join(random.choices(_SUFFIX, k=5))}"


def endpoint(
    *,
    address: str,
    pod: str,
    namespace: str,
    uid: str,
    node: str | None,
    zone: str | None,
    ready: bool,
    serving: bool,
    terminating: bool,
    hints: str | None,
) -> Object:
    """One endpoint of a slice. `hints` is None, "zone" or "node" (which implies zone, as the controller does)."""
    item: Object = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": uid},
    }
    if node is not None:
        item["nodeName"] = node
    if zone is not None:
        item["zone"] = zone
    # Endpoints that are not ready get no hints.
    if hints is not None and ready and zone is not None:
        item["hints"] = {"forZones": [{"name": zone}]}
        if hints == "node" and node is not None:
            item["hints"]["forNodes"] = [{"name": node}]
    return item


def endpoint_slice(
    service: ServiceSpec, *, name: str, endpoints: Sequence[Object], port: int | None, created: str, triggered: str
) -> Object:
    """A slice as the EndpointSlice controller writes it; `port` None makes the placeholder: no ports at all."""
    labels = {**service.labels, SERVICE_NAME: service.name, MANAGED_BY: "endpointslice-controller.k8s.io"}
    if service.cluster_ip is None:
        labels[HEADLESS] = ""
    ports: list[Object] | None = None
    if port is not None:
        ports = [{"name": service.port_name, "protocol": "TCP", "port": port}]
        if service.app_protocol is not None:
            ports[0]["appProtocol"] = service.app_protocol
    return {
        "metadata": {
            "name": name,
            "generateName": f"{service.name}-",
            "namespace": service.namespace,
            "creationTimestamp": created,
            "labels": labels,
            "annotations": {TRIGGER_TIME: triggered},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service.name,
                    "uid": service.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": "IPv4",
        "endpoints": list(endpoints) if endpoints else None if port is None else [],
        "ports": ports,
    }


def service_object(service: ServiceSpec, *, target_port: int, version: int, created: str) -> Object:
    """The Service itself, for clients that read it."""
    port: Object = {"name": service.port_name, "protocol": "TCP", "port": service.port, "targetPort": target_port}
    if service.app_protocol is not None:
        port["appProtocol"] = service.app_protocol
    address = service.cluster_ip or "None"
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {
            "name": service.name,
            "namespace": service.namespace,
            "uid": service.uid,
            "resourceVersion": str(version),
            "creationTimestamp": created,
            "labels": dict(service.labels),
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [port],
            "selector": {"app": service.name},
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
        },
        "status": {"loadBalancer": {}},
    }


def status(
    code: int,
    message: str | None = None,
    *,
    reason: str | None = None,
    details: Object | None = None,
    metadata: Object | None = None,
) -> Object:
    """A Status object: what every error of the API is."""
    try:
        phrase = HTTPStatus(code).phrase
    except ValueError:
        phrase = "Unknown"
    body: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": metadata or {},
        "status": "Failure",
        "message": message if message is not None else phrase,
        "reason": reason or _REASON.get(code, "Unknown"),
        "code": code,
    }
    if details is not None:
        body["details"] = details
    return body


def bookmark(version: int, *, initial_events_end: bool) -> Object:
    """A BOOKMARK's object: an empty slice that knows only how far the watch has come."""
    metadata: Object = {"resourceVersion": str(version)}
    if initial_events_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata,
        "addressType": "",
        "endpoints": None,
        "ports": None,
    }
