"""JSON verbs against an API server, for setting the scene; kubelb's own client is under test, so not used here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import urllib3

Json: TypeAlias = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """An answer other than 2xx. `body` is the Status object, which says why."""

    def __init__(self, method: str, path: str, status: int, body: Json) -> None:
        super().__init__(f"{method} {path}: {status} {body.get('reason', '')}: {body.get('message', body)}")
        self.status = status
        self.reason: str = body.get("reason", "")
        self.body = body


class Api:
    """One identity (a token, or nobody) at one API server."""

    def __init__(self, url: str, ca_file: Path, token: str | None = None, timeout: float = 10.0) -> None:
        self.url = url
        self.token = token
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        # No retries: a test wants to see the fault that it made.
        self._pool = urllib3.PoolManager(ca_certs=str(ca_file), retries=False, timeout=timeout, maxsize=8)

    def get(self, path: str, **query: object) -> Json:
        return self.request("GET", path, query=query)

    def create(self, path: str, body: Json, **query: object) -> Json:
        return self.request("POST", path, body, query=query)

    def patch(self, path: str, body: Json) -> Json:
        """A merge patch: lists are replaced whole, null removes."""
        return self.request("PATCH", path, body, content_type=MERGE_PATCH)

    def delete(self, path: str, **query: object) -> Json:
        return self.request("DELETE", path, query=query)

    def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: dict[str, object] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """Send one request and return the JSON of its answer, or raise ApiError."""
        headers = self._headers | ({"Content-Type": content_type} if body is not None else {})
        content = None if body is None else json.dumps(body).encode()
        response = self._pool.request(method, self._address(path, query), body=content, headers=headers)
        answer = _json(response.data)
        if not 200 <= response.status < 300:
            raise ApiError(method, path, response.status, answer)
        return answer

    def watch(self, path: str, **query: object) -> Iterator[Json]:
        """The events of a watch until the server ends it; give `timeoutSeconds`, which bounds it."""
        address = self._address(path, {"watch": 1, **query})
        response = self._pool.request("GET", address, headers=self._headers, preload_content=False)
        try:
            if response.status != 200:
                raise ApiError("WATCH", path, response.status, _json(response.data))
            unfinished = b""
            for chunk in response.stream():
                *lines, unfinished = (unfinished + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)
        finally:
            response.close()  # not back into the pool: a watch that was left early still has events on its way

    def ready(self) -> bool:
        """Whether /readyz says so; a server that cannot be reached is not ready."""
        try:
            response = self._pool.request("GET", self._address("/readyz", None), headers=self._headers, timeout=1.0)
        except urllib3.exceptions.HTTPError:
            return False
        return response.status == 200

    def close(self) -> None:
        self._pool.clear()

    def _address(self, path: str, query: dict[str, object] | None) -> str:
        return f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")


def _json(data: bytes) -> Json:
    """An answer's body; one that is no JSON (a proxy's page, a plain "ok") becomes its own message."""
    try:
        parsed = json.loads(data)
    except ValueError:
        return {"message": data.decode(errors="replace")}
    return parsed if isinstance(parsed, dict) else {"message": parsed}
