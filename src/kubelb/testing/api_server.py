"""The API of a test cluster on the wire: lists and watches of EndpointSlices, as a real API server answers them.

Per request: record it, let faults have their say, find out which user it is and what that may do, then answer. What
versions mean is in `reads`, what options mean in `options`, refusals in `refusals`, open watches in `watch`.
"""

from __future__ import annotations

import gzip
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kubelb.testing import objects, refusals
from kubelb.testing.connection import Connection, noticing_end
from kubelb.testing.doorman import Doorman
from kubelb.testing.faults import ApiRequest, Faults
from kubelb.testing.http1 import BadRequest, Received, chunk, head, read_request
from kubelb.testing.options import Route, route_of, verb_of
from kubelb.testing.reads import open_watch, read_list
from kubelb.testing.store import Store
from kubelb.testing.users import User, Users
from kubelb.testing.watch import End, Item, Watch

GZIP_FROM = 128 * 1024  # as the real one: smaller answers are not worth the CPU
JSON = {"content-type": "application/json"}
VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.2+kubelb.testing",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "test/loopback",
}
FindService = Callable[[str, str], "objects.Object | None"]


class ApiServer:
    """Serves connections with `serve`. `watches` are the open ones; `changed` is notified when they come and go."""

    def __init__(
        self,
        store: Store,
        users: Users,
        faults: Faults,
        doorman: Doorman,
        *,
        bookmark_interval: float,
        find_service: FindService,
    ) -> None:
        self.requests: deque[ApiRequest] = deque(maxlen=100_000)
        self.changed = threading.Condition()
        self.watches: set[Watch] = set()
        self._store = store
        self._users = users
        self._faults = faults
        self._doorman = doorman
        self._bookmark_interval = bookmark_interval
        self._find_service = find_service

    def serve(self, connection: Connection) -> None:
        """One connection, request by request."""
        while True:
            try:
                request = read_request(connection)
            except BadRequest as error:
                body = msgspec.json.encode(objects.status(error.status, str(error)))
                self._answer(connection, error.status, body, {**JSON, "connection": "close"})
                return
            if request is None or connection.cut_off:
                return
            if not self._handle(connection, request) or not request.keep_alive:
                return
            connection.busy = False

    def admit(self, connection: Connection) -> None:
        """Where a frozen server stands still, before the TLS handshake and before each write."""
        while not self._faults.flowing.wait(0.02):
            if connection.cut_off or self._faults.stopping.is_set():
                raise ConnectionAbortedError

    def tell_watches(self, item: Item) -> int:
        """Give a command to every open watch; how many there were."""
        with self.changed:
            watches = list(self.watches)
        for watch in watches:
            watch.put(item)
        return len(watches)

    def _handle(self, connection: Connection, request: Received) -> bool:
        """Answer; False when the connection cannot be used again."""
        user = self._users.user_of(request.headers.get("authorization"))
        route = route_of(request.path)
        record = _record(request, route, user)
        self.requests.append(record)
        if self._faults.delay and self._faults.stopping.wait(self._faults.delay):
            return False
        self.admit(connection)
        if (failure := self._faults.failure_for(record.verb)) is not None:
            record.status = failure.status
            self._answer(connection, failure.status, failure.body, failure.headers)
            return True
        try:
            if user is None:
                raise refusals.unauthorized()
            return self._allowed(connection, request, route, user, record)
        except refusals.Refused as refused:
            self._reply(connection, record, refused.body, status=refused.body["code"], headers=refused.headers)
            return True

    def _allowed(
        self, connection: Connection, request: Received, route: Route | None, user: User, record: ApiRequest
    ) -> bool:
        path = request.path.rstrip("/")  # some clients ask for /version/
        if path in ("/readyz", "/livez", "/healthz"):
            record.status = 200
            self._answer(connection, 200, b"ok", {"content-type": "text/plain; charset=utf-8"})
            return True
        if path == "/version":
            return self._reply(connection, record, VERSION)
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" and request.method == "POST":
            return self._reply(connection, record, self._review(user, request.body), status=201)
        if route is None:
            raise refusals.no_such_resource()
        self._authorize(user, record.verb, route)
        if request.method != "GET":
            raise refusals.no_such_method()
        if route.name is not None:
            return self._reply(connection, record, self._get(route, route.name))
        if record.verb == "watch":
            return self._watch(connection, route, record)
        return self._list(connection, request, route, record)

    def _authorize(self, user: User, verb: str, route: Route) -> None:
        may = user.may(verb, route.resource, route.namespace)
        if not may or self._faults.forbids(verb, route.namespace):
            raise refusals.forbidden(user.name, verb, route.resource, route.group, route.namespace, route.name)

    def _review(self, user: User, body: bytes) -> objects.Object:
        try:
            review = msgspec.json.decode(body)
            asked = review["spec"]["resourceAttributes"]
            namespace, verb, resource = asked.get("namespace") or None, asked.get("verb", ""), asked.get("resource", "")
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
            raise refusals.bad_request(f"the review cannot be read: {error}") from None
        allowed = user.may(verb, resource, namespace) and not self._faults.forbids(verb, namespace)
        status: dict[str, Any] = {"allowed": allowed}
        if allowed:
            kind = "ClusterRole" if user.namespaces is None else "Role"
            status["reason"] = f'RBAC: allowed by {kind}Binding "kubelb" of {kind} "kubelb" to User "{user.name}"'
        return {**review, "metadata": {}, "status": status}

    def _get(self, route: Route, name: str) -> objects.Object:
        namespace = route.namespace or ""
        if route.resource == "services":
            found = self._find_service(namespace, name)
        else:
            stored = self._store.get(namespace, name)
            found = None if stored is None else msgspec.json.decode(objects.SLICE_HEAD + stored.raw[1:])
        if found is None:
            raise refusals.no_such_object(route.resource, route.group, name)
        return found

    def _list(self, connection: Connection, request: Received, route: Route, record: ApiRequest) -> bool:
        body = read_list(self._store, route, request.query)
        headers = dict(JSON)
        if len(body) > GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 1)
            headers |= {"content-encoding": "gzip", "vary": "Accept-Encoding"}
        record.status = 200
        self._answer(connection, 200, body, headers)
        return True

    def _watch(self, connection: Connection, route: Route, record: ApiRequest) -> bool:
        watch, ticket = open_watch(
            self._store,
            route,
            record.query,
            watch_list=self._faults.watch_list,
            bookmark_interval=self._bookmark_interval,
        )
        record.status = 200
        with self.changed:
            self.watches.add(watch)
            self.changed.notify_all()
        try:
            with noticing_end(self._doorman, connection, lambda: watch.put(End("abrupt"))):
                how = watch.run(
                    lambda data: self._send(connection, data),
                    lambda: self._store.version,
                    head=head(200, [*JSON.items(), ("transfer-encoding", "chunked")]),
                    hold=self._faults.header_delay,
                )
        finally:
            self._store.unsubscribe(ticket)
            with self.changed:
                self.watches.discard(watch)
                self.changed.notify_all()
        # Only now, so that a client that has seen the end does not find its watch among the open ones.
        if how == "clean":
            self._send(connection, chunk(b""))
        elif how == "reset":
            connection.reset()
        return how == "clean"

    def _reply(
        self,
        connection: Connection,
        record: ApiRequest,
        body: objects.Object,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        record.status = status
        self._answer(connection, status, msgspec.json.encode(body) + b"\n", {**JSON, **(headers or {})})
        return True

    def _answer(self, connection: Connection, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._send(connection, head(status, [*headers.items(), ("content-length", str(len(body)))]) + body)

    def _send(self, connection: Connection, data: bytes) -> None:
        self.admit(connection)
        connection.split = self._faults.split
        connection.send(data)


def _record(request: Received, route: Route | None, user: User | None) -> ApiRequest:
    headers = dict(request.headers)
    if "authorization" in headers:
        headers["authorization"] = f"{headers['authorization'].partition(' ')[0]} [redacted]"
    query = request.query
    return ApiRequest(
        verb=verb_of(request.method, route, query),
        method=request.method,
        path=request.path,
        query=query,
        at=request.at,
        status=0,
        user=user.name if user is not None else None,
        headers=headers,
        namespace=route.namespace if route is not None else None,
        resource=route.resource if route is not None else None,
    )
