"""One life of a gRPC pod: a process, as far as anybody can tell from outside.

It is a `grpc.Server` of its own on a hidden port, with servicers of its own, the tunnels that lead to it, and the calls
that are under way. A call is known to come through a tunnel by the port of the tunnel's socket, which is its peer.
When the life ends it stays dead: what its threads still do is counted nowhere and heard by nobody.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import grpc

from kubelb.testing._grpc.call import Call
from kubelb.testing._grpc.registry import Registry, Setup
from kubelb.testing._grpc.tunnel import Tunnel
from kubelb.testing.connection import Connection
from kubelb.testing.responder import Responder
from kubelb.testing.threads import Threads

HOST = "127.0.0.1"


class Life:
    """Serves from the constructor on. Raises what `setup` raises."""

    def __init__(
        self,
        responder: Responder,
        setup: Setup,
        credentials: grpc.ServerCredentials | None,
        threads: Threads,
    ) -> None:
        self.responder = responder
        self.dead = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._working: set[Call] = set()  # calls whose handlers have not done with them
        self._open: set[Call] = set()  # these, and those whose status is still to be sent
        self._tunnels: dict[int, Tunnel] = {}
        self._credentials = credentials
        self._threads = threads
        self._stopped: threading.Event | None = None
        self._left: dict[grpc.Server, threading.Event] = {}  # said GOAWAY, with what is still under way there
        server = self._new_server()
        self._registry = Registry(server)
        setup(self._registry)
        self._listen(server)

    def _new_server(self) -> grpc.Server:
        return grpc.server(
            cast("Any", self._threads),  # declared as a ThreadPoolExecutor; only `submit` is called
            interceptors=[_Interceptor(self)],
            options=[("grpc.so_reuseport", 0)],
        )

    def _listen(self, server: grpc.Server) -> None:
        """From now on tunnels lead to this one."""
        if self._credentials is None:
            port = server.add_insecure_port(f"{HOST}:0")
        else:
            port = server.add_secure_port(f"{HOST}:0", self._credentials)
        server.start()
        self._server, self._address = server, (HOST, port)

    @property
    def ending(self) -> bool:
        """Dead, or about to be: no new call reaches it."""
        return self.dead or self._stopped is not None

    @property
    def ended(self) -> bool:
        """Its server has stopped."""
        return self._stopped is not None and self._stopped.is_set()

    def serve(self, connection: Connection) -> None:
        """Lead one connection to the server, until either side ends."""
        tunnel = Tunnel(connection, self._address)
        with self._lock:
            self._tunnels[tunnel.port] = tunnel
        try:
            tunnel.run()
        finally:
            with self._lock:  # before its port can be that of another one
                del self._tunnels[tunnel.port]
            tunnel.close()

    def tunnel(self, peer: str) -> Tunnel | None:
        """The one that a call comes through, by its peer: "ipv4:127.0.0.1:PORT"."""
        with self._lock:
            return self._tunnels.get(int(peer.rpartition(":")[2]))

    # -- its calls

    def enter(self, call: Call) -> bool:
        """Count a call whose handler is entered; False when it has come too late."""
        with self._lock:
            if self.dead:
                return False
            self._working.add(call)
            self._open.add(call)
            if call.tunnel is not None:
                call.tunnel.count(+1)
            self.responder.begin(call.received)
            return True

    def finish(self, call: Call) -> None:
        """A call is not being worked on any more; harmless when repeated."""
        with self._lock:
            self._finish(call)

    def leave(self, call: Call) -> None:
        """A call is over, for its client, too."""
        with self._lock:
            self._finish(call)
            if call in self._open:
                self._open.remove(call)
                if call.tunnel is not None:
                    call.tunnel.count(-1)
            self._changed.notify_all()

    def settle(self, wait: float = 0.1) -> None:
        """Return when answers that are on their way have gone out, or after `wait` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._open) == len(self._working), wait)
            tunnels = list(self._tunnels.values())
        for tunnel in tunnels:
            tunnel.flush()

    def ring(self) -> None:
        """Wake the calls that sleep in a fault."""
        with self._lock:
            calls = list(self._working)
        for call in calls:
            call.ring()

    # -- its end

    def die(self) -> None:
        """Take no call any more; those under way are nobody's. Their connections are cut by the caller."""
        with self._lock:
            self.dead = True
            calls = list(self._working)
            for call in calls:
                self._finish(call)
        for call in calls:
            call.ring()

    def go_away(self, grace: float) -> None:
        """GOAWAY to all there are; new connections find the same servicers. `grace` as for `stop`."""
        left, server = self._server, self._new_server()
        self._registry.repeat(server)
        self._listen(server)
        self._left = {server: gone for server, gone in self._left.items() if not gone.is_set()}
        self._left[left] = left.stop(grace)

    def stop(self, grace: float) -> None:
        """As on SIGTERM: GOAWAY to all, no new connection; after `grace` seconds calls under way are cancelled."""
        self._stopped = self._server.stop(grace)
        for server in self._left:
            server.stop(grace)  # of two graces the shorter one holds

    def join(self, until: float) -> None:
        """Wait until the server has stopped, no longer than to `until` (`time.monotonic()`)."""
        if self._stopped is not None:
            for gone in (self._stopped, *self._left.values()):
                gone.wait(max(0.0, until - time.monotonic()))

    def _finish(self, call: Call) -> None:
        if call in self._working:
            self._working.remove(call)
            self.responder.finished()


class _Interceptor(grpc.ServerInterceptor):
    """Puts a `Call` between gRPC and the servicer, for methods that nobody serves, too: they are calls as well."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details) or _UNKNOWN
        call = Call(self._life, handler_call_details.method, handler_call_details.invocation_metadata)
        make, name = _KINDS[handler.request_streaming, handler.response_streaming]
        behavior = getattr(handler, name)
        if inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior):
            behavior = _asynchronous
        answer = call.answer_stream if handler.response_streaming else call.answer
        return make(
            partial(answer, behavior),
            request_deserializer=call.reader(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _unknown(_: Any, context: grpc.ServicerContext) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def _asynchronous(_: Any, context: grpc.ServicerContext) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "LocalCluster runs a grpc.Server: write this servicer without `async`")


_UNKNOWN: Any = grpc.stream_stream_rpc_method_handler(_unknown)
_KINDS: dict[tuple[bool, bool], tuple[Callable[..., Any], str]] = {
    (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}
