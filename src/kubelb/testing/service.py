"""One service of a test cluster: a list of backends that grows, shrinks and is rolled over."""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from kubelb.testing.addresses import Addresses
from kubelb.testing.backend import Backend, Respond
from kubelb.testing.kube_proxy import KubeProxy
from kubelb.testing.server import listen
from kubelb.testing.workload import Workload

PREFERRED_PORT = 8080
TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)  # Windows says the last


class Service:
    """`cluster.service("reviews.prod", replicas=3)`: a sequence of `Backend`.

    A backend keeps its index when it is killed or drained, so that `svc[0]` stays what it was; `scale` counts those
    that are alive, and removes the others from the sequence first. Every method may be called from any thread.
    """

    def __init__(
        self,
        workload: Workload,
        respond: Respond,
        addresses: Addresses,
        zones: Sequence[str],
        *,
        replicas: int,
        proxy: KubeProxy | None = None,
    ) -> None:
        self._workload = workload
        self._proxy = proxy
        self._respond = respond
        self._addresses = addresses
        self._zones = itertools.cycle(zones)
        self._numbers = itertools.count()
        self._backends: list[Backend] = []
        self._leaving: list[Backend] = []
        self._port: int | None = None
        if replicas == 0:
            self._workload.sync()  # writes the placeholder
        self.scale(replicas)

    @property
    def name(self) -> str:
        return self._workload.spec.name

    @property
    def namespace(self) -> str:
        return self._workload.spec.namespace

    @property
    def port_name(self) -> str:
        return self._workload.spec.port_name

    @property
    def address(self) -> str:
        """The service as a target: "reviews.prod:http"; without a port name, "reviews.prod:8080"."""
        port = self.port_name or (self._backends[0].port if self._backends else self._workload.spec.port)
        return f"{self.name}.{self.namespace}:{port}"

    @property
    def cluster_address(self) -> str:
        """The Service's own address, "IP:PORT": its ClusterIP, behind which each connection goes to a random ready pod.

        On loopback, as all of a test cluster; "" for a headless service. It refuses where `port=` was asked for and
        this process may not listen there, and with `listen=False`.
        """
        return f"{self._proxy.host}:{self._proxy.port}" if self._proxy is not None else ""

    @property
    def backends(self) -> list[Backend]:
        """A copy of the sequence."""
        with self._workload.machinery.lock:
            return list(self._backends)

    @property
    def requests(self) -> int:
        """Requests read by the backends of the sequence together."""
        return sum(backend.requests for backend in self.backends)

    def __len__(self) -> int:
        return len(self._backends)

    def __iter__(self) -> Iterator[Backend]:
        return iter(self.backends)

    def __getitem__(self, index: int) -> Backend:
        return self._backends[index]

    def scale(self, replicas: int, *, zone: str | None = None, grace: float = 0.5) -> None:
        """Have `replicas` backends alive. New ones serve and are in a slice when this returns.

        Those that are killed or drained leave the sequence; surplus ones are drained from the end, with `grace`
        seconds. New ones stand in `zone`, or in the cluster's zones by turns.
        """
        if replicas < 0:
            raise ValueError(f"replicas must not be negative: {replicas}")
        with self._workload.machinery.lock:
            gone = [backend for backend in self._backends if not backend.alive]
            alive = [backend for backend in self._backends if backend.alive]
            surplus = alive[replicas:]
            self._leaving = [backend for backend in self._leaving if backend.state != "gone"] + gone + surplus
            self._backends = alive[:replicas]
            fresh = self._fresh([zone] * (replicas - len(self._backends)))
            self._backends += fresh
            if fresh:
                self._workload.sync(add=fresh)
        for backend in surplus:
            backend.drain(grace=grace)

    def rolling_restart(self, *, max_unavailable: int = 1, grace: float = 0.5, reuse_addresses: bool = False) -> None:
        """Replace every backend, as a Deployment does; returns when the last old one has gone.

        `max_unavailable` at a time: that many new ones are started, waited for (their port answers, their slice shows
        them) and put in the place of old ones, which are drained for `grace` seconds. With `reuse_addresses` there is
        no surge: old ones are drained, then new ones (new uid) come up on their addresses, as in a StatefulSet.
        From asyncio: `await asyncio.to_thread(svc.rolling_restart)`.
        """
        old = [backend for backend in self.backends if backend.alive]
        for start in range(0, len(old), max_unavailable):
            batch = old[start : start + max_unavailable]
            if not reuse_addresses:
                self._replace(batch)
            for backend in batch:
                backend.drain(grace=grace)
            _until(lambda batch=batch: all(b.state == "gone" for b in batch), grace + 5.0, "old pods to go")  # type: ignore[misc]
            if reuse_addresses:
                for backend in batch:
                    backend.heal()

    def wait_ready(self, timeout: float = 5.0) -> None:
        """Return when every backend that is alive accepts connections and is ready. Raises `TimeoutError`."""
        alive = [backend for backend in self.backends if backend.alive]
        _until(lambda: all(b.state == "ready" and b.answers() for b in alive), timeout, f"{self.address} to be ready")

    def delete(self) -> None:
        """Delete the Service and its slices, and stop its backends. The name can be used again."""
        self._workload.delete()
        self.stop()
        self.join(time.monotonic() + 0.5)

    def stop(self) -> None:
        """End every server; `join` waits for their threads. The cluster does this when it closes."""
        with self._workload.machinery.lock:
            everyone = [*self._backends, *self._leaving]
        if self._proxy is not None:
            self._proxy.shut()
        for backend in everyone:
            backend.stop()

    def join(self, until: float) -> None:
        """Wait for the threads of stopped backends, no longer than to `until` (`time.monotonic()`)."""
        if self._proxy is not None:
            self._proxy.join(until)
        for backend in [*self._backends, *self._leaving]:
            backend.join(until)

    def __repr__(self) -> str:
        alive = sum(backend.alive for backend in self.backends)
        return f"<Service {self.address}: {alive} of {len(self._backends)} alive>"

    def _replace(self, batch: list[Backend]) -> None:
        with self._workload.machinery.lock:
            fresh = self._fresh([backend.zone for backend in batch])
            self._workload.sync(add=fresh)
        _until(lambda: all(backend.answers() for backend in fresh), 5.0, "new pods to answer")
        with self._workload.machinery.lock:
            for backend, replacement in zip(batch, fresh, strict=True):
                self._leaving.append(backend)
                self._backends[self._backends.index(backend)] = replacement

    def _fresh(self, zones: Sequence[str | None]) -> list[Backend]:
        """All of them or none: a function that adds servicers may raise."""
        fresh: list[Backend] = []
        try:
            for zone in zones:
                fresh.append(self._new(zone))  # noqa: PERF401 - those before the one that fails have to be stopped
        except BaseException:
            for backend in fresh:
                backend.stop()
            raise
        return fresh

    def _new(self, zone: str | None) -> Backend:
        zone = zone or next(self._zones)
        name = f"{self.name}-{next(self._numbers)}"
        if not self._workload.listens:
            return self._backend(name, zone, self._addresses.next(), None)
        last: OSError | None = None
        for _ in range(8):  # another cluster may sit on one of these addresses
            host = self._addresses.next()
            try:
                backend = self._backend(name, zone, host, self._common_port(host))
            except OSError as error:
                if error.errno not in TAKEN:  # of a function that adds servicers
                    raise
                last = error
                continue
            return backend
        raise RuntimeError(f"no free address for {name}") from last

    def _backend(self, name: str, zone: str, host: str, port: int | None) -> Backend:
        return Backend(self._workload, self._respond, name, host=host, port=port, node=f"{zone}-node", zone=zone)

    def _common_port(self, host: str) -> int | None:
        """The port that the pods of this service share; None where one address has to do for all of them."""
        if self._addresses.single:
            return None
        if self._port is None:
            try:
                listen(host, PREFERRED_PORT).close()
                self._port = PREFERRED_PORT
            except OSError:  # a server on this machine has that port on every address
                probe = listen(host, None)
                self._port = probe.getsockname()[1]
                probe.close()
        return self._port


def _until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    until = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.005)
