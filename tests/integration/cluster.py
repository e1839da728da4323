"""What kubectl and the kubelets would do: namespaces, services, nodes, pods that run, fail their probes, and go.

There is no kubelet here, so a Pod is what this file says it is: created on its node, then its status patched.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from .api import Api, ApiError, Json
from .processes import PATIENCE, wait_for

ZONE_LABEL = "topology.kubernetes.io/zone"
SERVICE_LABEL = "kubernetes.io/service-name"

_markers = itertools.count(1)


class Cluster:
    """One admin's hands. Every method returns when the API server has stored the change, not when slices show it."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def namespace(self, name: str) -> str:
        """Create a namespace unless it exists. Nothing here ever ends one: that takes a controller which we lack."""
        self._create_or_keep("/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def node(self, name: str, zone: str | None = None) -> str:
        """Create a node unless it exists; the controller copies its zone into the slices."""
        labels = {"kubernetes.io/hostname": name} | ({ZONE_LABEL: zone} if zone else {})
        self._create_or_keep("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        return name

    def service(
        self,
        ns: str,
        name: str,
        ports: Mapping[str, int] | Sequence[Json],
        selector: Mapping[str, str] | None = None,
        *,
        headless: bool = False,
        publish_not_ready: bool = False,
        dual_stack: bool = False,
        **spec: object,
    ) -> Json:
        """Create a Service. `ports` maps names to numbers, or is a list as in the manifest.

        The selector is `app: NAME` unless given; an empty one makes a Service whose slices nobody writes.
        """
        listed = (
            [{"name": port, "port": number, "targetPort": number} for port, number in ports.items()]
            if isinstance(ports, Mapping)
            else list(ports)
        )
        body: Json = {"ports": listed, "publishNotReadyAddresses": publish_not_ready, **spec}
        if selector is None or selector:
            body["selector"] = dict(selector or {"app": name})
        if headless:
            body["clusterIP"] = "None"
        if dual_stack:
            body["ipFamilyPolicy"] = "RequireDualStack"
        return self.api.create(f"/api/v1/namespaces/{ns}/services", {"metadata": {"name": name}, "spec": body})

    def delete_service(self, ns: str, name: str) -> None:
        self.api.delete(f"/api/v1/namespaces/{ns}/services/{name}")

    def pod(
        self,
        ns: str,
        name: str,
        ip: str | Sequence[str],
        labels: Mapping[str, str],
        node: str,
        *,
        ready: bool = True,
        ports: Mapping[str, int] | None = None,
    ) -> str:
        """Create a pod that runs on a node with one address, or with two for dual stack (the first is its main one).

        `ports` are those that its container names, for Services whose targetPort is a name.
        """
        named = [{"name": port, "containerPort": number} for port, number in (ports or {}).items()]
        spec = {"nodeName": node, "containers": [{"name": "main", "image": "none", "ports": named}]}
        pod = {"metadata": {"name": name, "labels": dict(labels)}, "spec": spec}
        self.api.create(f"/api/v1/namespaces/{ns}/pods", pod)
        addresses = [ip] if isinstance(ip, str) else list(ip)
        status = {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": address} for address in addresses],
            "conditions": [_ready(ready)],
        }
        self.api.patch(f"/api/v1/namespaces/{ns}/pods/{name}/status", {"status": status})
        return name

    def set_ready(self, ns: str, name: str, ready: bool) -> None:
        """What a readiness probe does."""
        body = {"status": {"conditions": [_ready(ready)]}}
        self.api.patch(f"/api/v1/namespaces/{ns}/pods/{name}/status", body)

    def terminate(self, ns: str, name: str, grace: int = 30) -> None:
        """Delete with a grace period: the pod stays, terminating, until `delete_pod`, which is the kubelet's part."""
        self.api.delete(f"/api/v1/namespaces/{ns}/pods/{name}", gracePeriodSeconds=grace)

    def delete_pod(self, ns: str, name: str, grace: int = 0) -> None:
        self.api.delete(f"/api/v1/namespaces/{ns}/pods/{name}", gracePeriodSeconds=grace)

    def write_slice(self, ns: str, service: str, name: str, addresses: Sequence[str], port: int = 8080) -> None:
        """Create or change an EndpointSlice by hand, for a Service whose slices no controller writes."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"
        body = {
            "metadata": {"name": name, "labels": {SERVICE_LABEL: service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        }
        try:
            self.api.create(path, body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            self.api.patch(f"{path}/{name}", {"endpoints": body["endpoints"]})

    def slices(self, ns: str, service: str) -> list[Json]:
        """The EndpointSlices of a Service as they are now."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"
        items: list[Json] = self.api.get(path, labelSelector=f"{SERVICE_LABEL}={service}")["items"]
        return items

    def endpoints(self, ns: str, service: str) -> dict[str, Json]:
        """All endpoints of all slices, by address: what most tests ask about."""
        return {
            address: endpoint
            for piece in self.slices(ns, service)
            for endpoint in piece.get("endpoints") or []
            for address in endpoint["addresses"]
        }

    def wait_controller(self, ns: str, timeout: float = PATIENCE) -> None:
        """Wait until the endpointslice controller works, and has seen all that happened to Services up to now.

        It learns of Services in the order of their changes. So when one that is made now has its slice, those that were
        deleted before are deleted for the controller, too.
        """
        marker = f"marker-{next(_markers)}"
        self.service(ns, marker, {"http": 1})
        wait_for(lambda: self.slices(ns, marker), timeout, what="a slice of a new Service")

    def wait_ready(self, ns: str, service: str, *addresses: str, timeout: float = PATIENCE) -> None:
        """Wait until exactly these addresses are ready in the service's slices."""
        wanted = set(addresses)

        def same() -> bool:
            return wanted == {
                address for address, endpoint in self.endpoints(ns, service).items() if endpoint["conditions"]["ready"]
            }

        wait_for(same, timeout, what=f"{service}.{ns} ready at {sorted(wanted)}")

    def _create_or_keep(self, path: str, body: Json) -> None:
        try:
            self.api.create(path, body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise


def _ready(ready: bool) -> Json:
    return {"type": "Ready", "status": "True" if ready else "False"}
