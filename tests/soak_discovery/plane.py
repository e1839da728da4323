"""One etcd, two API servers, CoreDNS: the first API server is read by kubelb and fails, the second is always well.

`restart` and its like are the faults; each returns when it has happened. What kubelb connects to is the gate, which is
shut as long as the first API server does not listen.
"""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.integration.access import Access, may, wait_may
from tests.integration.api import Api, Json
from tests.integration.cluster import Cluster
from tests.integration.pods import TokenVolume
from tests.integration.processes import wait_for
from tests.integration.servers import ADMIN_TOKEN, ApiServer, CoreDns, Etcd, Identity, write_kubeconfig
from tests.integration.tokens import expired
from tests.soak_discovery.network import Gate, Network

__all__ = ["Plane"]

ACCOUNT, ROLE = "caller", "reads-slices"
START = 90.0
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitManagedFields": True,
    "rules": [
        {"level": "Metadata", "resources": [{"group": "discovery.k8s.io", "resources": ["endpointslices"]}]},
        {"level": "None"},
    ],
}


class Plane:
    """A context manager; its folder keeps the logs. The services are in these namespaces, the caller in the first."""

    def __init__(
        self,
        binaries: Mapping[str, Path],
        folder: Path,
        network: Network,
        seconds: float,
        namespaces: Sequence[str] = ("soak",),
    ) -> None:
        self.namespaces = namespaces
        identity = Identity(folder)
        self.audit_log = folder / "audit.log"
        policy = folder / "audit-policy.json"
        policy.write_text(json.dumps(POLICY), encoding="ascii")
        self._flags = (f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}")
        self._folder = folder
        self._identity = identity
        self._life = int(seconds) + 3600
        self.etcd = Etcd(binaries["etcd"], folder)
        self.server = ApiServer("kube-apiserver", binaries["kube-apiserver"], self.etcd, identity, folder)
        self.other = ApiServer("kube-apiserver-2", binaries["kube-apiserver"], self.etcd, identity, folder)
        self.api = self.other.api
        kubeconfig = write_kubeconfig(
            folder / "coredns.kubeconfig", self.other.url, identity.ca_file, {"token": ADMIN_TOKEN}
        )
        self.dns = CoreDns(binaries["coredns"], kubeconfig, folder)
        self.gate = Gate(network, int(self.server.url.rpartition(":")[2]))
        self._access = Access(self.api)
        self._token = ""
        self._bindings: dict[str, str] = {}
        self.volume: TokenVolume | None = None

    def __enter__(self) -> Plane:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        self.etcd.start()
        self.etcd.wait_ready(self.etcd.ready, START)
        self.server.start(*self._flags)
        self.other.start()
        for server in (self.other, self.server):
            server.wait_ready(server.ready, START)
        for namespace in self.namespaces:
            Cluster(self.api).namespace(namespace)
            self._access.role(namespace, ROLE)
        self._access.service_account(self.namespaces[0], ACCOUNT)
        self._token = self._access.token(self.namespaces[0], ACCOUNT, self._life)
        self.volume = TokenVolume(self._folder / "volume", self._identity.ca_file, self._token)
        self.give_role()
        self.dns.start()
        self.dns.wait_ready(self.dns.ready, START)
        self.gate.open()

    def close(self) -> None:
        """End everything."""
        for process in (self.dns, self.server, self.other, self.etcd):
            process.kill()
        for server in (self.server, self.other):
            server.api.close()

    # -- the first API server

    def kill(self) -> float:
        """As `kill -9` does; returns when."""
        at = time.monotonic()
        self.gate.shut()
        self.server.kill()
        return at

    def start(self) -> float:
        """Start it; returns when it listened again. It is not ready then."""
        self.server.start(*self._flags)
        wait_for(self._listens, START, what="the API server to listen")
        self.gate.open()
        return time.monotonic()

    def wait_ready(self) -> None:
        """Until the first API server is."""
        self.server.wait_ready(self.server.ready, START)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", int(self.server.url.rpartition(":")[2])), timeout=1.0).close()
        except OSError:
            return False
        return True

    # -- permission and credentials

    def take_role(self) -> None:
        """Streams that are open go on; what is asked anew is forbidden."""
        for namespace, binding in self._bindings.items():
            self._access.revoke(namespace, binding)
        view, last = Api(self.server.url, self._identity.ca_file, self._token), self.namespaces[-1]
        wait_for(lambda: not may(view, last, "list")["allowed"], what="the role to be without effect")
        view.close()

    def give_role(self) -> None:
        """Returns when the first API server knows."""
        for namespace in self.namespaces:
            binding = self._access.bind(namespace, ROLE, ACCOUNT, sa_namespace=self.namespaces[0])
            self._bindings[namespace] = binding
        view = Api(self.server.url, self._identity.ca_file, self._token)
        wait_may(view, self.namespaces[-1], "list", "watch")
        view.close()

    def take_token(self, *, forged: bool) -> None:
        """The mounted token is one that has expired, or one that no server ever gave out."""
        assert self.volume is not None
        unknown = "not-a-token-of-this-cluster"
        self.volume.write(unknown if forged else expired(self._token, self._identity.service_account_key, 10**7))

    def give_token(self) -> None:
        """Another one, as the kubelet would."""
        assert self.volume is not None
        self._token = self._access.token(self.namespaces[0], ACCOUNT, self._life)
        self.volume.write(self._token)

    # -- etcd

    def compact_and_restart(self) -> None:
        """History is dropped, then etcd goes and comes; returns when the second API server is well again."""
        revision = self._etcd("/v3/maintenance/status", {})["header"]["revision"]
        self._etcd("/v3/kv/compaction", {"revision": revision, "physical": True})
        self.etcd.kill()
        self.etcd.start()
        self.etcd.wait_ready(self.etcd.ready, START)
        self.other.wait_ready(self.other.ready, START)

    def _etcd(self, path: str, body: Json) -> Json:
        request = urllib.request.Request(self.etcd.url + path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10.0) as response:
            answer: Json = json.load(response)
            return answer
