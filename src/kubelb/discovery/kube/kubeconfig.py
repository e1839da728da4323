"""The way in from a laptop or a CI job: kubeconfig files with all that they can hold.

Exec plugins, OIDC, certificates inline or in files, several files merged: the `kubernetes` package reads them, and is
imported here, on the stream's thread, and nowhere else (300 ms, 35 MB). It reads a ``tokenFile`` once for ever, goes on
without credentials when an exec plugin fails, and knows ``proxy-url`` and ``tls-server-name`` only in its later
versions; so those four are looked up here. After a 401 the file is opened again, which runs everything anew.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubelb.discovery.kube.access import Access, Credentials, CredentialsError
from kubelb.discovery.kube.proxy import environment_proxy
from kubelb.discovery.kube.token import TokenFile
from kubelb.masking import is_content

__all__ = ["Kubeconfig", "MissingPackageError"]


class MissingPackageError(CredentialsError, ImportError):
    """The extra is not installed."""

    missing_extra = True

    def __init__(self) -> None:
        super().__init__(
            "a kubeconfig can only be read with the 'kubernetes' package, which is not installed",
            "pip install 'kubelb[kubernetes]'",
        )

    def __str__(self) -> str:
        return f"{self.reason}: {self.cure}"


@dataclass(frozen=True)
class Kubeconfig:
    """A kubeconfig, or several as in $KUBECONFIG, and one of its contexts (None: the current one)."""

    paths: str = field(repr=False)
    """Where a file's path should stand, its content may."""
    context: str | None = None

    def open(self) -> Access:
        """Read it, running what it says has to be run."""
        if is_content(self.paths):
            raise CredentialsError(
                "what was given as the path of a kubeconfig is what stands in one",
                "give the path of the file in kubeconfig= or KUBECONFIG",
            )
        if not any(Path(path).expanduser().is_file() for path in self.paths.split(os.pathsep) if path):
            raise CredentialsError(
                f"there is no kubeconfig at {self.paths}, and this is no pod with a ServiceAccount token",
                "give kubeconfig=, set KUBECONFIG, or run in a pod",
            )
        try:
            from kubernetes.client import Configuration
            from kubernetes.config import kube_config
        except ImportError:
            raise MissingPackageError from None
        try:
            merged = kube_config.KubeConfigMerger(self.paths).config  # type: ignore[no-untyped-call]
            cluster, user = _parts(merged, self.context)
            settings = Configuration()
            load: Any = kube_config.load_kube_config
            with _package_is_quiet():
                load(self.paths, context=self.context, client_configuration=settings)
        except Exception as error:  # noqa: BLE001  yaml errors, ConfigException, whatever a plugin raises
            raise CredentialsError(
                f"the kubeconfig {self.paths} cannot be used: {_words(error, ' while it was read: is it one?')}",
                "kubectl cluster-info with the same file",
            ) from None
        server = str(settings.host).rstrip("/")
        access = Access(
            server,
            self.paths,
            credentials=_credentials(user, settings, self.paths),
            ca_file=settings.ssl_ca_cert,
            cert_file=settings.cert_file,
            key_file=settings.key_file,
            server_name=_get(cluster, "tls-server-name"),
            proxy=_get(cluster, "proxy-url"),
            verify=bool(settings.verify_ssl),
        )
        access.check()
        return access if access.proxy else replace(access, proxy=environment_proxy(server))


class _Settings:
    """A token kept by the package, which refreshes it when an exec plugin or OIDC said that it expires."""

    def __init__(self, settings: Any, paths: str) -> None:
        self._settings = settings
        self._paths = paths

    def header(self, *, fresh: bool = False) -> tuple[str, str]:  # noqa: ARG002  a fresh one comes with a fresh Access
        try:
            with _package_is_quiet():  # it may run the plugin again
                auth = self._settings.auth_settings().get("BearerToken") or {}
        except Exception as error:  # noqa: BLE001  the package raises what its helpers raise
            raise CredentialsError(f"the credentials of {self._paths} cannot be refreshed: {_words(error)}") from None
        value = str(auth.get("value") or "").strip()
        if not value.isascii() or not value.isprintable():
            raise CredentialsError(f"{self._paths} holds something that is no token")
        return value, ""


@contextmanager
def _package_is_quiet() -> Iterator[None]:
    """Keep what the package logs meanwhile, in this thread, out of the root logger.

    When an exec plugin fails the package logs all that the plugin wrote, which may be a token. What there is to say of
    it is said by us. The list of filters is replaced and never altered: other threads may be reading it.
    """
    root, here = logging.getLogger(), threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != here

    root.filters = [*root.filters, others]
    try:
        yield
    finally:
        root.filters = [each for each in root.filters if each is not others]


def _parts(merged: Any, context: str | None) -> tuple[Any, Any]:
    """The cluster and the user of a context, as nodes that know the file they are from."""
    chosen = merged["contexts"].get_with_name(context or merged["current-context"])["context"]
    cluster = merged["clusters"].get_with_name(chosen["cluster"])["cluster"]
    name = chosen.safe_get("user")
    found = merged["users"].get_with_name(name, safe=True) if name and merged.safe_get("users") else None
    return cluster, found["user"] if found else None


def _credentials(user: Any, settings: Any, paths: str) -> Credentials:
    file = _get(user, "tokenFile")
    if file:
        # client-go prefers it to `token`; a relative name is relative to the file it stands in.
        return TokenFile(str(Path(user.path).parent / file))
    if user is not None and "exec" in user and not settings.auth_settings() and not settings.cert_file:
        command = _get(user["exec"], "command")
        raise CredentialsError(
            f"the plugin {command!r} named in {paths} gave no credentials", f"run {command!r} by hand and log in again"
        )
    return _Settings(settings, paths)


def _get(node: Any, key: str) -> str | None:
    value = node.safe_get(key) if node is not None else None
    return str(value) if value else None


def _words(error: Exception, doubt: str = "") -> str:
    """The kind of error, or the package's own words: never the file's content, which holds secrets."""
    if type(error).__name__ == "ConfigException":
        return " ".join(str(error).split())[:200]
    return f"{type(error).__name__}{doubt}"
