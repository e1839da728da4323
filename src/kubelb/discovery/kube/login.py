"""How a kubeconfig's user logs in: which of its ways counts, in client-go's order (clientcmd, transport).

    token, tokenFile           the file counts while it can be read
    username, password         refused beside a token
    exec                       only where there is neither of those, nor a client certificate
    auth-provider              only where there is neither a token nor a password

A client certificate is shown beside any of them. Where the file is ambiguous kubectl refuses it, and so do we.
"""

import base64
import json
from pathlib import Path
from typing import Any

from kubelb.discovery.kube.access import Credentials, CredentialsError, Nobody
from kubelb.discovery.kube.command import Command
from kubelb.discovery.kube.plugin import PluginCredentials, plugin_for
from kubelb.discovery.kube.provider import ProviderCredentials
from kubelb.discovery.kube.stanza import Stanza
from kubelb.discovery.kube.token import TokenFile, bearer
from kubelb.masking import remember
from kubelb.printable import shown

__all__ = ["credentials_of"]

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
MODES = {"Never", "IfAvailable", "Always"}
CONFIG = "client.authentication.k8s.io/exec"
"""The extension of a cluster that is handed to plugins."""


class _Fixed:
    """A header that never changes."""

    def __init__(self, header: str) -> None:
        self._header = header

    def header(self, *, fresh: bool = False) -> tuple[str, str]:  # noqa: ARG002  a fresh one comes with a fresh Access
        return self._header, ""


def credentials_of(
    user: Stanza, cluster: Stanza, server: str, *, certificate: bool, files: tuple[str, ...], context: str
) -> Credentials:
    """Raise `CredentialsError`. `certificate`: whether it has one of its own, in the file."""
    token, token_file = user.text("token"), user.path("tokenFile")
    name, password = user.text("username"), user.text("password")
    exec_, provider = user.inner("exec"), user.inner("auth-provider")
    if (token or token_file) and (name or password):
        raise CredentialsError(f"{user} has both a token and a password", "take one of them out")
    if exec_ is not None and provider is not None:
        raise CredentialsError(f"{user} has an exec plugin and an auth-provider", "take one of them out")
    command = _command(exec_, cluster, server) if exec_ is not None else None
    if token_file:
        return TokenFile(token_file, first=bearer(token, f"the token of {user}") if token else "")
    if token:
        return _Fixed(bearer(token, f"the token of {user}"))
    if name or password:
        remember(password)
        login = base64.b64encode(f"{name}:{password}".encode()).decode()
        return _Fixed(f"Basic {login}")
    if provider is not None:
        return ProviderCredentials(user, files, context)
    if command is not None and not certificate:
        return PluginCredentials(plugin_for(command))
    return Nobody()


def _command(exec_: Stanza, cluster: Stanza, server: str) -> Command:
    program, version = exec_.text("command"), exec_.text("apiVersion")
    for key, value in (("command", program), ("apiVersion", version)):
        if not value:
            raise CredentialsError(f"{exec_} has no {key}", f"give {key}")
    if version not in VERSIONS:
        raise CredentialsError(f"the apiVersion of {exec_} is {shown(version)}", f"give {' or '.join(VERSIONS)}")
    mode = exec_.text("interactiveMode") or "IfAvailable"  # kubectl insists on one since v1
    if mode not in MODES:
        raise CredentialsError(
            f"the interactiveMode of {exec_} is {shown(mode)}", f"give one of {', '.join(sorted(MODES))}"
        )
    if "/" in program or "\\" in program:
        program = exec_.path("command") or program
    info = json.dumps(_info(cluster, server), sort_keys=True) if exec_.flag("provideClusterInfo") else ""
    hint = exec_.text("installHint")
    return Command(program, tuple(exec_.texts("args")), tuple(_env(exec_)), version, mode, info, hint)


def _env(exec_: Stanza) -> list[tuple[str, str]]:
    found = exec_.value.get("env") or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise exec_.wrong("env", found, "a list of name and value")
    entries = [Stanza(exec_.kind, exec_.name, each, exec_.file) for each in found]
    pairs = [(each.text("name"), each.text("value")) for each in entries]
    if not all(name for name, _ in pairs):
        raise CredentialsError(f"{exec_} has a variable without a name in env", "give name and value")
    return pairs


def _info(cluster: Stanza, server: str) -> dict[str, Any]:
    """What a plugin is told of the cluster (client-go, rest/exec.go)."""
    path, data = cluster.either("certificate-authority")
    if path:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise CredentialsError(
                f"the CA of {cluster} cannot be read: {path}: {error.strerror}",
                "give certificate-authority, or its -data",
            ) from None
    info: dict[str, Any] = {"server": server}
    if data:
        info["certificate-authority-data"] = base64.b64encode(data).decode()
    for key in ("tls-server-name", "proxy-url"):
        if text := cluster.text(key):
            info[key] = text
    for key in ("insecure-skip-tls-verify", "disable-compression"):
        if cluster.flag(key):
            info[key] = True
    extensions = cluster.value.get("extensions")
    for each in extensions if isinstance(extensions, list) else ():
        if isinstance(each, dict) and each.get("name") == CONFIG:
            info["config"] = each.get("extension")
    return info
