"""The four servers: the command line of each, and how one sees that it is ready. All listen on loopback only."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import trustme

from .api import Api
from .processes import Process, free_port

# Not loopback, which the API server refuses for itself as it does for pods; inside the pod range, so bindable.
ADVERTISED = "10.244.255.1"
SERVICE_RANGES = "10.96.0.0/16,fd00:10:96::/112"
ADMIN_TOKEN = "admin-of-this-test-run"
CLUSTER_DOMAIN = "cluster.local"


class Identity:
    """The files by which the API server and its clients know each other."""

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.pem"
        self.certificate = folder / "apiserver.pem"
        self.service_account_key = folder / "service-account.key"
        self.tokens = folder / "tokens.csv"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(self.certificate)
        # Any key will do to sign service account tokens; a second authority is the shortest way to one.
        trustme.CA().private_key_pem.write_to_path(self.service_account_key)
        self.tokens.write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n', encoding="ascii")


class Etcd(Process):
    """The store. Without fsync: a power cut in the middle of a test is not among the faults."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        peer = f"http://127.0.0.1:{free_port()}"
        command = [
            str(binary),
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ]
        super().__init__("etcd", command, folder / "etcd.log")

    def ready(self) -> bool:
        return _answers(f"{self.url}/readyz")


class ApiServer(Process):
    """One kube-apiserver with a port that it keeps over restarts, and the admin's view of it in `api`."""

    def __init__(self, name: str, binary: Path, etcd: Etcd, identity: Identity, folder: Path) -> None:
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        self.api = Api(self.url, identity.ca_file, ADMIN_TOKEN)
        command = [
            str(binary),
            f"--etcd-servers={etcd.url}",
            f"--tls-cert-file={identity.certificate}",
            f"--tls-private-key-file={identity.certificate}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            f"--advertise-address={ADVERTISED}",
            f"--service-cluster-ip-range={SERVICE_RANGES}",
            "--allow-privileged=true",
            # It would keep every pod waiting for a service account that only another controller makes.
            "--disable-admission-plugins=ServiceAccount",
            "--authorization-mode=RBAC",
            # Not this server's own address: tokens are the same at every server over one etcd.
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={identity.service_account_key}",
            f"--service-account-signing-key-file={identity.service_account_key}",
            f"--token-auth-file={identity.tokens}",
        ]
        super().__init__(name, command, folder / f"{name}.log")

    def ready(self) -> bool:
        return self.api.ready()


class ControllerManager(Process):
    """Of all the controllers, those that make EndpointSlices."""

    def __init__(self, binary: Path, kubeconfig: Path, folder: Path) -> None:
        command = [
            str(binary),
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--controllers=endpointslice-controller,endpointslice-mirroring-controller",
            f"--secure-port={free_port()}",
            "--bind-address=127.0.0.1",
        ]
        super().__init__("kube-controller-manager", command, folder / "kube-controller-manager.log")


class CoreDns(Process):
    """The cluster's DNS, with answers that live for one second and pods' names in them."""

    def __init__(self, binary: Path, kubeconfig: Path, folder: Path) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        corefile = folder / "Corefile"
        corefile.write_text(
            f"""{CLUSTER_DOMAIN}:{self.port} {{
                bind {self.host}
                errors
                kubernetes {CLUSTER_DOMAIN} {{
                    kubeconfig {kubeconfig}
                    ttl 1
                    endpoint_pod_names
                }}
                loadbalance
            }}
            """,
            encoding="utf-8",
        )
        super().__init__("coredns", [str(binary), "-conf", str(corefile)], folder / "coredns.log")

    def query(self, name: str, kind: str, timeout: float = 10.0) -> dns.message.Message:
        """One raw query by UDP, and its answer whatever the code; a name without a dot at its end is absolute too."""
        return dns.query.udp(dns.message.make_query(name, kind), self.host, timeout=timeout, port=self.port)

    def ready(self) -> bool:
        """Whether it knows the one Service that every cluster has; until it has synced it answers SERVFAIL."""
        try:
            # What is sent before it listens is lost without a word, so it is asked often.
            answer = self.query(f"kubernetes.default.svc.{CLUSTER_DOMAIN}.", "A", timeout=0.5)
        except (dns.exception.DNSException, OSError):
            return False
        return answer.rcode() == dns.rcode.NOERROR and bool(answer.answer)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def write_kubeconfig(path: Path, url: str, ca_file: Path, user: Mapping[str, str], namespace: str = "default") -> Path:
    """A kubeconfig with one cluster, one user, one context. JSON, which is YAML too."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    }
    # In one step: who reads it meanwhile sees the old one or the new one.
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return unfinished.replace(path)
