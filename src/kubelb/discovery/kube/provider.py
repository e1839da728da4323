"""``auth-provider:`` of a kubeconfig's user, OIDC above all: the `kubernetes` package knows them.

It is the only thing here that uses that package, which is imported for it, on the stream's thread, and nowhere else
(300 ms, 35 MB). The package refreshes a token that expires, and writes the new one into the kubeconfig, as kubectl
does: a refresh token may be good for one time only.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubelb.discovery.kube.access import CredentialsError
from kubelb.discovery.kube.merge import MissingPackageError
from kubelb.discovery.kube.stanza import Stanza
from kubelb.discovery.kube.token import bearer

__all__ = ["ProviderCredentials"]


class ProviderCredentials:
    """A token kept by the package."""

    def __init__(self, user: Stanza, files: tuple[str, ...], context: str) -> None:
        try:
            from kubernetes.client import Configuration
            from kubernetes.config import kube_config
        except ImportError:
            raise MissingPackageError(f"the auth-provider of {user} needs the 'kubernetes' package") from None
        self._user = user
        self._settings: Any = Configuration()
        load: Any = kube_config.load_kube_config
        with self._told("read"):
            load(os.pathsep.join(files), context=context, client_configuration=self._settings)
        self.header()

    def __repr__(self) -> str:
        return f"<ProviderCredentials of {self._user}>"

    def header(self, *, fresh: bool = False) -> tuple[str, str]:  # noqa: ARG002  a fresh one comes with a fresh Access
        """The header, refreshed if it is time."""
        with self._told("refreshed"):
            auth = self._settings.auth_settings().get("BearerToken") or {}
        scheme, _, token = str(auth.get("value") or "").strip().rpartition(" ")
        if not token or scheme not in {"", "Bearer"}:
            raise CredentialsError(
                f"the auth-provider of {self._user} gave no credentials", "log in again, or use an exec plugin"
            )
        return bearer(token, f"the auth-provider of {self._user}"), ""

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """The package raises what its helpers raise, with texts that may hold a token; and it logs."""
        try:
            with _package_is_quiet():
                yield
        except Exception as error:  # noqa: BLE001
            kind = type(error).__name__
            raise CredentialsError(
                f"the auth-provider of {self._user} cannot be {what}: {kind}", "kubectl cluster-info with the same file"
            ) from None


@contextmanager
def _package_is_quiet() -> Iterator[None]:
    """Keep what the package logs meanwhile, in this thread, out of the root logger.

    What there is to say of a failure is said by us. The list of filters is replaced and never altered: other threads
    may be reading it.
    """
    root, here = logging.getLogger(), threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != here

    root.filters = [*root.filters, others]
    try:
        yield
    finally:
        root.filters = [each for each in root.filters if each is not others]
