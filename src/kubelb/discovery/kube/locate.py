"""Which way in: what was given, $KUBECONFIG, the pod's own, ~/.kube/config, in this order.

Decided when it is asked for, from the environment of that moment; nothing is read yet.
"""

import os
from pathlib import Path

from kubelb.discovery.kube.access import Access, Given, Locator
from kubelb.discovery.kube.incluster import InCluster

__all__ = ["locate"]


def locate(
    kubeconfig: str | os.PathLike[str] | None = None, context: str | None = None, access: Access | Locator | None = None
) -> Locator:
    """Return where to find the API server. A context alone is one of the kubeconfig's."""
    if access is not None:
        return Given(access) if isinstance(access, Access) else access
    if kubeconfig is not None:
        return _kubeconfig(os.fspath(kubeconfig), context)
    variable = os.environ.get("KUBECONFIG")
    if variable:
        return _kubeconfig(variable, context)
    pod = InCluster.detect() if context is None else None
    if pod is not None:
        return pod
    return _kubeconfig(str(Path("~/.kube/config").expanduser()), context)


def _kubeconfig(paths: str, context: str | None) -> Locator:
    from kubelb.discovery.kube.kubeconfig import Kubeconfig  # a dozen files that a pod has no use for

    return Kubeconfig(paths, context)
