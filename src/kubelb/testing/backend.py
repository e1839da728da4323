"""One pod of a test service: a real server on an address of its own, and the ways in which pods go wrong.

Two things are kept apart. What the *server* does (slow, fail, hang, reset, refuse ...) changes at once and no slice
knows of it, as in life. What the *pod* is (ready, serving, terminating, gone) is what slices say; `kill` and `drain`
change both, in the order and with the delays of Kubernetes.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from kubelb.testing import objects
from kubelb.testing.backend_faults import Delay, Trouble
from kubelb.testing.http1 import Received
from kubelb.testing.responder import Responder
from kubelb.testing.server import Server
from kubelb.testing.workload import Workload

if TYPE_CHECKING:
    import grpc

Respond: TypeAlias = "Callable[[Backend], Responder]"
"""Makes what answers on the connections of a backend."""
FINISHING = 1.0  # seconds that a drained backend gives to requests that outlive its grace period


class Backend:
    """A pod with its server: `svc[0]`. Methods may be called from any thread and return at once.

    `name` (the pod's), `host`, `port`, `node`, `zone` and `uid` (new with each restart) say which it is; `requests`,
    `by_path`, `connections`, `in_flight` and `log` (the last 1000 requests) say what it has seen. Of a gRPC backend a
    request is a call, counted when its handler is entered; its path is the full method, and `log` has `ReceivedCall`s.

    Faults combine (`slow` and `fail`, `slow` and `reset`) and stay until `heal()`, or for the next `times` requests.

        svc[0].slow(0.5)           # half a second before each answer
        svc[0].fail(503, times=2)  # two 503s, then well again
        svc[0].kill()              # gone, without a goodbye
        svc[0].heal()              # back, as a new pod on the same address
    """

    def __init__(
        self, workload: Workload, respond: Respond, name: str, *, host: str, port: int | None, node: str, zone: str
    ) -> None:
        self.name = name
        self.host = host
        self.node = node
        self.zone = zone
        self.uid = str(uuid4())
        self._workload = workload
        self._responder = respond(self)
        self._epoch = 0  # rises with each life, so that a timer of an earlier one does nothing
        self._ready = True
        self._terminating = False
        self._server: Server | None = None
        if workload.listens:
            self._server = Server(
                workload.machinery.doorman,
                host,
                port,
                self._responder.serve,
                name=f"kubelb-testing-{name}",
                tls=workload.tls,
            )
            self.port = self._server.port
            try:
                self._responder.start()
            except BaseException:
                self._server.shut()
                raise
        else:
            self.port = port or 8080

    # -- what it has seen

    @property
    def requests(self) -> int:
        """Requests read so far, whatever became of them."""
        return self._responder.requests

    @property
    def in_flight(self) -> int:
        """Requests that are being worked on now; one that hangs counts until its client gives up."""
        return self._responder.in_flight

    @property
    def by_path(self) -> dict[str, int]:
        """Requests by path, without queries, or calls by method; at most ten thousand paths."""
        return self._responder.paths.as_dict()

    @property
    def log(self) -> deque[Received]:
        """The last 1000 requests, newest at the right."""
        return self._responder.log

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._server.connections) if self._server else 0

    @property
    def address(self) -> str:
        """`host:port`, as in `httpx.get(f"http://{backend.address}/")`."""
        return f"{self.host}:{self.port}"

    @property
    def state(self) -> str:
        """What the slices say, in a word: "ready", "not ready", "terminating" or "gone"."""
        if not self._placed():
            return "gone"
        if self._terminating:
            return "terminating"
        return "ready" if self._ready else "not ready"

    @property
    def alive(self) -> bool:
        """Neither killed nor being deleted, nor gone."""
        return not (self._responder.dead or self._terminating) and self._placed()

    def clear(self) -> None:
        """Counters and log to zero. `in_flight` and `connections` are facts and stay."""
        self._responder.clear()

    # -- trouble that no slice knows of

    def slow(self, seconds: Delay) -> None:
        """Wait before each answer (gRPC: before the servicer): seconds, or a function that returns them each time."""
        self._responder.set_faults(delay=seconds)

    def fail(
        self,
        status: int | grpc.StatusCode | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
    ) -> None:
        """Answer with `status` and `headers` (such as Retry-After).

        A gRPC backend takes a `grpc.StatusCode`, and sends `headers` (such as grpc-retry-pushback-ms) as trailing
        metadata. The defaults are 503 and UNAVAILABLE. Raises `TypeError` for a status of the other protocol.
        """
        self._responder.set_faults(**self._responder.failure(status), headers=dict(headers or {}), times=times)

    def hang(self, *, times: int | None = None) -> None:
        """Read each request and never answer. A request that hangs goes on hanging after `heal()`."""
        self._responder.set_faults(trouble=Trouble.HANG, times=times)

    def reset(self, *, times: int | None = None) -> None:
        """Read each request, then reset the connection (RST), with whatever else is under way on it."""
        self._responder.set_faults(trouble=Trouble.RESET, times=times)

    def reset_after_headers(self, *, times: int | None = None) -> None:
        """Send the response headers (gRPC: initial metadata), and 20 ms later reset the connection."""
        self._responder.set_faults(trouble=Trouble.RESET_AFTER_HEADERS, times=times)

    def truncate(self, *, times: int | None = None) -> None:
        """Send the headers and the first half of the body, then close. Of a gRPC stream one message comes."""
        self._responder.set_faults(trouble=Trouble.TRUNCATE, times=times)

    def drip(self, size: int = 1, delay: float = 0.01, *, times: int | None = None) -> None:
        """Send the response body `size` bytes at a time, `delay` seconds before each piece.

        A gRPC backend sends `size` messages at a time.
        """
        self._responder.set_faults(trouble=Trouble.DRIP, drip_bytes=size, drip_delay=delay, times=times)

    def refuse(self) -> None:
        """Close the listening socket: connects are refused. The pod stays in its slice, open connections go on."""
        if self._server:
            self._server.unlisten()

    def close_idle(self) -> None:
        """Close the connections on which no request is under way."""
        if self._server:
            self._responder.settle()
            self._server.cut(idle_only=True)

    def close_connections(self, *, reset: bool = False) -> None:
        """Cut every open connection, cleanly or by a reset; new ones are accepted."""
        if self._server:
            self._server.cut(reset=reset)

    def goaway(self, *, grace: float = 30.0) -> None:
        """Of a gRPC backend: GOAWAY to every open connection, while the port stays open and the process goes on.

        As a proxy does that ages connections out. Calls under way have `grace` seconds, new ones come by new
        connections. Raises `TypeError` for an HTTP backend.
        """
        self._responder.go_away(grace)

    # -- what the pod is

    def not_ready(self) -> None:
        """The readiness probe fails: the slice says so at once; the server goes on."""
        self._become(ready=False)

    def ready(self) -> None:
        """The readiness probe succeeds again."""
        self._become(ready=True)

    def kill(self, *, reset: bool = True) -> None:
        """The process dies: connections are reset and the port closes now.

        The slice follows as it does behind a kubelet: not ready after `cluster.lag` seconds, absent after twice that.
        The backend stays in `svc`, so that its counters can be read; `heal()` brings it back as a new pod.
        With `reset=False` connections end with FIN, as the kernel does for a process that had read everything.
        """
        epoch = self._new_epoch()
        if self._server:
            self._server.unlisten()
        self._responder.die()
        if self._server:
            self._server.cut(reset=reset)
        self._responder.bury()
        machinery = self._workload.machinery
        lag, after = machinery.lag, machinery.timers.after
        after(lag, lambda: self._in_this_life(epoch, lambda: self._become(ready=False)))
        after(2 * lag, lambda: self._in_this_life(epoch, self._leave))

    def drain(self, *, grace: float = 0.5) -> None:
        """The pod is deleted: its slice says terminating and serving at once, and it goes on serving for `grace` s.

        Every answer of HTTP carries `Connection: close` meanwhile. At the end of `grace` the port closes, idle
        connections are closed, requests under way get one second more, and the pod leaves its slice. A gRPC backend
        does this as `grpc.Server.stop` does: it sends GOAWAY then. Returns at once.
        """
        epoch = self._new_epoch()
        self._responder.close_after = True
        self._become(terminating=True)
        self._workload.machinery.timers.after(grace, lambda: self._in_this_life(epoch, lambda: self._finish(epoch)))

    def heal(self) -> None:
        """All is well: faults are forgotten, the port is open, the pod is ready.

        One that was killed or drained returns on its address as a new pod, with a new uid.
        """
        reborn = self._responder.dead or self._terminating or not self._placed()
        self._new_epoch()
        if reborn:
            self.uid = str(uuid4())
        self._responder.heal()
        if self._server:
            self._server.listen()
        with self._workload.machinery.lock:
            self._ready, self._terminating = True, False
            self._workload.sync(add=[self], touch=[self])

    def restart(self) -> None:
        """Killed and back at once: connections reset, the same address, a new uid."""
        self._stop()
        self.heal()

    def __repr__(self) -> str:
        return f"<Backend {self.name} {self.address} {self.state}>"

    # -- for the slice and the service

    def endpoint(self) -> dict[str, Any]:
        """The endpoint that a slice holds for this pod, as a dict."""
        return objects.endpoint(
            address=self.host,
            pod=self.name,
            namespace=self._workload.spec.namespace,
            uid=self.uid,
            node=self.node,
            zone=self.zone,
            ready=self._workload.publish_not_ready or (self._ready and not self._terminating),
            serving=self._ready,
            terminating=self._terminating,
            hints=self._workload.hints,
        )

    def answers(self) -> bool:
        """Whether its port is open: what a readiness probe would find out."""
        if self._server is None:
            return True
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=1.0):
            return True
        return False

    def stop(self) -> None:
        """End the server for good; slices are not told. `join` waits for its threads."""
        self._new_epoch()
        self._responder.die()
        if self._server:
            self._server.shut()
        self._responder.bury(for_good=True)

    def join(self, until: float) -> None:
        """Wait for the threads of a stopped server, no longer than to `until` (`time.monotonic()`)."""
        if self._server:
            self._server.join(until)
        self._responder.join(until)

    def _stop(self) -> None:
        self._new_epoch()
        self._responder.die()
        if self._server:
            self._server.unlisten()
            self._server.cut(reset=True)
        self._responder.bury()

    def _finish(self, epoch: int) -> None:
        """The end of a grace period."""
        if self._server:
            self._server.unlisten()
            if not self._responder.say_goodbye(FINISHING):
                self._server.cut(idle_only=True)
        self._leave()
        self._workload.machinery.timers.after(FINISHING, lambda: self._in_this_life(epoch, self._stop))

    def _new_epoch(self) -> int:
        with self._workload.machinery.lock:
            self._epoch += 1
            return self._epoch

    def _in_this_life(self, epoch: int, action: Callable[[], None]) -> None:
        with self._workload.machinery.lock:
            current = self._epoch == epoch
        if current:
            action()

    def _become(self, *, ready: bool | None = None, terminating: bool | None = None) -> None:
        with self._workload.machinery.lock:
            if ready is not None:
                self._ready = ready
            if terminating is not None:
                self._terminating = terminating
            self._workload.sync(touch=[self])

    def _leave(self) -> None:
        self._workload.sync(remove=[self])

    def _placed(self) -> bool:
        return self in self._workload.slices
