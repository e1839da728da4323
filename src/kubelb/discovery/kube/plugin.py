"""Exec plugins: programs that a kubeconfig names and that print a token or a certificate (aws, gcloud, kubelogin).

They may open a browser, ask for a one-time password, or cost a call to a cloud, so they are run as seldom as can be:

- once for all that use the same plugin with the same arguments in one process, one run at a time (client-go shares
  them in the same way, plugin/pkg/client/auth/exec/exec.go);
- again when what they gave has expired, or when the server refused it (a 401, or an alert in the TLS handshake) and
  nothing newer is here;
- after a run that failed, or that was made because of a refusal, the next one waits: 0.8 s, doubling to 30 s, times a
  factor in [1, 2) (`Backoff`). Whoever asks in between hears what the last run said. client-go has no such pause, and
  needs none: it has one client in a process, not one for each service.

A run is not ended by a load balancer that is closed meanwhile: others may want what comes of it.
"""

import json
import os
import random
import shutil
import sys
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubelb.clock import Clock, monotonic, wall
from kubelb.discovery.backoff import Backoff
from kubelb.discovery.kube.access import CredentialsError, Issued
from kubelb.discovery.kube.token import bearer
from kubelb.masking import remember
from kubelb.printable import printable

__all__ = ["Command", "Plugin", "PluginCredentials", "after_fork_in_child", "plugin_for"]

LONGEST = 300.0
"""Seconds that a run may take: somebody may have to log in with a browser. client-go waits for ever."""


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


class Plugin:
    """One command, and what its last run said."""

    def __init__(
        self,
        command: Command,
        *,
        clock: Clock = monotonic,
        rng: random.Random | None = None,
        timeout: float = LONGEST,
    ) -> None:
        self.command = command
        self._clock = clock
        self._timeout = timeout
        self._lock = threading.Lock()  # held while it runs: those who want the same wait for it
        self._backoff = Backoff(clock, rng or random.Random())
        self._not_before = float("-inf")
        self._credential: Credential | None = None
        self._refused = False
        self._failure: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Plugin {self.command.program}>"

    def get(self) -> Credential:
        """What is good now, from a run if need be; raises `CredentialsError`. Blocks for as long as a run takes."""
        with self._lock:
            given = self._credential
            expired = given is not None and given.expires is not None and wall() > given.expires
            if given is not None and not expired and not self._refused:
                return given
            if self._clock() < self._not_before:
                if self._failure is not None:
                    raise CredentialsError(*self._failure)
                if given is not None and not expired:
                    return given  # the server may think better of it; another run would be a storm
            return self._run()

    def refuse(self, credential: Credential) -> None:
        """The server did not accept it. Of no account where there is a newer one."""
        with self._lock:
            if credential is self._credential:
                self._refused = True

    def after_fork_in_child(self) -> None:
        """The thread that held the lock is not here."""
        self._lock = threading.Lock()

    def _run(self) -> Credential:
        try:
            credential = run(self.command, self._timeout)
        except CredentialsError as error:
            self._failure = error.reason, error.cure
            self._not_before = self._clock() + self._backoff.next()
            raise
        if self._refused:
            self._not_before = self._clock() + self._backoff.next()
        self._failure, self._refused, self._credential = None, False, credential
        return credential


class PluginCredentials(Issued):
    """Credentials out of a plugin that others may share."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._given: Credential | None = None

    def __repr__(self) -> str:
        return f"<PluginCredentials {self._plugin.command.program}>"

    def header(self, *, fresh: bool = False) -> tuple[str, str]:  # noqa: ARG002  `refuse` says which was not good
        """The header, "" where the plugin gave a certificate alone."""
        given = self._given = self._plugin.get()
        return given.token, ""

    def certificate(self) -> tuple[bytes, bytes] | None:
        """The certificate that came with the last header."""
        return self._given.certificate if self._given is not None else None

    def refuse(self) -> None:
        """Have another run made before the next header."""
        if self._given is not None:
            self._plugin.refuse(self._given)


_lock = threading.Lock()
_plugins: dict[Command, Plugin] = {}


def plugin_for(command: Command) -> Plugin:
    """Return the process's own for this command. It is kept, so that the next load balancer need not run it."""
    with _lock:
        found = _plugins.get(command)
        if found is None:
            found = _plugins[command] = Plugin(command)
        return found


def after_fork_in_child() -> None:
    """What was given is good here, too; locks are not."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    for plugin in _plugins.values():
        plugin.after_fork_in_child()


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
    except ValueError:
        raise _bad(name, "printed something that is no JSON") from None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise _bad(name, "printed something that is no ExecCredential")
    if answer.get("apiVersion") != command.api_version:
        other = printable(str(answer.get("apiVersion")), 100)
        raise _bad(name, f"printed apiVersion {other}, where {printable(command.api_version, 100)} is configured")
    status = answer.get("status")
    if not isinstance(status, dict):
        raise _bad(name, "gave no credentials: there is no status in what it printed")
    keys = ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp")
    token, certificate, key, until = (status.get(each) or "" for each in keys)
    if not all(isinstance(each, str) for each in (token, certificate, key, until)):
        raise _bad(name, "printed something that is no ExecCredential: its status holds more than texts")
    if bool(certificate) != bool(key):
        raise _bad(name, "gave a certificate without a key, or a key without a certificate")
    if not token and not certificate:
        raise _bad(name, "gave no credentials: neither a token nor a certificate is in what it printed")
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
