"""What the programs share: a load balancer as in a pod, and the last line of each, with the versions that it had."""

from importlib.metadata import version

import kubelb
from kubelb.discovery.kube import access, source
from kubelb.testing import LocalCluster


def balancer(cluster: LocalCluster, port: str = "http") -> kubelb.LoadBalancer:
    """Over slices, with the credentials that a pod has: kubeconfigs need the extra `[kubernetes]`."""

    class Token:
        def header(self, *, fresh: bool = False) -> tuple[str, str]:
            return f"Bearer {cluster.token}", ""

    given = access.Given(access.Access(cluster.url, credentials=Token()))
    source.locate = lambda *_: given
    return kubelb.LoadBalancer(f"kube:///reviews.prod:{port}")


def done(*packages: str) -> None:
    """Say that all went well, with which versions."""
    print(", ".join(f"{package} {version(package)}" for package in packages))
