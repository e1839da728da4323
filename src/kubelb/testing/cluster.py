"""`LocalCluster`: everything that a test needs of Kubernetes, on loopback, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias
from uuid import uuid4

import msgspec

from kubelb.runtime.loops import refuse_trio
from kubelb.testing import objects
from kubelb.testing.answers import Handler, Tally
from kubelb.testing.backend import Backend, Respond
from kubelb.testing.control import Api
from kubelb.testing.dns import Dns
from kubelb.testing.faults import Faults
from kubelb.testing.http_responder import HttpResponder
from kubelb.testing.kube_proxy import CLUSTER_PORT, KubeProxy
from kubelb.testing.plant import Plant
from kubelb.testing.service import Service
from kubelb.testing.slices import SliceSet
from kubelb.testing.store import Store, now
from kubelb.testing.workload import Workload
from kubelb.testing.zone import Zone

if TYPE_CHECKING:
    from grpc import Server as GrpcServer

Register: TypeAlias = "Callable[[GrpcServer, Backend], None]"
"""Adds servicers to the server of a backend."""


class LocalCluster:
    """A small Kubernetes on loopback: an EndpointSlice API, DNS, and services with real HTTP or gRPC backends.

        with LocalCluster() as cluster:
            svc = cluster.service("reviews.prod", replicas=3)
            ...                        # point any Kubernetes client at cluster.kubeconfig
            svc[0].fail(503)
            cluster.api.down()

    It runs on threads of its own and is used from sync and async tests alike (`async with` works too).

    tls: serve the API over HTTPS (needs `pip install 'kubelb[testing]'`); the kubeconfig carries the CA.
    lag: seconds until a slice follows a killed pod.
    bookmark_interval: seconds between BOOKMARKs of watches that ask for them.
    history: changes that a watch can still start from; older versions are answered 410.
    max_endpoints_per_slice: as of the EndpointSlice controller.
    watch_list: serve `sendInitialEvents`; False answers 422, as servers without it do.
    zones: backends stand in them by turns, on one node each ("zone-a-node").
    single_address: give every backend a port of 127.0.0.1 instead of an address of its own, as is done anyway where
        the system has no other loopback addresses (macOS).
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        lag: float = 0.05,
        bookmark_interval: float = 60.0,
        history: int = 1000,
        max_endpoints_per_slice: int = 100,
        watch_list: bool = True,
        zones: Sequence[str] = ("zone-a", "zone-b", "zone-c"),
        single_address: bool = False,
    ) -> None:
        if not zones:
            raise ValueError("a cluster has at least one zone")
        self._max_endpoints = max_endpoints_per_slice
        self._zones = tuple(zones)
        self._services: dict[tuple[str, str], tuple[Service, objects.ServiceSpec, str]] = {}
        self._store = Store(history=history)
        self._faults = Faults()
        self._faults.watch_list = watch_list
        self._build = partial(
            Plant, tls=tls, lag=lag, bookmark_interval=bookmark_interval, single_address=single_address
        )
        self._plant: Plant | None = None
        self._closed = False

    # -- life

    def start(self) -> Self:
        """Begin to serve; `with` does it. A cluster starts once."""
        if self._closed:
            raise RuntimeError("this LocalCluster has been closed")
        if self._plant is None:
            zone = Zone(self._find_service, self.slices, self._namespaces)
            try:
                self._plant = self._build(self._store, self._faults, zone, self._find_service)
            except BaseException:
                self._closed = True
                raise
        return self

    def close(self) -> None:
        """End every server, connection and thread, within a second; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        if self._plant is not None:
            self._plant.close(self.services)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        refuse_trio("`async with` a LocalCluster", "`with`")
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio  # a sync test does not pay for it

        await asyncio.to_thread(self.close)

    # -- the API

    @property
    def api(self) -> Api:
        """Faults of the API server and records of what it was asked."""
        return self._running().api

    @property
    def dns(self) -> Dns:
        """A nameserver for this cluster's names, and its faults."""
        return self._running().dns

    @property
    def url(self) -> str:
        """Where the API listens: "http://127.0.0.1:PORT", with TLS "https://..."."""
        return self._running().url

    @property
    def token(self) -> str:
        """The bearer token of the kubeconfig: it may read endpoint slices and services everywhere."""
        return self._running().identity.token

    @property
    def kubeconfig(self) -> str:
        """Path of a kubeconfig with `url` and `token`."""
        return str(self._running().identity.kubeconfig)

    @property
    def serviceaccount(self) -> str:
        """Path of a folder like the one that pods have mounted: `token`, `namespace` and, with TLS, `ca.crt`."""
        return str(self._running().identity.mount)

    @property
    def token_file(self) -> str:
        """Path of the file that holds `token`; `api.rotate_token()` rewrites it."""
        return str(self._running().identity.mount / "token")

    def kubeconfig_for(self, token: str, *, namespace: str = "default") -> str:
        """Path of a new kubeconfig for a token of `api.add_token(...)`, or for one that is not known."""
        return str(self._running().identity.kubeconfig_for(token, namespace))

    @property
    def ca_pem(self) -> str:
        """The certificate of the authority behind every TLS server of this cluster, as PEM."""
        return self._running().identity.authority.pem

    @property
    def ca_file(self) -> str:
        """Path of a file with `ca_pem`: what a client is to verify against."""
        return str(self._running().identity.authority.file)

    @property
    def client_cert(self) -> tuple[str, str]:
        """Paths of a client's certificate and private key: what services with `mtls=True` want to see."""
        cert, key = self._running().identity.authority.client_files
        return str(cert), str(key)

    @property
    def lag(self) -> float:
        """Seconds until a slice follows a killed pod."""
        return self._running().machinery.lag

    @lag.setter
    def lag(self, seconds: float) -> None:
        self._running().machinery.lag = seconds

    # -- services and slices

    def service(
        self,
        name: str,
        *,
        replicas: int = 1,
        port_name: str | None = None,
        port: int | None = None,
        zones: Sequence[str] | None = None,
        hints: Literal["zone", "node"] | None = None,
        labels: Mapping[str, str] | None = None,
        headless: bool = False,
        app_protocol: str | None = None,
        publish_not_ready: bool = False,
        tls: bool = False,
        mtls: bool = False,
        handler: Handler | None = None,
        grpc: bool | Register = False,
        listen: bool = True,
    ) -> Service:
        """A service "NAME.NAMESPACE" (or "NAME", in "default") with `replicas` backends, which serve when this returns.

        name: may end with the name of the Service's port, as in "reviews.prod:http".
        port_name: likewise; "" for a single unnamed one; "http" or "grpc" where nothing is said.
        port: the Service's own port number, behind which each connection goes to a random ready pod, as through
            kube-proxy (see `Service.cluster_address`); 80, or a free one where this process may not listen there.
            Backends listen on 8080, or on another port where that one is taken.
        zones: instead of the cluster's. hints: have slices carry topology hints for the own zone, or node and zone.
        labels: of the Service, copied onto its slices. headless: no cluster IP.
        publish_not_ready: as `publishNotReadyAddresses`.
        tls: backends speak TLS, with a certificate for the service's names (not for their addresses).
        mtls: they also want a client's, which the cluster's authority has signed, such as `client_cert`.
        handler: a function from `Received` to `Reply` that takes the place of the usual answer.
        grpc: backends speak gRPC (needs `pip install 'kubelb[grpc]'`). A function that adds servicers, called with the
            `grpc.Server` and the `Backend` of each pod, and again when a pod comes back as a new one; True for
            `/kubelb.testing.Echo/`, which answers bytes with bytes (`Unary`, `ServerStream`, `ClientStream`,
            `BidiStream`). The metadata `x-backend` of each answer names the pod.
        listen: False makes endpoints without servers, for sets of thousands.

        Raises `ValueError` for a name that is malformed or taken, `TypeError` for a `handler` or `grpc` that cannot be
        called, `ImportError` for what is not installed, `RuntimeError` for a `port` that another server has everywhere.
        """
        plant = self._running()
        if handler is not None and grpc:
            raise ValueError("handler= answers HTTP, grpc= answers gRPC: a service has one of them")
        if handler is not None and not callable(handler):
            raise TypeError(f"handler={handler!r}: give a function from Received to Reply")
        if not isinstance(grpc, bool) and not callable(grpc):
            raise TypeError(f"grpc={grpc!r}: give True, or a function of a grpc.Server and a Backend")
        name, port_name = _port_name(name, port_name, default="grpc" if grpc else "http")
        parts = name.split(".")
        if len(parts) > 2 or not all(parts):
            raise ValueError(f"a service is called NAME or NAME.NAMESPACE: {name!r}")
        short, namespace = parts[0], parts[1] if len(parts) == 2 else "default"
        dns = (f"{short}.{namespace}", f"{short}.{namespace}.svc", f"{short}.{namespace}.svc.cluster.local")
        tls = tls or mtls
        respond = self._grpc_responder(grpc, dns if tls else (), mtls) if grpc else _http_responder(handler)
        with plant.machinery.lock:
            if (namespace, short) in self._services:
                raise ValueError(f"there is a service {short}.{namespace} already")
            proxy = None if headless else self._proxy(plant, namespace, short, port, listens=listen)
            spec = objects.ServiceSpec(
                name=short,
                namespace=namespace,
                uid=str(uuid4()),
                port_name=port_name,
                port=proxy.port if proxy else port or CLUSTER_PORT,
                cluster_ip=proxy.host if proxy else None,
                labels=dict(labels or {}),
                app_protocol=app_protocol,
            )
            workload = Workload(
                spec=spec,
                machinery=plant.machinery,
                slices=SliceSet(self._store, spec, max_endpoints=self._max_endpoints),
                hints=hints,
                publish_not_ready=publish_not_ready,
                listens=listen,
                tls=plant.identity.authority.server_context(*dns, mutual=mtls) if tls and not grpc else None,
            )
            try:
                service = Service(
                    workload, respond, plant.addresses, tuple(zones or self._zones), replicas=replicas, proxy=proxy
                )
            except BaseException:
                if proxy is not None:
                    proxy.shut()
                raise
            self._services[namespace, short] = (service, spec, now())
        return service

    @property
    def services(self) -> list[Service]:
        """Those there are."""
        return [service for service, _, _ in self._services.values()]

    def delete_service(self, service: Service) -> None:
        """Delete a service, its slices and its backends; its name can be used again."""
        with self._running().machinery.lock:
            self._services.pop((service.namespace, service.name), None)
        service.delete()

    def apply_slice(self, slice_: Mapping[str, Any]) -> dict[str, Any]:
        """Write an EndpointSlice by hand, whatever is in it; returns it as the API shows it.

        `metadata.name` is required (else `ValueError`); `metadata.namespace` defaults to "default"; uid,
        creationTimestamp, generation and resourceVersion are given by the server. Nothing else is added or checked:
        tests of nonsense are welcome.
        """
        stored = self._store.put(dict(slice_))
        found: dict[str, Any] = msgspec.json.decode(objects.SLICE_HEAD + stored.raw[1:])
        return found

    def delete_slice(self, namespace: str, name: str) -> bool:
        """Delete an EndpointSlice; False when there is none. Slices of a service come back at its next change."""
        return self._store.delete(namespace, name)

    def slices(self, namespace: str | None = None, service: str | None = None) -> list[dict[str, Any]]:
        """The EndpointSlices that there are, as the API shows them."""
        with self._store.lock:
            found = self._store.at(self._store.version)
        return [
            msgspec.json.decode(objects.SLICE_HEAD + stored.raw[1:])
            for stored in found
            if namespace in (None, stored.key[0]) and service in (None, stored.labels.get(objects.SERVICE_NAME))
        ]

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not started" if self._plant is None else self.url
        return f"<LocalCluster {state}, {len(self._services)} services>"

    # -- inside

    def _running(self) -> Plant:
        if self._closed:
            raise RuntimeError("this LocalCluster has been closed")
        if self._plant is None:
            raise RuntimeError("this LocalCluster has not been started: use `with LocalCluster() as cluster:`")
        return self._plant

    def _proxy(self, plant: Plant, namespace: str, name: str, port: int | None, *, listens: bool) -> KubeProxy:
        slices = partial(self.slices, namespace, name)
        return KubeProxy(plant.machinery.doorman, plant.addresses, slices, port, listens=listens)

    def _grpc_responder(self, grpc: bool | Register, dns: tuple[str, ...], mutual: bool) -> Respond:
        from kubelb.testing._grpc import responder  # an extra: only a test that asks for gRPC imports it

        register = grpc if callable(grpc) else None
        plant = self._running()
        authority = plant.identity.authority if dns else None
        pair = authority.server_pair(*dns) if authority else None
        clients = authority.pem.encode() if authority and mutual else None
        return responder.respond_by(register, pair, clients, plant.machinery.threads)

    def _namespaces(self) -> set[str]:
        return {namespace for namespace, _ in list(self._services)}

    def _find_service(self, namespace: str, name: str) -> objects.Object | None:
        entry = self._services.get((namespace, name))
        if entry is None:
            return None
        service, spec, created = entry
        target = service[0].port if len(service) else spec.port
        return objects.service_object(spec, target_port=target, version=self._store.version, created=created)


def _http_responder(handler: Handler | None) -> Respond:
    attempts = Tally()
    return lambda backend: HttpResponder(backend.name, handler, attempts)


def _port_name(name: str, port_name: str | None, *, default: str) -> tuple[str, str]:
    """The service's name and its port's, which may stand in either argument."""
    name, colon, written = name.partition(":")
    if not colon:
        return name, default if port_name is None else port_name
    if not written or port_name not in (None, written):
        raise ValueError(f"the port of {name!r} is called {written!r} in its name and {port_name!r} in port_name=")
    return name, written
