"""gRPC: every call picks its own endpoint.

    import kubelb
    from kubelb.adapters import grpc

    lb = kubelb.LoadBalancer("reviews.prod:grpc")
    with grpc.insecure_channel(lb) as channel:
        stub = reviews_pb2_grpc.ReviewsStub(channel)
        stub.Get(request, timeout=1.0)

The channel is a `grpc.Channel`: stubs, interceptors and `grpc.channel_ready_future` work on it. For asyncio the same
names are in `kubelb.adapters.grpc.aio`.
"""

try:
    import grpc as _grpc
except ImportError as error:
    raise ImportError("kubelb.adapters.grpc needs grpcio: pip install 'kubelb[grpc]'") from error

from kubelb.adapters._grpc.shared.options import Options
from kubelb.adapters._grpc.shared.requesting import Idempotent
from kubelb.adapters._grpc.shared.tls import Credentials, TlsFiles, check_credentials
from kubelb.adapters._grpc.sync.channel import SyncChannel
from kubelb.discovery.base import Discovery
from kubelb.loadbalancer import LoadBalancer

__all__ = ["Channel", "TlsFiles", "insecure_channel", "secure_channel"]


class Channel(SyncChannel):
    """A `grpc.Channel` over every endpoint of a service; made by `insecure_channel` and `secure_channel`.

    It keeps one connection to each endpoint, made as soon as the endpoint is known (the first call begins that), and
    picks among those that are ready. An endpoint that goes away finishes what it has been given.

    >>> from kubelb.adapters import grpc
    >>> with grpc.insecure_channel("static:///127.0.0.1:9") as channel:
    ...     echo = channel.unary_unary("/pkg.Echo/Echo")
    ...     try:
    ...         echo(b"hello", timeout=5.0)
    ...     except Exception as error:
    ...         error.code().name
    'UNAVAILABLE'
    """


def insecure_channel(
    lb_or_target: LoadBalancer | Discovery | str,
    options: Options | None = None,
    compression: _grpc.Compression | None = None,
    *,
    idempotent: Idempotent = False,
) -> Channel:
    """Return a channel without TLS.

    `lb_or_target` is a LoadBalancer, which stays the caller's, or a target, for one of its own. `options` and
    `compression` are gRPC's, and every connection is made with them; the authority is the service's name in full unless
    ``grpc.default_authority`` is given. `idempotent` names the methods that may be sent again although they may have
    been processed: ``["/pkg.Service/Get", "/pkg.Reader/*"]``, or True for all; none by default.

    When tries end the last one's own RpcError comes back, with notes on the others; where kubelb refused, a
    `kubelb.LoadBalancerError` that is also a `grpc.RpcError` and a `grpc.Call` (UNAVAILABLE or DEADLINE_EXCEEDED).
    """
    return Channel(lb_or_target, None, options, compression, idempotent)


def secure_channel(
    lb_or_target: LoadBalancer | Discovery | str,
    credentials: Credentials,
    options: Options | None = None,
    compression: _grpc.Compression | None = None,
    *,
    idempotent: Idempotent = False,
) -> Channel:
    """Return a channel with TLS, verified against the authority, never against a pod's address.

    `credentials` are gRPC's own, or `TlsFiles`, which are read again when they have changed; TypeError for anything
    else, None included. The rest is as for `insecure_channel`.
    """
    check_credentials(credentials)
    return Channel(lb_or_target, credentials, options, compression, idempotent)
