"""What each user may do at the test API: bearer tokens, and a small part of RBAC (verbs on resources in namespaces)."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection
from dataclasses import dataclass

READ = ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class User:
    """A subject and its permissions; None for `namespaces` is a ClusterRole: everywhere, cluster-wide lists too."""

    name: str
    verbs: Collection[str] = READ
    resources: Collection[str] = ("endpointslices",)
    namespaces: Collection[str] | None = None

    def may(self, verb: str, resource: str, namespace: str | None) -> bool:
        """Whether RBAC would allow it; `namespace` None asks for the cluster scope."""
        return (
            verb in self.verbs
            and resource in self.resources
            and (self.namespaces is None or (namespace is not None and namespace in self.namespaces))
        )


ANONYMOUS = User("system:anonymous", verbs=())


class Users:
    """Tokens and their users. The text of a token is never part of a repr or a record."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, User] = {}

    def add(self, user: User) -> str:
        """A new token for `user`."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._users[token] = user
        return token

    def remove(self, token: str) -> None:
        """From now on the token is unknown: 401."""
        with self._lock:
            self._users.pop(token, None)

    def user_of(self, authorization: str | None) -> User | None:
        """The user of an Authorization header: anonymous without one, None where the token is unknown."""
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        return self._users.get(token)

    def __repr__(self) -> str:
        return f"<Users: {len(self._users)} tokens>"
