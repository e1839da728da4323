"""Exec plugins: one for all that use the same, and as few runs of it as can be.

They may open a browser, ask for a one-time password, or cost a call to a cloud, so they are run (`command.py`) as
seldom as can be:

- once for all that use the same plugin with the same arguments in one process, one run at a time (client-go shares
  them in the same way, plugin/pkg/client/auth/exec/exec.go);
- again when what they gave has expired, or when the server refused it (a 401, or an alert in the TLS handshake) and
  nothing newer is here;
- after a run that failed, or that was made because of a refusal, the next one waits: 0.8 s, doubling to 30 s, times a
  factor in [1, 2) (`Backoff`). What asks in between hears what the last run said. client-go has no such pause, and
  needs none: it has one client in a process, not one for each service.

A run is not ended by a load balancer that is closed meanwhile: others may want what comes of it.
"""

import random
import threading

from kubelb.clock import Clock, monotonic, wall
from kubelb.discovery.backoff import Backoff
from kubelb.discovery.kube.access import CredentialsError, Issued
from kubelb.discovery.kube.command import LONGEST, Command, Credential, run

__all__ = ["Plugin", "PluginCredentials", "after_fork_in_child", "plugin_for"]


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
        self._lock = threading.Lock()  # held while it runs: threads that want the same wait for it
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
