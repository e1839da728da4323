"""httpcore's pools, with connections of ours where HTTP/2 was negotiated.

Requests that come while a connection is being made wait for it, as httpcore has them do: it may be one for all of them.
But each waits for as long as its own pool timeout says, what ended the connecting is told to all that waited (one of
them connects again, where the first one's own time was over), and once an endpoint chose HTTP/1.1 they no longer wait.

What agents have put around the method of httpcore's own connections, to send their trace along, is called for ours.
"""

import threading
from typing import Any

from kubelb.adapters._httpx.http2 import threads
from kubelb.adapters._httpx.http2.endings import Judged, with_judgement
from kubelb.model import Sent, Verdict

__all__ = ["QUEUE", "Connecting", "around_it", "sync_pool"]

QUEUE = "_assign_requests_to_connections"
"""Since httpcore 1.0.3. Before it requests that wait are looked at when a response ends, and no sooner."""

LOCK = "_optional_thread_lock"


def around_it(kind: Any, method: str) -> Any:
    """Return what an agent has put around a method of httpcore's, or None; called as (wrapped, instance, args, kwargs).

    It is found where wrapt leaves it.
    """
    return getattr(getattr(kind, method), "_self_wrapper", None)


class Connecting:
    """What both kinds of pool share, as a base beside httpcore's HTTPConnection."""

    _connection: Any
    _connect_failed: bool
    _origin: Any

    def __init__(self, core: Any, pool: Any, origin: Any) -> None:
        super().__init__(  # type: ignore[call-arg]
            origin=origin,
            ssl_context=pool._ssl_context,  # noqa: SLF001
            keepalive_expiry=pool._keepalive_expiry,  # noqa: SLF001
            http1=pool._http1,  # noqa: SLF001
            http2=pool._http2,  # noqa: SLF001
            network_backend=pool._network_backend,  # noqa: SLF001
        )
        self._core = core
        self._pool = pool
        self._failure: Exception | None = None

    def is_available(self) -> bool:
        """Whether a request can be sent on it, or wait until it is connected."""
        if self._connection is None:
            return not self._connect_failed and not self._pool.only_http1 and self._may_be_http2()
        return bool(self._connection.is_available())

    def _may_be_http2(self) -> bool:
        return self._origin.scheme in {b"https", b"wss"} or not self._pool._http1  # noqa: SLF001

    def _chosen(self, stream: Any) -> bool:
        """Whether the new connection speaks HTTP/2."""
        ssl_object = stream.get_extra_info("ssl_object")
        if ssl_object is None:
            return not self._pool._http1  # noqa: SLF001
        http2 = ssl_object.selected_alpn_protocol() == "h2" or not self._pool._http1  # noqa: SLF001
        self._pool.only_http1 = not http2
        return http2

    def _failed(self, error: BaseException, timeouts: Any) -> None:
        """Remember how connecting ended, for those that wait for it: unless that is this request's own end."""
        self._connect_failed = True
        left = timeouts.left("pool")
        if isinstance(error, Exception) and (left is None or left > 0):
            self._failure = error

    def _again(self) -> Exception:
        """Return what those are told that waited while connecting failed: blamed already, and for nothing of theirs."""
        failure = self._failure
        if failure is None:
            refusal: Exception = self._core.ConnectionNotAvailable()
            return refusal
        judged = Judged(Verdict.NEUTRAL, Sent.NEVER, reason="connect error", fresh=True)
        return with_judgement(type(failure)(*failure.args), judged)


def sync_pool(core: Any) -> Any:
    """Return httpcore's ConnectionPool with connections of ours."""

    class Connection(Connecting, core.HTTPConnection):  # type: ignore[misc]
        def __init__(self, pool: Any, origin: Any) -> None:
            super().__init__(core, pool, origin)
            self._turn = threading.RLock()  # it knows whose it is

        def handle_request(self, request: Any) -> Any:
            around = around_it(core.HTTPConnection, "handle_request")
            return self._handle(request) if around is None else around(self._handle, self, (request,), {})

        def _handle(self, request: Any) -> Any:
            if self._connection is None:
                timeouts = request.extensions["timeout"]
                left = timeouts.left("pool")
                try:
                    if not self._turn.acquire(timeout=-1 if left is None else max(0.0, left)):
                        raise core.PoolTimeout("timed out waiting for a connection")
                    if self._connect_failed:
                        raise self._again()
                    if self._connection is None:
                        self._open(request, timeouts)
                finally:
                    # An interrupt may come as soon as the turn is taken, before anything here could note that.
                    try:  # noqa: SIM105  # whose call would be one more place for another interrupt
                        self._turn.release()
                    except RuntimeError:  # it was not taken
                        pass
            return self._connection.handle_request(request)

        def _open(self, request: Any, timeouts: Any) -> None:
            try:
                stream = self._connect(request)
            except BaseException as error:
                self._failed(error, timeouts)
                raise
            keepalive = self._keepalive_expiry
            if self._chosen(stream):
                self._connection = threads.Connection(core, self._origin, stream, keepalive, self._pool.assign)
            else:
                self._connection = core.HTTP11Connection(self._origin, stream, keepalive)

    class Pool(core.ConnectionPool):  # type: ignore[misc]
        only_http1 = False

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            if hasattr(self, LOCK):
                # httpcore's own takes it in Python, where an interrupt can come between the taking and the `with`; then
                # it is held for ever. One in C cannot be left so.
                setattr(self, LOCK, threading.Lock())

        def create_connection(self, origin: Any) -> Any:
            return Connection(self, origin)

        def assign(self) -> None:
            """There is room where there was none: look at the requests that wait."""
            if hasattr(self, QUEUE):
                with self._optional_thread_lock:
                    closing = self._assign_requests_to_connections()
                self._close_connections(closing)

    return Pool
