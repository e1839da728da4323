"""One run of an exec plugin: a program that a kubeconfig names and that prints a token or a certificate.

aws, gcloud and kubelogin are such. When one is run, and what shares the run, is decided in `plugin.py`.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubelb.discovery.kube.access import CredentialsError
from kubelb.discovery.kube.token import bearer
from kubelb.masking import remember
from kubelb.printable import printable

__all__ = ["LONGEST", "Command", "Credential", "run"]

LONGEST = 300.0
"""Seconds that a run may take: the user may have to log in with a browser. client-go waits for ever."""


@dataclass(frozen=True)
class Command:
    """What is run, and all that it depends on: two that are equal give the same credentials."""

    program: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    api_version: str = "client.authentication.k8s.io/v1"
    interactive: str = "IfAvailable"
    """``interactiveMode``: whether it may read from a terminal: Never, IfAvailable, Always."""
    cluster: str = field(default="", repr=False)
    """JSON for ``spec.cluster``, where ``provideClusterInfo`` asks for it."""
    hint: str = field(default="", repr=False, compare=False)
    """``installHint``: what to do where it is not there."""


@dataclass(frozen=True)
class Credential:
    """What a run gave."""

    token: str = field(repr=False)
    certificate: tuple[bytes, bytes] | None = field(repr=False)
    expires: float | None
    """Seconds since 1970."""


def run(command: Command, timeout: float = LONGEST) -> Credential:
    """Run it once. What it prints is never told: it should hold a token, and may do so in the wrong place."""
    import subprocess

    name = command.program
    program = shutil.which(name)  # by our own PATH, not by one that env: may set; so does client-go
    if program is None:
        hint = f": {printable(command.hint, 300)}" if command.hint else ""
        raise CredentialsError(
            f"the credential plugin {name!r} is not there, or may not be executed",
            f"is exec.command in the kubeconfig's user right? If so, install {name!r} on the PATH{hint}",
        )
    interactive = _interactive(command)
    spec: dict[str, Any] = {"interactive": interactive}
    if command.cluster:
        spec["cluster"] = json.loads(command.cluster)
    info = {"kind": "ExecCredential", "apiVersion": command.api_version, "spec": spec}
    env = {**os.environ, **dict(command.env), "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        done = subprocess.run(  # noqa: S603 - to be run is what a kubeconfig is for
            [program, *command.args],
            env=env,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if interactive else subprocess.DEVNULL,  # what it asks for has to be seen
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _bad(name, f"gave nothing within {timeout:g} s and was ended") from None
    except (OSError, ValueError) as error:  # a NUL in an argument
        raise _bad(name, f"cannot be run: {getattr(error, 'strerror', None) or type(error).__name__}") from None
    if done.returncode:
        raise _bad(name, f"failed with exit code {done.returncode}")
    return _read(done.stdout, command)


def _interactive(command: Command) -> bool:
    terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    if command.interactive == "Always" and not terminal:
        raise CredentialsError(
            f"the plugin {command.program!r} has interactiveMode Always, and standard input is no terminal",
            "run it from a terminal, or give interactiveMode: IfAvailable if it can do without",
        )
    return terminal and command.interactive != "Never"


def _read(output: bytes, command: Command) -> Credential:
    name = command.program
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        raise _bad(name, "printed something that is no JSON") from None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise _bad(name, "printed something that is no ExecCredential")
    if answer.get("apiVersion") != command.api_version:
        other = printable(str(answer.get("apiVersion")), 100)
        raise _bad(name, f"printed apiVersion {other}, where {printable(command.api_version, 100)} is configured")
    status = answer.get("status")
    if not isinstance(status, dict):
        raise _bad(name, "gave no credentials, for there is no status in what it printed")
    keys = ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp")
    token, certificate, key, until = (status.get(each) or "" for each in keys)
    if not all(isinstance(each, str) for each in (token, certificate, key, until)):
        raise _bad(name, "printed something that is no ExecCredential: its status holds more than texts")
    if bool(certificate) != bool(key):
        raise _bad(name, "gave a certificate without a key, or a key without a certificate")
    if not token and not certificate:
        raise _bad(name, "gave no credentials, for neither a token nor a certificate is in what it printed")
    expires = _seconds(until, name) if until else None
    header = bearer(token, f"what the plugin {name!r} printed") if token else ""
    remember(header)
    return Credential(header, (certificate.encode(), key.encode()) if certificate else None, expires)


def _seconds(text: str, name: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise _bad(name, "printed an expirationTimestamp that is no RFC 3339 time")
    return when.timestamp()


def _bad(name: str, what: str) -> CredentialsError:
    return CredentialsError(
        f"the credential plugin {name!r} {what}",
        f"run {name!r} by hand with exec.args and exec.env of the kubeconfig's user: it may say more, or want a login",
    )
