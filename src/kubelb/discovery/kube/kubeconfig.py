"""The way in from a laptop or a CI job: kubeconfig files, read as kubectl reads them.

    merge.py        several files as one           stanza.py       a cluster, user or context, and its values
    serverurl.py    where the server is            login.py        token, password, plugin, provider
    impersonate.py  as:                            plugin.py       exec plugins; one run: command.py

Read on the stream's thread, never on a caller's. When one of the files changes it is read again for the next request
(`Access.outdated`), and after a 401 in any case.

Different from kubectl, on purpose: credentials are sent to a server of ``http://``, too, as the official Python client
does (kubectl drops them without a word), a server without a scheme that has a CA is spoken to by https, and an exec
plugin without ``interactiveMode`` is run as ``IfAvailable``, where kubectl insists on one.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kubelb.discovery.kube.access import Access, CredentialsError, stamps
from kubelb.discovery.kube.impersonate import impersonation
from kubelb.discovery.kube.login import credentials_of
from kubelb.discovery.kube.merge import Merged, MissingPackageError, merge
from kubelb.discovery.kube.proxy import environment_proxy
from kubelb.discovery.kube.serverurl import server_url
from kubelb.discovery.kube.stanza import Stanza
from kubelb.masking import is_content
from kubelb.printable import shown

__all__ = ["Kubeconfig", "MissingPackageError"]


class NoKubeconfigError(CredentialsError):
    """There is no such file."""


@dataclass(frozen=True)
class Kubeconfig:
    """A kubeconfig, or several as in $KUBECONFIG, and one of its contexts (None: the current one)."""

    paths: str = field(repr=False)
    """Where a file's path should stand, its content may."""
    context: str | None = None

    def open(self) -> Access:
        """Read it. Raises `CredentialsError`; `MissingPackageError`, an ImportError too, without the extra."""
        files = self._files()
        sources = stamps(files)
        with self._telling():
            config, context = self._read(files)
            access = _access(config, context, self.paths)
        access.check()
        # Found again by the context's name: another one that is made current is meant for kubectl, not for this.
        again = Kubeconfig(os.pathsep.join(files), context.name)
        return replace(access, sources=sources, again=again)

    def namespace(self) -> str:
        """Return the namespace that the context names, "" where it names none. Raises what `open` raises."""
        files = self._files()
        with self._telling():
            return self._read(files)[1].text("namespace")

    def _read(self, files: list[str]) -> tuple[Merged, Stanza]:
        there = [name for name in files if not _missing(name)]
        if not there:
            raise NoKubeconfigError(
                f"there is no kubeconfig at {self.paths}, and no ServiceAccount token is mounted here",
                "give DiscoveryOptions(kubeconfig=...), or set KUBECONFIG; "
                "in a pod, is automountServiceAccountToken off?",
            )
        config = merge(there)
        return config, config.context(self.context)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """What goes wrong is told with the file's name, and without the texts of yaml and the system: they may hold
        what stands there."""
        try:
            yield
        except (MissingPackageError, NoKubeconfigError):
            raise
        except CredentialsError as error:
            reason = f"the kubeconfig {self.paths} cannot be used: {error.reason}"
            raise CredentialsError(reason, error.cure) from None
        except Exception as error:  # noqa: BLE001  yaml's errors, OSError
            what = getattr(error, "strerror", None) or type(error).__name__
            raise CredentialsError(
                f"the kubeconfig {self.paths} cannot be used: {what} while it was read: is it one?",
                "kubectl cluster-info with the same file",
            ) from None

    def _files(self) -> list[str]:
        parts = [part for part in self.paths.split(os.pathsep) if part]
        # Each by itself: a list may be longer than a path can be. The whole, too: YAML has colons in it.
        if any(is_content(part) for part in parts) or is_content(self.paths[:4096]):
            raise CredentialsError(
                "the contents of a kubeconfig were given in place of its path",
                "give the path of the file in DiscoveryOptions(kubeconfig=...) or KUBECONFIG",
            )
        if len(parts) > 1 and os.path.isfile(_absolute(self.paths)):  # noqa: PTH113 - pathlib's raises for a long name
            return [_absolute(self.paths)]  # a name with a colon in it
        return [_absolute(part) for part in parts]


def _absolute(path: str) -> str:
    """The process may change its folder later. Unlike pathlib's, these raise for nothing."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def _missing(name: str) -> bool:
    """Whether there is no such file; one that may not be read is there, and is told."""
    try:
        os.stat(name)  # noqa: PTH116
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _access(config: Merged, context: Stanza, origin: str) -> Access:
    cluster = config.named("clusters", context.text("cluster"))
    if cluster is None:
        raise CredentialsError(
            f"there is no cluster {shown(context.text('cluster'))}, which {context} names",
            "kubectl config get-clusters lists those there are",
        )
    user = config.named("users", context.text("user")) or Stanza("user", context.text("user"), {}, context.file)
    ca_file, ca_data = cluster.either("certificate-authority")
    cert_file, cert_data = user.either("client-certificate")
    key_file, key_data = user.either("client-key")
    insecure = cluster.flag("insecure-skip-tls-verify")
    if not cluster.text("server"):
        raise CredentialsError(f"{cluster} has no server", "give server: https://HOST:PORT")
    if insecure and (ca_file or ca_data):
        raise CredentialsError(
            f"{cluster} has a CA and insecure-skip-tls-verify, which says not to look at it", "take one of them out"
        )
    if (cert_file or cert_data) and not (key_file or key_data):
        raise CredentialsError(f"{user} has a client certificate without a key", "give client-key, too")
    tls = bool(ca_file or ca_data or cert_file or cert_data or insecure)
    server = server_url(cluster.text("server"), tls=tls, origin=str(cluster))
    certificate = bool(cert_file or cert_data)
    return Access(
        server,
        origin,
        credentials=credentials_of(
            user, cluster, server, certificate=certificate, files=config.files, context=context.name
        ),
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file if certificate else None,
        ca_data=ca_data,
        cert_data=cert_data,
        key_data=key_data if certificate else None,
        server_name=cluster.text("tls-server-name") or None,
        proxy=cluster.text("proxy-url") or environment_proxy(server),
        verify=not insecure,
        impersonate=impersonation(user),
    )
