"""What the sync and the asyncio transport share: options, hosts, hints, judging; everything but the waiting."""

from collections import deque
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any

from kubelb.adapters._httpx.checks import HINTS, Limits, check_hints, limiting
from kubelb.adapters._httpx.mounting import keys
from kubelb.adapters._httpx.plainly import Plainly
from kubelb.adapters._httpx.produced import Produced
from kubelb.adapters._httpx.timeouts import Timeouts
from kubelb.adapters._httpx.view import View
from kubelb.adapters.balancers import Given, balancer_of, looks_into_requests, owned
from kubelb.adapters.defaults import KEEPALIVE
from kubelb.adapters.hosts import check_server_hostname, service_hosts
from kubelb.adapters.http import IDEMPOTENT_METHODS, balanced, carrying, for_pods
from kubelb.adapters.patience import Patience
from kubelb.adapters.pools import Pools
from kubelb.adapters.sockets import SocketOption, check_options
from kubelb.adapters.tls import Cert, Verify, fresh_context
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.core.table import Difference
from kubelb.errors import LoadBalancerError, WrongHost
from kubelb.model import IDEMPOTENT, Outcome, Request
from kubelb.printable import name_shown
from kubelb.runtime.door import Exchange
from kubelb.runtime.fork import register
from kubelb.runtime.hinting import current
from kubelb.runtime.switch import switch
from kubelb.telemetry.conventions import http_answer, raised

if TYPE_CHECKING:
    from kubelb.telemetry.calls import Call

__all__ = ["Common", "HttpxCall"]

TLS = frozenset({b"https", b"wss"})
SCHEMES = frozenset({b"http", b"ws", *TLS})
"""What httpcore speaks."""
MOST = 64
"""Origins that are kept; a static list without `hosts` serves any name."""


class HttpxCall(Exchange):
    """One request of the client's."""

    __slots__ = ("client", "host", "request")

    def __init__(self, request: Any) -> None:
        self.request = request
        self.seen = None
        self.client: Mapping[str, float | None]
        """The client's timeouts."""
        self.host: bytes
        """That of the URL."""


