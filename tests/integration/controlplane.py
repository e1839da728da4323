"""A Kubernetes control plane of one's own: etcd, API server, endpointslice controllers, and CoreDNS when asked for.

What a cluster has and this has not: kubelets (see `cluster`, which says what they would say), a scheduler, kube-proxy,
garbage collection. What is here is real, down to the timing of the endpointslice controller.

Faults are methods, and `heal()` undoes them all: a test may leave anything frozen, dead or started with odd flags.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from .access import Access
from .api import Api, Json
from .cluster import Cluster
from .processes import Process
from .servers import ADMIN_TOKEN, ApiServer, ControllerManager, CoreDns, Etcd, Identity, write_kubeconfig

START_TIMEOUT = 60.0  # twenty times what it takes on an idle machine of two cores


class ControlPlane:
    """Started by `start()` or as a context manager; everything it writes lies in `folder`."""

    def __init__(self, binaries: Mapping[str, Path], folder: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self._identity = Identity(folder)
        self.etcd = Etcd(binaries["etcd"], folder)
        self.api_server = self._new_api_server("kube-apiserver")
        self.url = self.api_server.url
        self.ca_file = self._identity.ca_file
        self.certificate = self._identity.certificate  # with its key: for a proxy that stands in for the API server
        self.admin_token = ADMIN_TOKEN
        self.api = self.api_server.api
        self.cluster = Cluster(self.api)
        self.access = Access(self.api)
        self._admin_kubeconfig = self.kubeconfig(folder / "admin.kubeconfig")
        self._controllers = ControllerManager(binaries["kube-controller-manager"], self._admin_kubeconfig, folder)
        self._coredns: CoreDns | None = None
        self._coredns_lost_sight = False
        self._flags: tuple[str, ...] = ()
        self._controllers_work = False

    def __enter__(self) -> ControlPlane:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start all but CoreDNS, and wait until the API server is ready; whatever started is ended if that fails.

        The controllers are not waited for: see `wait_controllers`.
        """
        try:
            self.etcd.start()
            self.etcd.wait_ready(self.etcd.ready, START_TIMEOUT)
            self.api_server.start()
            self.api_server.wait_ready(self.api_server.ready, START_TIMEOUT)
            self._start_controllers()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End everything. The logs stay in the folder, etcd's data (64 MB at least) does not."""
        clients: list[Process] = [self._controllers] + ([self._coredns] if self._coredns else [])
        for process in (*clients, self.api_server, self.etcd):
            process.kill()
        self.api.close()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    # Ways in.

    def client(self, token: str | None) -> Api:
        """The API as seen by the owner of a token, or by nobody."""
        return Api(self.url, self.ca_file, token)

    def kubeconfig(
        self, path: Path, *, token: str | None = None, namespace: str = "default", url: str | None = None
    ) -> Path:
        """Write a kubeconfig for the owner of a token, by default for the admin, that leads here or to a proxy."""
        user = {"token": token or self.admin_token}
        return write_kubeconfig(path, url or self.url, self.ca_file, user, namespace)

    @property
    def dns(self) -> CoreDns:
        """CoreDNS, started on first use; it takes some seconds to sync before it answers."""
        if self._coredns is None:
            self._coredns = CoreDns(self._binaries["coredns"], self._admin_kubeconfig, self.folder)
        if not self._coredns.alive:
            self._coredns.start()
            self._coredns.wait_ready(self._coredns.ready, START_TIMEOUT)
        return self._coredns

    # Faults.

    def kill_api_server(self) -> None:
        """As `kill -9` does: connections are reset, new ones refused."""
        self._coredns_lost_sight = True
        self.api_server.kill()

    def restart_api_server(self, *flags: str) -> None:
        """Kill it where it still runs and start it on the same port, with these flags on top of the usual ones.

        The controllers start anew with it. Left alone they come back by a backoff that doubles with each loss up to
        30 s and forgets only after two minutes: the third restart of a run would make slices half a minute late.
        They need some seconds, and are not waited for: see `wait_controllers`.
        """
        self._coredns_lost_sight = True
        self._controllers.kill()
        self.api_server.kill()
        self.api_server.start(*flags)
        self._flags = flags
        self.api_server.wait_ready(self.api_server.ready, START_TIMEOUT)
        self._start_controllers()

    def wait_controllers(self) -> None:
        """Wait until the controllers write slices; they were started, but may not have come that far."""
        if not self._controllers_work:
            self.cluster.wait_controller(self.cluster.namespace("controllers"), START_TIMEOUT)
            self._controllers_work = True

    def _start_controllers(self) -> None:
        self._controllers_work = False
        self._controllers.start()

    def freeze_api_server(self) -> None:
        """Connections stay open and new ones are accepted, but nothing is answered."""
        self._coredns_lost_sight = True
        self.api_server.freeze()

    def thaw_api_server(self) -> None:
        self.api_server.thaw()

    @contextmanager
    def second_api_server(self, *flags: str) -> Iterator[ApiServer]:
        """Another API server on the same etcd, for writing while the first one is frozen or dead."""
        server = self._new_api_server("kube-apiserver-2")
        try:
            server.start(*flags)
            server.wait_ready(server.ready, START_TIMEOUT)
            yield server
        finally:
            server.kill()
            server.api.close()

    def compact(self) -> int:
        """Drop etcd's history up to now; return the revision up to which it is gone.

        An API server still serves old events from its watch cache. A client sees 410 only after a restart of that
        server, or where it runs with --watch-cache=false.
        """
        revision = int(self._etcd("/v3/maintenance/status", {})["header"]["revision"])
        self._etcd("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def heal(self) -> None:
        """Back to normal: all of it runs, nothing is frozen, the API server has its usual flags.

        A CoreDNS that lost sight of the API server would come back to it by the same backoff as the controllers; it
        goes, and the next use starts it anew.
        """
        for process in (self.etcd, self.api_server, self._controllers):
            if process.alive and process.frozen:
                process.thaw()
        if not self.etcd.alive:
            self.etcd.start()
            self.etcd.wait_ready(self.etcd.ready, START_TIMEOUT)
        if not self.api_server.alive or self._flags:
            self.restart_api_server()
        self.api_server.wait_ready(self.api_server.ready, START_TIMEOUT)
        if not self._controllers.alive:
            self._start_controllers()
        if self._coredns is not None and self._coredns_lost_sight:
            self._coredns.kill()
        self._coredns_lost_sight = False

    def _new_api_server(self, name: str) -> ApiServer:
        return ApiServer(name, self._binaries["kube-apiserver"], self.etcd, self._identity, self.folder)

    def _etcd(self, path: str, body: Json) -> Json:
        """One call to etcd's HTTP gateway."""
        request = urllib.request.Request(self.etcd.url + path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10.0) as response:
            answer: Json = json.load(response)
            return answer
