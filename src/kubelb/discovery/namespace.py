"""The caller's own namespace, for a target that names none: ``reviews:http``.

It goes with the way to the API server, for a namespace of one cluster says nothing in another:

    kubeconfig= or context= given   that context's namespace, else $KUBELB_NAMESPACE
    nothing given                   $KUBELB_NAMESPACE, else the namespace of
        $KUBECONFIG                     its context
        a pod                           the ServiceAccount's mounted file
        ~/.kube/config                  its context

The variable stands in for a context that was read and names none, never for a kubeconfig that cannot be read: what it
says would be kept when the file can be read again. A context without a namespace is not taken to mean ``default``, as
kubectl does: requests would go to another service of the same name without a word. `placed` is quick enough for a
constructor; a kubeconfig is read by `in_own_namespace`, on a thread of discovery, which imports PyYAML; that comes with
the ``kubernetes`` package.
"""

import os
from pathlib import Path

from kubelb.errors import TargetError
from kubelb.printable import shown
from kubelb.records import replace
from kubelb.target import Target, is_namespace

__all__ = ["NAMESPACE_FILE", "in_own_namespace", "placed"]

NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
"""Mounted by the kubelet beside the token; 20 us to read, and it never changes."""
VARIABLE = "KUBELB_NAMESPACE"
CURE = (
    f"give SVC.NS:PORT; or set {VARIABLE}, in a pod by the downward API (fieldRef metadata.namespace); or name one in "
    "the kubeconfig's context (kubectl config set-context --current --namespace=NS)"
)


def placed(target: Target, kubeconfig: object = None, context: str | None = None, file: str | None = None) -> Target:
    """Return the target with the own namespace, where it needs one and no kubeconfig has to be read for it."""
    if not target.service or target.namespace:
        return target
    return _with(target, *_at_hand(kubeconfig, context, file))


def in_own_namespace(
    target: Target,
    kubeconfig: str | os.PathLike[str] | None = None,
    context: str | None = None,
    file: str | None = None,
) -> Target:
    """The same at any price; raises `TargetError` with the cure where the namespace is unknown. May read files."""
    if not target.service or target.namespace:
        return target
    return _with(target, *_own(target, kubeconfig, context, file))


def _with(target: Target, namespace: str, place: str) -> Target:
    """A file or a variable may say anything: what is no namespace is told with the place that it is from."""
    if namespace and not is_namespace(namespace):
        raise TargetError(
            f"target '{target}' is in the own namespace, and {place} says {shown(namespace)}, which is no namespace "
            f"(lower case letters, digits and '-', 63 at most); correct it there, or give SVC.NS:PORT"
        )
    return replace(target, namespace=namespace)


def _at_hand(kubeconfig: object = None, context: str | None = None, file: str | None = None) -> tuple[str, str]:
    """The own namespace and its place, where no kubeconfig has to be read for it, else ""."""
    if kubeconfig is not None or context is not None:
        return "", ""
    if given := os.environ.get(VARIABLE, "").strip():
        return given, VARIABLE
    file = file or NAMESPACE_FILE
    return ("", "") if os.environ.get("KUBECONFIG") else (_mounted(file), file)


def _own(
    target: Target,
    kubeconfig: str | os.PathLike[str] | None = None,
    context: str | None = None,
    file: str | None = None,
) -> tuple[str, str]:
    """The own namespace and its place; raises `TargetError` with the cure where it is unknown. May read files."""
    from kubelb.discovery.kube.access import CredentialsError

    found, place = _at_hand(kubeconfig, context, file)
    if found:
        return found, place
    paths = os.fspath(kubeconfig) if kubeconfig is not None else os.environ.get("KUBECONFIG") or "~/.kube/config"
    try:
        found, place, why = _of_context(paths, context), f"the context of {paths}", f"the context of {paths} names none"
        if not found:
            found, place = os.environ.get(VARIABLE, "").strip(), VARIABLE
    except CredentialsError as error:  # the variable does not stand in: the context may name another
        why = error.reason
    if not found:
        raise TargetError(f"target '{target}' is in the own namespace, and that is unknown: {why}; {CURE}")
    return found, place


def _mounted(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _of_context(paths: str, wanted: str | None) -> str:
    """The namespace that a context names, "" for none; raises CredentialsError where it cannot be read."""
    # Imported here: `placed` is part of a constructor, and needs none of it.
    from kubelb.discovery.kube.kubeconfig import Kubeconfig

    return Kubeconfig(paths, wanted).namespace()
