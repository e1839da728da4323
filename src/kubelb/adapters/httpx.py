"""httpx: every request picks its own endpoint.

    import httpx, kubelb
    from kubelb.adapters.httpx import mounts

    lb = kubelb.LoadBalancer("reviews.prod:http")
    client = httpx.Client(mounts=mounts(lb))

URL, Host, SNI, certificate check and cookies keep the service's name; only the address that is dialled is the pod's.
"""

from typing import TYPE_CHECKING, Any

try:
    import httpcore
    import httpx
except ImportError as error:
    raise ImportError("kubelb.adapters.httpx needs httpx: pip install 'kubelb[httpx]'") from error

from kubelb.adapters._httpx.beside import Beside
from kubelb.adapters._httpx.kit import Kit
from kubelb.adapters._httpx.transport import SyncTransport
from kubelb.adapters.sockets import keep_alive
from kubelb.discovery.base import Discovery
from kubelb.lazily import later
from kubelb.loadbalancer import LoadBalancer

__all__ = ["AsyncTransport", "Transport", "async_mounts", "keep_alive", "mounts"]

if TYPE_CHECKING:
    from kubelb.adapters._httpx.httpx_asyncio import AsyncTransport
else:  # a sync program does not pay for asyncio, 50 ms
    __getattr__, __dir__ = later(globals(), AsyncTransport="adapters._httpx.httpx_asyncio")

KIT = Kit(httpx, httpcore)


class Transport(SyncTransport, httpx.BaseTransport):
    """A transport for `httpx.Client`, as ``transport=``, or in ``mounts=`` (see `mounts`).

    `lb_or_target` is a LoadBalancer, which stays the caller's, or a target, for one of its own. Options:

    - `hosts`: names it serves; by default those of the service, any for ``static:///``. Other hosts raise;
    - `server_hostname`: name for SNI and the certificate check, where it is not the URL's host;
    - `verify`, `cert`: CAs (True, a file or folder, an SSLContext) and client certificate;
    - `http1`, `http2`: protocols; ``http1=False, http2=True`` speaks HTTP/2 without TLS. HTTP/2 has connections of
      kubelb's own (see the guide): streams end alone, and what was provably not processed goes to another pod;
    - `limits`: `httpx.Limits` of each endpoint's pool; by default no limit, and idle connections are kept for 4 s;
    - `socket_options`: of every connection, as for `httpx.HTTPTransport`; by default those of `keep_alive()`, by which
      a pod whose node has vanished is found within a minute, and one that is slow to answer is never cut off.

    The client's largest timeout bounds all tries up to the headers. A connect timeout that no other part equals is
    kept, by TCP and the TLS handshake each; else a pod that does not answer is left for another one after 1 s (TCP) or
    5 s (a handshake, as long as none has shown how quick it can be). No pod is shown a Proxy-Authorization header.

    Per call, ``extensions={"kubelb": {"key": ..., "idempotent": True, "deadline": 2.0}}``. The response's
    ``extensions["kubelb"]`` tells the endpoint, its pod and the number of attempts. When tries end the last one's own
    response or exception comes back; where kubelb refused, a `kubelb.LoadBalancerError` that is also a
    `httpx.ConnectError` or a `httpx.TimeoutException`.

    >>> import httpx
    >>> with httpx.Client(transport=Transport("static:///127.0.0.1:9,127.0.0.2:9")) as client:
    ...     try:
    ...         client.get("http://reviews.prod/")
    ...     except httpx.ConnectError as error:
    ...         len(error.__notes__)
    2
    """

    kit = KIT

    if TYPE_CHECKING:  # both clients share the method, which therefore knows neither's types

        def handle_request(self, request: httpx.Request) -> httpx.Response: ...


class _Beside(Beside, httpx.BaseTransport):
    pass


def mounts(lb_or_target: LoadBalancer | Discovery | str, **options: Any) -> dict[str, httpx.BaseTransport]:
    """Return the ``mounts=`` of an `httpx.Client`: one `Transport` for every name of the service.

    All names count that the transport serves, with and without a dot at their end, with any port, for http, https, ws
    and wss; requests to other hosts go their usual way. `options` are those of `Transport`. For several services join
    them: ``mounts={**mounts(reviews), **mounts(ratings)}``.

    Nothing in the environment gets between: a plain ``mounts={"http://reviews.prod": Transport(lb)}`` is never asked
    where ``NO_PROXY`` names ``reviews.prod``, for httpx ranks that higher. The environment is read when this is called,
    as the client reads it when it is made: call it there. Where ``NO_PROXY`` says ``reviews.prod``, requests to
    ``web-0.reviews.prod`` go directly, as it asks, with the TLS options, protocols and limits that are given here.

    Raises ValueError where there are no names (a static list without `hosts`), and what `Transport` raises.

    >>> sorted(mounts("reviews.prod:http", hosts=["reviews.prod"]))
    ['all://reviews.prod', 'all://reviews.prod.']
    """
    transport = Transport(lb_or_target, **options)
    return transport.mounted(_Beside)


def async_mounts(lb_or_target: LoadBalancer | Discovery | str, **options: Any) -> dict[str, httpx.AsyncBaseTransport]:
    """Return the ``mounts=`` of an `httpx.AsyncClient`: one `AsyncTransport` for every name; all else as `mounts`.

    >>> sorted(async_mounts("static:///127.0.0.1:9", hosts=["reviews.prod"]))
    ['all://reviews.prod', 'all://reviews.prod.']
    """
    from kubelb.adapters._httpx.httpx_asyncio import AsyncBeside, AsyncTransport

    transport = AsyncTransport(lb_or_target, **options)
    return transport.mounted(AsyncBeside)
