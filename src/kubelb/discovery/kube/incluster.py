"""The way in from a pod: what the kubelet mounts and sets in the environment. Needs no package.

KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT     the API server
/var/run/secrets/kubernetes.io/serviceaccount/       token, ca.crt, namespace
"""

import os
from pathlib import Path

from kubelb.clock import Clock, monotonic
from kubelb.discovery.kube.access import Access, CredentialsError
from kubelb.discovery.kube.proxy import environment_proxy
from kubelb.discovery.kube.token import TokenFile
from kubelb.records import record

__all__ = ["MOUNT", "InCluster"]

MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@record(frozen=True, slots=True)
class InCluster:
    """The API server of the cluster that this pod is in."""

    host: str
    port: str
    mount: str = MOUNT
    clock: Clock = monotonic

    @classmethod
    def detect(cls, mount: str = MOUNT) -> "InCluster | None":
        """Whether this is a pod: both variables are set and a token is mounted, as client-go asks."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port or not Path(mount, "token").exists():
            return None
        return cls(host, port, mount)

    def open(self) -> Access:
        """Read the mounted files."""
        ca_file = Path(self.mount, "ca.crt")
        if not ca_file.is_file():
            raise CredentialsError(f"{ca_file} is missing", "is the ServiceAccount's volume mounted?")
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        server = f"https://{host}:{self.port}"
        token = TokenFile(str(Path(self.mount, "token")), clock=self.clock)
        token.header()  # a missing token is told as such, not as a 401
        return Access(server, f"{self.mount}", credentials=token, ca_file=str(ca_file), proxy=environment_proxy(server))

    def namespace(self) -> str:
        """The pod's own namespace, "" where it is not mounted."""
        try:
            return Path(self.mount, "namespace").read_text(encoding="utf-8").strip()
        except OSError:
            return ""
