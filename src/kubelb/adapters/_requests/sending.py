"""How one attempt of requests' is made; all else is the door's (`kubelb.runtime.door`), whose bridge the adapter is.

urllib3 carries each attempt: one pool an endpoint, told to repeat nothing and to follow nothing. HTTPAdapter gives what
lies around it: the request line and the Response, built from the caller's own request, so that `url`, `cookies` and
`history` speak of the service. Its pools are for what goes past kubelb (`plainly.py`), its proxies for nothing.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import requests
from urllib3.util import Retry

from kubelb.adapters._requests.answered import tell
from kubelb.adapters._requests.bounds import Limits, current
from kubelb.adapters._requests.connections import plain_pool
from kubelb.adapters._requests.meaning import outcome_of
from kubelb.adapters._requests.place import Place, place_of
from kubelb.adapters._requests.plainly import Plainly
from kubelb.adapters._requests.prepared import Call
from kubelb.adapters._requests.tls import Contexts, Secured, TlsPools
from kubelb.adapters.balancers import Given, balancer_of, looks_into_requests, owned
from kubelb.adapters.hosts import check_server_hostname, service_hosts
from kubelb.adapters.http import judge_status
from kubelb.adapters.patience import Patience
from kubelb.adapters.pools import Pools
from kubelb.adapters.refusals import Refusals
from kubelb.adapters.sockets import SocketOption
from kubelb.adapters.tls import Cert, Verify
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.core.table import Difference
from kubelb.errors import LoadBalancerError, WrongHost
from kubelb.model import SUCCESS, Outcome
from kubelb.runtime.door import OPENED
from kubelb.runtime.fork import register, settled
from kubelb.runtime.switch import switch
from kubelb.runtime.sync import run
from kubelb.telemetry.conventions import http_answer, raised

if TYPE_CHECKING:
    from kubelb.telemetry import calls as telemetry

__all__ = ["Sending"]

ONCE = Retry(0, read=False)
"""urllib3 would repeat on the same address; another try is another pick."""

refusal = Refusals(requests.ConnectionError, requests.Timeout, request=None, response=None).of


class Sending(Plainly):
    """Everything of `kubelb.adapters.requests.Adapter` but what a user reads."""

    def __init__(
        self,
        lb_or_target: Given,
        *,
        hosts: Iterable[str] | None = None,
        server_hostname: str | None = None,
        verify: Verify = True,
        cert: Cert = None,
        pool_maxsize: int = 10,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> None:
        size: object = pool_maxsize
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"pool_maxsize={pool_maxsize!r}: give 1 or more")
        super().__init__(pool_maxsize, socket_options)
        self._owns = owned(lb_or_target)
        self.lb = balancer_of(lb_or_target)
        self._contexts = Contexts(verify, cert, service=str(self.lb.target), emit=self.lb.tell)
        served = service_hosts(self.lb.target, self.lb.cluster_domain, hosts, self.lb.own_namespace)
        self.hosts: frozenset[str] | None = None if served is None else frozenset(name.decode() for name in served)
        """The names that it serves; None for any."""
        self._server_hostname = check_server_hostname(server_hostname)
        self._pools = Pools(self._make_pool)
        self._patience = Patience(self.lb)
        self._clock = self.lb.balancer.clock
        self._key_source = self.lb.balancer.key_source
        self._views = looks_into_requests(self.lb)
        self._off = switch()
        self.lost: deque[EndpointState] = deque()
        """Endpoints that went away and whose last response may have been dropped (see `held.py`)."""
        self.lb.on_change(self._on_change)
        register(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.lb.target} endpoints={len(self._pools)}>"

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send one request (one hop: redirects come as requests of their own) to an endpoint of its own.

        `proxies` are for the world outside: a pod is always dialled directly.
        """
        if self._off() is not None:
            return self._plainly(request, stream, timeout, verify, cert)
        if self.lost:
            self._close_lost()
        self.add_headers(request, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies)
        place = place_of(request)
        if self.hosts is not None and place.name not in self.hosts:
            raise self._wrong_host(request, place)
        secured = None
        if place.tls:
            secured = Secured(self._server_hostname or place.name, self._context(request, verify, cert))
        call = Call(request, self.request_url(request, None), place, Limits(timeout), secured)
        response: requests.Response = run(self.lb, self, call)
        return response

    # What the door asks for (`kubelb.runtime.door`)

    def prepare(self, call: Call) -> None:
        """Read what the balancer needs to know."""
        call.prepare(self._key_source, self._views)

    def attempt(
        self, call: Call, lease: Lease, number: int, carrier: Mapping[str, str] | None
    ) -> tuple[Outcome, requests.Response | None]:
        """Make one attempt."""
        bounds = call.bounds(self._clock, self._patience, lease.state, number)
        around = current.bounds  # a body may be produced by requests of its own
        current.bounds = bounds
        try:
            pool = self._pools.get(lease.state, call.secured is not None)
            raw = (pool.get(call.secured) if call.secured else pool).urlopen(
                method=call.request.method,
                url=call.url,
                body=call.body(bounds, number),
                headers=call.headers if carrier is None else call.carrying(carrier),
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                retries=ONCE,
                timeout=bounds.timeout(),
                chunked=call.chunked,
            )
            outcome = OPENED if raw.hold(lease, self, bounds) else SUCCESS
            if raw.status >= 400 and (judged := judge_status(raw.status, _wire(raw.headers))) is not None:
                judged.open = outcome.open
                outcome = judged
            response = self.build_response(call.request, raw)
            tell(response, lease.state.endpoint, number)
        except Exception as error:  # noqa: BLE001
            return outcome_of(error, bounds, call.request), None
        else:
            return outcome, response
        finally:
            current.bounds = around

    def throw_away(self, outcome: Outcome) -> None:
        """Close an answer that will not be read."""
        outcome.value.raw.discard()

    def refused(self, error: LoadBalancerError, call: Call) -> LoadBalancerError:
        """Return kubelb's refusal as an exception of requests, too."""
        return refusal(error, call.request)

    def seen(self, call: Call) -> "telemetry.Call":
        """Return what sees this request from its beginning to its headers."""
        scheme, port = ("https" if call.place.tls else "http"), call.place.port
        instrumented = hasattr(requests.Session.send, "opentelemetry_instrumentation_requests_applied")
        request = call.request
        return self.lb.watch.http(
            request.method or "", scheme, call.place.name, port, request.url, instrumented=instrumented
        )

    def told(self, outcome: Outcome, value: Any) -> Mapping[str, Any]:
        """Return a status, or the kind of exception."""
        return http_answer(value.status_code) if outcome.error is None else raised(outcome.error)

    def _wrong_host(self, request: requests.PreparedRequest, place: Place) -> LoadBalancerError:
        served = ", ".join(sorted(self.hosts or ()))
        reason = (
            f"{place.name!r} is not a name of this service ({served}); mount the adapter by "
            "kubelb.adapters.requests.mount(session, lb), or name the host in hosts="
        )
        return refusal(WrongHost(str(self.lb.target), reason), request)

    # Pools and their ends

    def _make_pool(self, state: EndpointState, tls: bool) -> Any:
        return (TlsPools if tls else plain_pool)(state.endpoint.address, self._options)

    def left(self, lease: Lease) -> None:
        """A request ended: where its endpoint is gone, it may have been the last there."""
        if lease.state.removed:
            _close(self._pools.retired([lease.state]))

    def _on_change(self, difference: Difference) -> None:
        _close(self._pools.retired(difference.removed))

    def _close_lost(self) -> None:
        settled()
        with contextlib.suppress(IndexError):
            while True:
                _close(self._pools.retired([self.lost.popleft()]))

    def close(self) -> None:
        """Close every connection, and the load balancer if it was made from a target here. Idempotent."""
        settled()
        _close(self._pools.all())
        self.lost.clear()
        super().close()
        if self._owns:
            self.lb.close()

    def after_fork_in_child(self) -> None:
        """The parent's connections are not ours to use, nor to close."""
        self._pools.abandon()
        self.init_poolmanager(self._size, self._size)
        self._patience = Patience(self.lb)
        self._contexts.after_fork_in_child()
        self.lost = deque()


def _close(pools: Iterable[Any]) -> None:
    for pool in pools:
        with contextlib.suppress(Exception):
            pool.close()


def _wire(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers.items()]
