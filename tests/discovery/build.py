"""EndpointSlices for tests, as the JSON objects that the API server sends."""

import json

import msgspec

from kubelb.discovery.kube.wire import Slice

HTTP = {"name": "http", "protocol": "TCP", "port": 8080}


def row(ip, *, ready=True, serving=None, terminating=None, uid=None, node=None, zone=None, zones=(), nodes=(), **more):
    """One endpoint; what is None is absent."""
    conditions = {"ready": ready, "serving": serving, "terminating": terminating}
    endpoint = {
        "addresses": [ip],
        "conditions": {name: value for name, value in conditions.items() if value is not None},
        **more,
    }
    if uid is not None:
        endpoint["targetRef"] = {"kind": "Pod", "namespace": "prod", "name": f"pod-{uid}", "uid": uid}
    if node is not None:
        endpoint["nodeName"] = node
    if zone is not None:
        endpoint["zone"] = zone
    hints = {}
    if zones:
        hints["forZones"] = [{"name": name} for name in zones]
    if nodes:
        hints["forNodes"] = [{"name": name} for name in nodes]
    if hints:
        endpoint["hints"] = hints
    return endpoint


def piece(name, endpoints=(), *, ports=(HTTP,), kind="IPv4", version=None, changed=None, service="reviews", ns="prod"):
    """One EndpointSlice."""
    meta = {"name": name, "namespace": ns, "labels": {"kubernetes.io/service-name": service}}
    if version is not None:
        meta["resourceVersion"] = str(version)
    if changed is not None:
        meta["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": changed}
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": meta,
        "addressType": kind,
        "endpoints": None if endpoints is None else list(endpoints),
        "ports": None if ports is None else list(ports),
    }


def wire(obj):
    """The object as the reducer gets it."""
    return msgspec.json.decode(json.dumps(obj).encode(), type=Slice)


def authorities(endpoints):
    """As a sorted list of ip:port."""
    return sorted(endpoint.authority for endpoint in endpoints)


def ips(count, start=1):
    """Distinct pod addresses."""
    return [f"10.244.{n >> 8}.{n & 255}" for n in range(start, start + count)]
