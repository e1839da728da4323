"""Files by which clients find the test API: kubeconfigs, and the mount that a pod has of its service account."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write(path: Path, *, url: str, token: str, namespace: str, ca: str | None) -> None:
    """Write a kubeconfig with one cluster, one user (bearer token) and one context; `ca` is the path of a PEM file.

    JSON is YAML, so that every Kubernetes client can read it and no YAML library is needed to write it.
    """
    cluster: dict[str, Any] = {"server": url}
    if ca is not None:
        cluster["certificate-authority"] = ca
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "local", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local", "namespace": namespace}}],
        "current-context": "local",
    }
    write_private(path, json.dumps(config, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner alone: a reader sees the old text or the new one."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
