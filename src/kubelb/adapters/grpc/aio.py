"""gRPC for asyncio: every call picks its own endpoint.

    import kubelb
    from kubelb.adapters.grpc import aio

    lb = kubelb.LoadBalancer("reviews.prod:grpc")
    async with aio.insecure_channel(lb) as channel:
        stub = reviews_pb2_grpc.ReviewsStub(channel)
        await stub.Get(request, timeout=1.0)

The channel is a `grpc.aio.Channel`. It belongs to the event loop that it is first used in.
"""

from collections.abc import Sequence

try:
    import grpc as _grpc
    import grpc.aio as _aio
except ImportError as error:
    raise ImportError("kubelb.adapters.grpc.aio needs grpcio: pip install 'kubelb[grpc]'") from error

from kubelb.adapters._grpc.aio.channel import AioChannel
from kubelb.adapters._grpc.shared.options import Options
from kubelb.adapters._grpc.shared.requesting import Idempotent
from kubelb.adapters._grpc.shared.tls import Credentials, TlsFiles, check_credentials
from kubelb.discovery.base import Discovery
from kubelb.loadbalancer import LoadBalancer

__all__ = ["Channel", "TlsFiles", "insecure_channel", "secure_channel"]


class Channel(AioChannel):
    """A `grpc.aio.Channel` over every endpoint of a service; made by `insecure_channel` and `secure_channel`.

    It keeps one connection to each endpoint, made as soon as the endpoint is known (the first call begins that), and
    picks among those that are ready. An endpoint that goes away finishes what it has been given. It belongs to the
    first event loop that it is used in; several channels, each on a loop of its own, may share a LoadBalancer.

    >>> import asyncio
    >>> from kubelb.adapters.grpc import aio
    >>> async def main():
    ...     async with aio.insecure_channel("static:///127.0.0.1:9") as channel:
    ...         echo = channel.unary_unary("/pkg.Echo/Echo")
    ...         try:
    ...             await echo(b"hello", timeout=5.0)
    ...         except Exception as error:
    ...             return error.code().name
    >>> asyncio.run(main())
    'UNAVAILABLE'
    """


def insecure_channel(
    lb_or_target: LoadBalancer | Discovery | str,
    options: Options | None = None,
    compression: _grpc.Compression | None = None,
    interceptors: Sequence[_aio.ClientInterceptor] | None = None,
    *,
    idempotent: Idempotent = False,
) -> Channel:
    """Return a channel without TLS.

    `lb_or_target` is a LoadBalancer, which stays the caller's, or a target, for one of its own. `options`,
    `compression` and `interceptors` are gRPC's, and every connection is made with them: an interceptor sees each
    attempt, not the call as a whole. The authority is the service's name in full unless ``grpc.default_authority`` is
    given. `idempotent` names the methods that may be sent again although they may have been processed:
    ``["/pkg.Service/Get", "/pkg.Reader/*"]``, or True for all; none by default.

    When tries end the last one's own AioRpcError comes back, with notes on the others; where kubelb refused, a
    `kubelb.LoadBalancerError` that is also an AioRpcError (UNAVAILABLE or DEADLINE_EXCEEDED). A call from another event
    loop raises RuntimeError, and so does one in a child that was forked after grpc.aio had been used, which grpcio does
    not survive; one on a closed channel raises `grpc.aio.UsageError`.
    """
    return Channel(lb_or_target, None, options, compression, interceptors, idempotent)


def secure_channel(
    lb_or_target: LoadBalancer | Discovery | str,
    credentials: Credentials,
    options: Options | None = None,
    compression: _grpc.Compression | None = None,
    interceptors: Sequence[_aio.ClientInterceptor] | None = None,
    *,
    idempotent: Idempotent = False,
) -> Channel:
    """Return a channel with TLS, verified against the authority, never against a pod's address.

    `credentials` are gRPC's own, or `TlsFiles`, which are read again when they have changed; TypeError for anything
    else, None included. The rest is as for `insecure_channel`.
    """
    check_credentials(credentials)
    return Channel(lb_or_target, credentials, options, compression, interceptors, idempotent)