class Common(Plainly):
    """Base of both transports, each of which is the bridge (`kubelb.runtime.door`) of its calls."""

    _method = ""
    """What the client calls."""

    def __init__(
        self,
        lb_or_target: Given,
        *,
        hosts: Iterable[str] | None = None,
        server_hostname: str | None = None,
        verify: Verify = True,
        cert: Cert = None,
        http1: bool = True,
        http2: bool = False,
        limits: Limits | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> None:
        if not (http1 or http2):
            raise ValueError("http1=False, http2=False: at least one protocol is needed")
        if http2 and find_spec("h2") is None:
            raise ImportError(f"http2=True needs h2: pip install '{self.kit.httpx.__name__}[http2]'")
        self._owns = owned(lb_or_target)
        self.lb = balancer_of(lb_or_target)
        self._hosts = service_hosts(self.lb.target, self.lb.cluster_domain, hosts, self.lb.own_namespace)
        self._server_hostname = check_server_hostname(server_hostname)
        self._tls = fresh_context(
            verify, cert, self.kit.httpx.create_ssl_context, service=str(self.lb.target), emit=self.lb.tell
        )
        self._http2 = http2
        self._protocols = ["h2"] * http2 + ["http/1.1"] * http1
        if limits is None:
            limits = self.kit.httpx.Limits(keepalive_expiry=KEEPALIVE)
        self._pool_options = {**limiting(limits), "http1": http1, "http2": http2}
        self._socket_options = check_options(socket_options)
        self._pools = Pools(self._make_pool)
        self._patience = Patience(self.lb)
        self._byte_stream = self.kit.httpx.ByteStream
        self._own_request = self.kit.httpx.Request
        self._origins: dict[tuple[bytes, bytes, int | None], Any] = {}
        """httpcore's form of where requests go, by scheme, host and port."""
        self._off = switch()
        self._plain: list[Any] = []
        """The client's own transport, for what goes past kubelb; made when it is first needed."""
        self.open: set[Any] = set()
        """Watches of the bodies that are not closed yet (see `body.py`)."""
        self.lost: deque[Any] = deque()
        """Watches of the bodies that were dropped before they were closed; the next request closes them."""
        self._clock = self.lb.balancer.clock
        self._key_source = self.lb.balancer.key_source
        self._views = looks_into_requests(self.lb)
        self._unread = self._key_source is None and not self._views
        """Whether the policy asks for nothing that is in a request."""
        self.lb.on_change(self._on_change)
        register(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.lb.target} endpoints={len(self._pools)}>"

    def _make_pool(self, state: EndpointState, tls: bool) -> Any:
        raise NotImplementedError

    def _on_change(self, difference: Difference) -> None:
        raise NotImplementedError

    def left(self, lease: Lease) -> None:
        """A request ended on an endpoint that is gone: it may have been the last there."""
        raise NotImplementedError

    def _absolve(self) -> None:
        """End what is being read for its endpoints: that its connection is closed now is no fault of theirs."""
        for watch in tuple(self.open):
            body = watch()
            if body is not None:
                body.absolve()

    def after_fork_in_child(self) -> None:
        """The parent's connections are not ours to use, nor to close."""
        self._pools.abandon()
        self._plain = []
        self._patience = Patience(self.lb)
        self.open = set()
        self.lost = deque()

    def _ssl_context(self) -> Any:
        """Return the context for a new connection, with the protocols of this transport, the best one first."""
        context = self._tls.get()
        context.set_alpn_protocols(self._protocols)
        return context

    # Mounts

    def mounted(self, beside: Any) -> dict[str, Any]:
        """Return this transport under every key of `mounting.keys`; see `kubelb.adapters.httpx.mounts`.

        `beside` is the class that joins it with a plain one, for a key that other hosts match.
        """
        httpx = self.kit.httpx
        if self._hosts is None:
            raise ValueError(
                f"mounts({str(self.lb.target)!r}): it has no name in the cluster's DNS; give hosts=['NAME']"
            )
        names = sorted(host.decode() for host in self._hosts)
        both = beside(self)
        return {key: self if alone else both for key, alone in keys(httpx.URL, httpx.InvalidURL, names)}

    # Before the request

    def serves(self, request: Any) -> bool:
        """Whether a request is for one of the names of the service."""
        host = request.url.raw_host
        return self._hosts is None or host in self._hosts or host.rstrip(b".") in self._hosts

    def prepare(self, call: HttpxCall) -> None:
        """Read what the request says; the door asks for it."""
        request = call.request
        if not isinstance(request, self._own_request):
            raise self._mixed_up(request)
        call.host = host = request.url.raw_host
        if self._hosts is not None and host not in self._hosts and host.rstrip(b".") not in self._hosts:
            raise self._wrong_host(request)
        extensions = request.extensions
        call.client = client = extensions.get("timeout") or {}
        parts = client.values()
        limit = None if not parts or None in parts else max(parts)  # what bounds all tries; none if a part has no limit
        deadline = hints = None
        if "kubelb" in extensions or current() is not None:
            hints = self._hints(extensions.get("kubelb"))
            if (deadline := hints.get("deadline")) is not None and deadline >= TIMEOUT_MAX:
                deadline = None  # for ever, which no socket takes for a number
            if deadline is not None:
                limit = deadline if limit is None else min(deadline, limit)
        call.limit, call.deadline = limit, deadline
        if (
            hints is None
            and self._unread
            and type(request.stream) is self._byte_stream
            and request.method in IDEMPOTENT_METHODS
        ):
            call.wanted = IDEMPOTENT  # nearly always
        else:
            call.wanted = self._wanted(request, hints)

    def _wrong_host(self, request: Any) -> Exception:
        served = ", ".join(sorted(host.decode() for host in self._hosts or ()))
        reason = (
            f"{request.url.host!r} is not a name of this service ({served}); "
            "mount the transport on its own name only, as in mounts={'http://SVC.NS': ...}, or name it in hosts="
        )
        return self.kit.refusal(WrongHost(str(self.lb.target), reason), request)

    @staticmethod
    def _hints(hints: Any) -> Mapping[str, Any]:
        """Return the hints that count for a request that has these in its extensions."""
        if hints is not None:
            check_hints(hints)
        own: Mapping[str, Any] = hints or {}
        if (hinted := current()) is None:
            return own
        counting = hinted.beside(own.get("key"), own.get("idempotent"), own.get("deadline"))
        return {name: value for name, value in zip(HINTS, counting, strict=True) if value is not None}

    def _wanted(self, request: Any, hints: Mapping[str, Any] | None) -> Request:
        """Return what the balancer needs to know of a request."""
        stream = request.stream
        replayable = isinstance(stream, self._byte_stream) or self._rewinds(stream)
        idempotent = request.method in IDEMPOTENT_METHODS or "idempotency-key" in request.headers
        key = None
        if hints:
            said = hints.get("idempotent")
            idempotent = idempotent if said is None else said
            key = hints.get("key")
        if key is None and self._key_source is not None:
            key = self._key_source.read(request.headers.get, lambda: request.url.raw_path)
        if self._views:
            return View(request, self._byte_stream, key=key, idempotent=idempotent, replayable=replayable)
        if key is None:
            return balanced(idempotent, replayable)
        return Request(key=key, idempotent=idempotent, replayable=replayable)

    @staticmethod
    def _rewinds(stream: Any) -> bool:
        """Whether a multipart body can be rendered twice: all its files are bytes, or can seek."""
        fields = getattr(stream, "fields", None)
        if fields is None:
            return False
        files = [getattr(field, "file", b"") for field in fields]
        return all(isinstance(file, bytes | str) or getattr(file, "seekable", bool)() for file in files)

    def _timeouts(self, call: HttpxCall, number: int) -> Timeouts:
        """The client's timeouts for one attempt."""
        start, limit, deadline = call.start, call.limit, call.deadline
        ends = None if limit is None else start + limit
        return Timeouts(call.client, ends, None if deadline is None else start + deadline, self._clock, number)

    def _core_request(self, call: HttpxCall, timeouts: Timeouts, carrier: Mapping[str, str] | None) -> Any:
        """Return httpcore's form of the request: our timeouts, its trace context, nothing that is a proxy's alone."""
        request, host = call.request, call.host
        url = request.url
        extensions = {**request.extensions, "timeout": timeouts}
        if self._server_hostname is not None:
            extensions["sni_hostname"] = self._server_hostname
        elif host[-1:] == b".":
            extensions.setdefault("sni_hostname", host[:-1].decode())  # certificates know no trailing dot
        target, scheme, port = extensions.get("target"), url.raw_scheme, url.port
        origin = self._origins.get((scheme, host, port)) if target is None else None
        if origin is None:
            core = self._core_url(scheme, host, port, url.raw_path if target is None else target)
        else:
            core = self.kit.URL(scheme, host, port, url.raw_path, origin)
        stream = request.stream
        headers = for_pods(request.headers.raw)
        return self.kit.Request(
            request.method.encode("ascii"),
            core,
            headers if carrier is None else carrying(headers, carrier),
            stream if type(stream) is self._byte_stream else Produced(stream, timeouts),
            extensions,
        )

    def _core_url(self, scheme: bytes, host: bytes, port: int | None, target: Any) -> Any:
        """Return httpcore's own form of a URL, and keep its origin. `target` may be the caller's, from extensions."""
        core = self.kit.httpcore.URL(scheme=scheme, host=host, port=port, target=target)
        if scheme in SCHEMES:
            if len(self._origins) >= MOST:
                self._origins = {}
            self._origins[scheme, host, port] = core.origin
        return core

    # After it

    def _response(self, answer: Any, body: Any, request: Any, lease: Lease, number: int) -> Any:
        extensions = answer.extensions
        endpoint = lease.state.endpoint
        extensions["kubelb"] = {
            "endpoint": endpoint.authority,
            "pod": name_shown(endpoint.pod),
            "attempts": number,
        }
        return self.kit.httpx.Response(
            answer.status, headers=answer.headers, stream=body, request=request, extensions=extensions
        )

    def _failed(self, error: Exception, call: HttpxCall, timeouts: Timeouts) -> Outcome:
        """Return the outcome of an attempt that raised."""
        outcome = self.kit.outcome(error, timeouts)
        outcome.error = error if timeouts.producer_failed else self.kit.mapped(error, call.request)
        return outcome

    def refused(self, error: LoadBalancerError, call: HttpxCall) -> Exception:
        """Return kubelb's refusal as an exception of the client's, too; the door asks for it."""
        return self.kit.refusal(error, call.request)

    # For telemetry

    def seen(self, call: HttpxCall) -> "Call":
        """Return what sees this request from its beginning to its headers; the door asks for it."""
        request = call.request
        url = request.url
        instrumented = self._method in vars(self) or self.kit.around(self._plain_kind, self._method) is not None
        return self.lb.watch.http(request.method, url.scheme, url.host, url.port, url, instrumented=instrumented)

    def told(self, outcome: Outcome, value: Any) -> Mapping[str, Any]:
        """Return a status, or the kind of exception: of an attempt httpcore's own, which is below httpx's."""
        if outcome.error is None:
            return http_answer(value.status_code)
        return raised(self.kit.unmapped(outcome.error))
