"""What the sync and the asyncio transport share: options, hosts, hints, judging; everything but the waiting."""

from collections import deque
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kubelb.adapters._httpx.checks import HINTS, Limits, check_hints, limiting
from kubelb.adapters._httpx.mounting import keys
from kubelb.adapters._httpx.plainly import Plainly
from kubelb.adapters._httpx.produced import Produced
from kubelb.adapters._httpx.timeouts import Timeouts, longest
from kubelb.adapters.balancers import Given, balancer_of, owned
from kubelb.adapters.defaults import KEEPALIVE
from kubelb.adapters.hosts import check_server_hostname, service_hosts
from kubelb.adapters.http import IDEMPOTENT_METHODS, balanced, carrying, for_pods, judge_status
from kubelb.adapters.patience import Patience
from kubelb.adapters.pools import Pools
from kubelb.adapters.sockets import SocketOption, check_options
from kubelb.adapters.tls import Cert, Verify, fresh_context
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.core.table import Difference
from kubelb.errors import DeadlineExceeded, WrongHost
from kubelb.model import CANCELLED, Outcome, Request
from kubelb.printable import name_shown
from kubelb.runtime.calls import annotate
from kubelb.runtime.driving import settle
from kubelb.runtime.fork import register
from kubelb.runtime.hinting import current
from kubelb.runtime.switch import switched_off

if TYPE_CHECKING:
    from kubelb.telemetry.calls import Call, Try

__all__ = ["Common"]

OPENED = Outcome(open=True)
"""Headers of an ordinary success; one value for every call, so it is never given a lease or a value."""

TLS = frozenset({"https", "wss"})


class Common(Plainly):
    """Base of both transports."""

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
        self._off = switched_off()
        self._plain: list[Any] = []
        """The client's own transport, for what goes past kubelb; made when it is first needed."""
        self.open: set[Any] = set()
        """Watches of the bodies that are not closed yet (see `body.py`)."""
        self.lost: deque[Any] = deque()
        """Watches of the bodies that were dropped before they were closed; the next request closes them."""
        self._clock = self.lb.balancer.clock
        self._key_source = self.lb.balancer.key_source
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
            raise ValueError(f"mounts({str(self.lb.target)!r}): a static list has no name; give hosts=['NAME']")
        names = sorted(host.decode() for host in self._hosts)
        both = beside(self)
        return {key: self if alone else both for key, alone in keys(httpx.URL, httpx.InvalidURL, names)}

    # Before the request

    def serves(self, request: Any) -> bool:
        """Whether a request is for one of the names of the service."""
        host = request.url.raw_host
        return self._hosts is None or host in self._hosts or host.rstrip(b".") in self._hosts

    def _check_host(self, request: Any) -> None:
        if not isinstance(request, self._own_request):
            raise self._mixed_up(request)
        host = request.url.raw_host
        if self._hosts is not None and host not in self._hosts and host.rstrip(b".") not in self._hosts:
            served = ", ".join(sorted(host.decode() for host in self._hosts))
            reason = (
                f"{request.url.host!r} is not a name of this service ({served}); "
                "mount the transport on its own name only, as in mounts={'http://SVC.NS': ...}, or name it in hosts="
            )
            raise self.kit.refusal(WrongHost(str(self.lb.target), reason), request)

    def _hints(self, request: Any) -> Mapping[str, Any] | None:
        hints: Mapping[str, Any] | None = request.extensions.get("kubelb")
        if hints is not None:
            check_hints(hints)
        if (hinted := current()) is not None:
            own = hints or {}
            counting = hinted.beside(own.get("key"), own.get("idempotent"), own.get("deadline"))
            hints = {name: value for name, value in zip(HINTS, counting, strict=True) if value is not None}
        if hints and (deadline := hints.get("deadline")) is not None and deadline <= 0:
            error = DeadlineExceeded(str(self.lb.target), f"deadline={deadline!r}: it was over before the call")
            raise self.kit.refusal(error, request)
        return hints

    def _wanted(self, request: Any, hints: Mapping[str, Any] | None) -> Request:
        """Return what the balancer needs to know of a request; nearly always a constant."""
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

    def _timeouts(self, request: Any, hints: Mapping[str, Any] | None, start: float) -> Timeouts:
        """The client's timeouts for one attempt of a call that began at `start`."""
        client = request.extensions.get("timeout") or {}
        bound = longest(client)
        end = None if bound is None else start + bound
        until = None
        if hints and (deadline := hints.get("deadline")) is not None:
            until = start + deadline
            end = until if end is None else min(end, until)
        return Timeouts(client, end, until, self._clock)

    def _seen(self, request: Any, kind: str, method: str) -> "Call":
        """Return what sees this request from its beginning to its headers."""
        url = request.url
        instrumented = method in vars(self) or self.kit.around(kind, method) is not None
        return self.lb.watch.http(request.method, url.scheme, url.host, url.port, url, instrumented=instrumented)

    def _core_request(self, request: Any, timeouts: Timeouts, attempt: "Try | None") -> Any:
        """Return httpcore's form of the request: our timeouts, its trace context, nothing that is a proxy's alone."""
        url = request.url
        host = url.raw_host
        extensions = {**request.extensions, "timeout": timeouts}
        if self._server_hostname is not None:
            extensions["sni_hostname"] = self._server_hostname
        elif host[-1:] == b".":
            extensions.setdefault("sni_hostname", host[:-1].decode())  # certificates know no trailing dot
        target = extensions.get("target", url.raw_path)
        stream = request.stream
        headers = for_pods(request.headers.raw)
        kit = self.kit
        return kit.Request(
            request.method.encode("ascii"),
            kit.httpcore.URL(scheme=url.raw_scheme, host=host, port=url.port, target=target),
            headers if attempt is None else carrying(headers, attempt.carrier()),
            stream if type(stream) is self._byte_stream else Produced(stream, timeouts),
            extensions,
        )

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

    @staticmethod
    def _judged(answer: Any, response: Any) -> Outcome:
        """Return what the headers say."""
        outcome = judge_status(answer.status, answer.headers) or Outcome(open=True)
        outcome.value = response
        return outcome

    def _failed(self, error: Exception, request: Any, timeouts: Timeouts, lease: Lease) -> Outcome:
        """Return the outcome of an attempt that raised, and settle it."""
        outcome = self.kit.outcome(error, timeouts)
        outcome.error = error if timeouts.producer_failed else self.kit.mapped(error, request)
        settle(lease, outcome)
        if lease.state.removed:
            self.left(lease)
        return outcome

    def _cancelled(self, lease: Lease) -> None:
        lease.release(CANCELLED)
        if lease.state.removed:
            self.left(lease)

    @staticmethod
    def _result(outcome: Outcome) -> Any:
        """Return the response, or raise the last try's own exception with notes on the others."""
        if outcome.error is not None:
            annotate(outcome)
            raise outcome.error
        return outcome.value
