"""`cluster.api`: what a test does to the API server, and what it asks about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from kubelb.testing import objects
from kubelb.testing.api_server import ApiServer
from kubelb.testing.faults import ApiRequest, Faults, ScriptedFailure
from kubelb.testing.server import Server
from kubelb.testing.store import Store
from kubelb.testing.users import READ, User, Users
from kubelb.testing.watch import Bookmark, End, How, Line, error_line

VERBS = ("list", "watch", "get", "create", "update", "patch", "delete")
"""Kubernetes' words; the last three are only asked about."""


class Api:
    """Scripted trouble with the API server. Methods may be called from any thread and return at once.

    Switches stay until they are turned back, one by one or all by `heal()`. Durations are seconds.

        cluster.api.down()                       # connection refused, streams cut
        cluster.api.up()                         # back on the same port
        cluster.api.fail(429, retry_after=2, times=1, verb="watch")
        cluster.api.expire()                     # every resourceVersion so far is answered 410
        cluster.api.wait_for_watchers(1)
    """

    def __init__(
        self,
        server: ApiServer,
        listener: Server,
        store: Store,
        users: Users,
        faults: Faults,
        *,
        rotate: Callable[[bool], str],
    ) -> None:
        self._server = server
        self._listener = listener
        self._store = store
        self._users = users
        self._faults = faults
        self._rotate = rotate

    # -- the whole server

    def down(self, *, reset: bool = False) -> None:
        """The server dies: connects are refused, streams end without a last chunk (with `reset`, by RST)."""
        self._listener.unlisten()
        self._server.tell_watches(End("reset" if reset else "abrupt"))
        self._listener.cut(reset=reset)

    def up(self) -> None:
        """The server is back, on the same port, with all that it knew."""
        self._listener.listen()

    def freeze(self) -> None:
        """The server stops like a process under SIGSTOP: connects succeed, not one byte comes."""
        self._faults.flowing.clear()

    def thaw(self) -> None:
        """It goes on where it stood still."""
        self._faults.flowing.set()

    def heal(self) -> None:
        """Every switch back: up, flowing, quick, no failures, no permission taken away. Tokens stay as they are."""
        self._faults.heal()
        self.up()

    # -- answers

    def fail(
        self,
        status: int,
        *,
        retry_after: int | None = None,
        times: int | None = None,
        verb: str | None = None,
        body: bytes | str | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer requests with `status` and a fitting Status object, or with `body`.

        `verb` limits it to "list", "watch", "get" or "create"; `times` to so many requests (None: until `heal()`).
        Failures with `times` are used up in the order in which they were given, before one without; a failure
        without `times` replaces the last such for the same `verb`. Raises `ValueError` for a verb that
        Kubernetes does not have, `TypeError` for a status that is no number.
        """
        _check_verb("fail", verb)
        if not isinstance(status, int):
            raise TypeError(f"api.fail({status!r}): give an HTTP status, such as 429")
        extra = {"content-type": "application/json", **(headers or {})}
        details: dict[str, Any] | None = None
        if retry_after is not None:
            extra["retry-after"] = str(retry_after)
            details = {"retryAfterSeconds": retry_after}
        if body is None:
            body = objects.status(status, details=details)
        data = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else msgspec.json.encode(body)
        )
        self._faults.script(ScriptedFailure(status, times, verb, extra, data))

    def slow(self, seconds: float) -> None:
        """Let that much time pass between each request and its answer."""
        self._faults.delay = seconds

    def delay_headers(self, seconds: float) -> None:
        """Hold a watch's headers back until its first event, at most that long, as buffering proxies do."""
        self._faults.header_delay = seconds

    def split_writes(self, size: int) -> None:
        """Send everything `size` bytes at a time; 0 is whole again."""
        self._faults.split = size

    @property
    def watch_list(self) -> bool:
        """Whether `sendInitialEvents` is served (WatchList), or answered 422 Invalid as by servers without it."""
        return self._faults.watch_list

    @watch_list.setter
    def watch_list(self, value: bool) -> None:
        self._faults.watch_list = value

    # -- versions

    @property
    def resource_version(self) -> int:
        """The newest one."""
        return self._store.version

    def expire(self) -> None:
        """Forget history: every resourceVersion and continue token so far is answered 410.

        Open watches go on, as behind a compaction; `cut_streams()` after it makes their clients meet the 410.
        """
        self._store.expire()

    # -- open watches

    @property
    def watchers(self) -> int:
        """Watches that are open now."""
        return len(self._server.watches)

    def wait_for_watchers(self, count: int = 1, timeout: float = 5.0) -> None:
        """Return when at least `count` watches are open (0: when none is). Raises `TimeoutError`."""
        changed = self._server.changed
        with changed:
            enough = changed.wait_for(
                lambda: not self._server.watches if count == 0 else len(self._server.watches) >= count, timeout
            )
            if not enough:
                raise TimeoutError(f"{len(self._server.watches)} of {count} watches are open after {timeout} s")

    def cut_streams(self, how: How = "clean") -> int:
        """End every open watch: "clean" (last chunk), "abrupt" (no last chunk) or "reset" (RST); how many."""
        return self._server.tell_watches(End(how))

    def send_line(self, data: bytes) -> int:
        """Send bytes into every open watch, with a line feed where they have none; to how many."""
        return self.send_bytes(data if data.endswith(b"\n") else data + b"\n")

    def send_bytes(self, data: bytes) -> int:
        """Send bytes into every open watch as they are: the first half of a line, say."""
        return self._server.tell_watches(Line(data))

    def send_error(
        self, status: int, message: str | None = None, *, reason: str | None = None, retry_after: int | None = None
    ) -> int:
        """Send an ERROR event with a Status into every open watch and end it, as a server does; to how many."""
        details = {"retryAfterSeconds": retry_after} if retry_after is not None else None
        line = error_line(objects.status(status, message, reason=reason, details=details))
        count = self._server.tell_watches(Line(line))
        self._server.tell_watches(End("clean"))
        return count

    def bookmark_now(self) -> int:
        """Send a BOOKMARK into every open watch that asked for bookmarks; how many watches there are."""
        return self._server.tell_watches(Bookmark())

    # -- which user may do what

    def add_token(
        self,
        user: str = "system:serviceaccount:default:app",
        *,
        namespaces: Collection[str] | None = None,
        verbs: Collection[str] = READ,
        resources: Collection[str] = ("endpointslices",),
    ) -> str:
        """A token for another user; `namespaces` None is everywhere. See `cluster.kubeconfig_for(token)`."""
        return self._users.add(User(user, verbs=verbs, resources=resources, namespaces=namespaces))

    def revoke(self, token: str) -> None:
        """From now on requests with this token are answered 401; open watches go on."""
        self._users.remove(token)

    def rotate_token(self, *, keep_old: bool = False) -> str:
        """Write a new token into `cluster.kubeconfig` and `cluster.token_file`; the old one is revoked."""
        return self._rotate(keep_old)

    def forbid(self, verb: str | None = None, namespace: str | None = None) -> None:
        """Answer 403 to every user: for one verb or all, in one namespace or everywhere.

        Raises `ValueError` for a verb that Kubernetes does not have.
        """
        _check_verb("forbid", verb)
        self._faults.forbidden.add((verb, namespace))

    def allow(self) -> None:
        """Take every `forbid` back."""
        self._faults.forbidden.clear()

    # -- what was asked

    @property
    def requests(self) -> list[ApiRequest]:
        """Every request that has been answered, oldest first (the newest 100 000)."""
        return list(self._server.requests)

    def clear_requests(self) -> None:
        """Forget them."""
        self._server.requests.clear()

    def __repr__(self) -> str:
        state = "down" if not self._listener.listening else "up" if self._faults.flowing.is_set() else "frozen"
        return f"<Api {self._listener.host}:{self._listener.port} {state}, {self.watchers} watches>"


def _check_verb(method: str, verb: str | None) -> None:
    """A verb that no request has would make a test pass because there is no fault."""
    if verb is not None and verb not in VERBS:
        raise ValueError(f"api.{method}(verb={verb!r}): give one of {', '.join(VERBS)}")
