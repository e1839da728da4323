"""What the sync and the asyncio channel share: options, credentials, the sub-channels, the multicallables.

Multicallables are made once for each method and serializers, however often they are asked for: grpcio's own
`intercept_channel` asks anew for every call. Each of them keeps the sub-channels' own multicallables, made when an
endpoint is first picked for it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakSet

import grpc

from kubelb.adapters._grpc.shared.below import Below
from kubelb.adapters._grpc.shared.calling import Calling
from kubelb.adapters._grpc.shared.keeping import Keeper
from kubelb.adapters._grpc.shared.library import library
from kubelb.adapters._grpc.shared.methods import configured
from kubelb.adapters._grpc.shared.options import (
    Options,
    advice,
    check_compression,
    check_options,
    default_authority,
    sub_options,
)
from kubelb.adapters._grpc.shared.plain import Plain, plain_options
from kubelb.adapters._grpc.shared.requesting import Idempotent, repeatable
from kubelb.adapters._grpc.shared.subchannel import SubChannel
from kubelb.adapters._grpc.shared.subchannels import SubChannels
from kubelb.adapters._grpc.shared.tls import Credentials, TlsFiles, fresh_credentials
from kubelb.adapters._grpc.shared.watch import Check
from kubelb.adapters.balancers import Connected, balancer_of, owned
from kubelb.adapters.tls import Fresh
from kubelb.core.state import EndpointState
from kubelb.discovery.base import Discovery
from kubelb.errors import Closed, LoadBalancerError
from kubelb.loadbalancer import LoadBalancer
from kubelb.runtime.switch import switch

__all__ = ["Common", "address_of"]

C = TypeVar("C", bound=Calling)

if TYPE_CHECKING:
    import typing_extensions  # the type checker's own; typing's TypeVars have defaults since Python 3.13

    Q = typing_extensions.TypeVar("Q", default=bytes)
    R = typing_extensions.TypeVar("R", default=bytes)
    """What a method takes and gives: bytes, where nothing is said of how to make them of something else."""

AUTHORITY = ("grpc.default_authority", b"grpc.default_authority")
KEPT = 1000
"""Multicallables kept at most; more are made and forgotten, as for methods with serializers made for each call."""


class Common(Connected):
    """Base of both channels."""

    def __init__(
        self,
        lb_or_target: LoadBalancer | Discovery | str,
        credentials: Credentials | None,
        options: Options | None,
        compression: grpc.Compression | None,
        idempotent: Idempotent,
    ) -> None:
        self._owns = owned(lb_or_target)
        self.repeatable = repeatable(idempotent)
        self.lb = balancer_of(lb_or_target)
        self._user_options = check_options(options)
        self._given, self.configured = configured(self._user_options)
        check_compression(compression)
        self._compression = compression
        self._files: Fresh[grpc.ChannelCredentials] | None = None
        self._credentials: grpc.ChannelCredentials | None = None
        if isinstance(credentials, TlsFiles):
            self._files = fresh_credentials(credentials, service=str(self.lb.target), emit=self.lb.tell)
        else:
            self._credentials = credentials
        self.subs = SubChannels(
            self.lb.balancer,
            self._make,
            self._close_one,
            self._files.edition if self._files else lambda: 0,
            self._closed,
        )
        self.off = switch()
        """Says of each call, as it begins, how it goes past kubelb; None where it does not (see `plain.py`)."""
        self.plain = Plain(
            self._make_plain,
            self._files.edition if self._files else lambda: 0,
            self._closed_plainly,
        )
        self.subs.dropped = self._forget
        self.subs.unreached.ask = self._ask
        self.lb.links.add(self.subs.unreached)
        self.keeper = Keeper(self.subs.look, self._repeat)
        self.subs.unreached.advice = advice(self._options, secure=credentials is not None)
        self._kept: dict[Any, Any] = {}
        self._callings: WeakSet[Calling] = WeakSet()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.lb.target} endpoints={len(self.subs)}>"

    @property
    def _options(self) -> Options:
        """Those of a new sub-channel: by then an own namespace is known, which the authority needs."""
        return sub_options(default_authority(self.lb.target, self.lb.cluster_domain), self._given)

    @property
    def authority(self) -> str:
        """What its calls say they are for (``:authority``); "" where that is the address of the pod."""
        named = [value for name, value in self._options if name in AUTHORITY]  # the last one counts, as with gRPC
        said = named[-1] if named else ""
        return said.decode("latin-1") if isinstance(said, bytes) else str(said)

    # grpcio's names, for those that read them

    @property
    def _channel(self) -> Below:
        return Below(self)

    @property
    def _target(self) -> str:
        return str(self.lb.target)

    # Switched off

    @property
    def passing(self) -> bool:
        """Whether what is asked of the channel here and now is asked of the plain one."""
        return self.off() is not None and not self.subs.closed

    def _make_plain(self) -> tuple[Any, Check]:
        library.use()
        try:
            address = self.lb.plain_endpoint().authority
        except LoadBalancerError as error:
            raise self._refused(error) from None
        authority = default_authority(self.lb.target, self.lb.cluster_domain)
        return self._open_plainly(address, plain_options(authority, self._user_options))

    def _open_plainly(self, address: str, options: Options) -> tuple[Any, Check]:
        """Return the plain channel and the question for its state."""
        raise NotImplementedError

    def _closed_plainly(self) -> Exception:
        """Return what grpcio raises for a call on a closed channel."""
        raise NotImplementedError

    def _refused(self, error: LoadBalancerError) -> Any:
        """Return kubelb's refusal as what gRPC's users catch."""
        raise NotImplementedError

    # For its calls

    def start(self) -> None:
        """Begin discovery and connecting: the first call does that, not the constructor."""
        library.use()
        if not self.subs.closed:
            self.lb.feed()
            self.subs.connect()

    def left(self) -> None:
        """A call ended: while endpoints are leaving, it may have been the last one there."""
        if self.subs.leaving:
            self.subs.leave()

    def _calling(self, kind: Callable[..., C], *facts: Any) -> C:
        key = (kind, *facts)
        try:
            kept = cast("C | None", self._kept.get(key))
        except TypeError:  # a serializer that cannot be hashed
            return kind(self, *facts)
        if kept is not None:
            return kept
        made = kind(self, *facts)
        if len(self._kept) < KEPT:
            made = cast(C, self._kept.setdefault(key, made))
        self._callings.add(made)
        return made

    # Sub-channels

    def _make(self, state: EndpointState) -> tuple[Any, Check]:
        """Return a new channel to an endpoint and the question for its state."""
        raise NotImplementedError

    def _ask(self, sub: SubChannel) -> None:
        """Put down what core says of a connection that cannot be made, now or soon."""
        raise NotImplementedError

    def _repeat(self, pause: float, ask: Callable[[], bool]) -> None:
        """Ask again and again, after so many seconds each, until it says False."""
        raise NotImplementedError

    def _close_one(self, channel: Any) -> None:
        """Close what `_make` made."""
        raise NotImplementedError

    def _closed(self) -> Exception:
        """Return what a pick raises once the channel is closed: it ends calls that wait, or try again."""
        return Closed(str(self.lb.target), "the channel was closed")

    def _credentials_now(self) -> grpc.ChannelCredentials | None:
        return self._files.get() if self._files else self._credentials

    def _forget(self, state: EndpointState) -> None:
        for calling in tuple(self._callings):
            calling.forget(state)

    def after_fork_in_child(self) -> None:
        """The parent's connections are not ours to use, nor to close."""
        self.subs.abandon()
        self.plain.abandon()
        self.keeper.after_fork_in_child()
        for calling in self._callings:
            calling.abandon()


def address_of(state: EndpointState) -> str:
    """Return the target of one endpoint: "10.0.0.7:80", "[fd00::7]:80"; gRPC looks nothing up for an address.

    Without a scheme (`ipv4:`), for instrumentations read host and port in it.
    """
    return state.endpoint.authority
