"""The off switch: requests go the plain way, through the Service's own name, as if kubelb was not there.

    KUBELB_DISABLE=1              for all that is made while it is set: a rollback without a release
    with kubelb.disabled(): ...   for the calls of a block, in this thread or task and in tasks begun inside

Nothing is discovered, picked, tried again or ejected then. HTTP adapters hand the request to the client's own way of
sending, gRPC's hand the call to one channel of grpcio's to the Service's name; `LoadBalancer.call` calls its function
once, with that name for an address. What is kept in the context variable says how: True for plainly, or a transport of
the client's that answers instead (see `kubelb.testing.mocked`).
"""

import logging
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from kubelb.runtime.scoped import Scoped
from kubelb.telemetry.broken import say

__all__ = ["VARIABLE", "announce", "disabled", "off", "switch", "switched_off"]

VARIABLE = "KUBELB_DISABLE"
ON_AGAIN = frozenset({"", "0", "false", "no", "off"})
"""Values of the variable that switch nothing off; every other one does: in an emergency a typo must not go on."""

_off: Scoped[Any] = Scoped("kubelb_disabled")
off: Callable[[], Any] = _off.get
"""How the calls of this context go past kubelb; None where they do not."""


def switched_off() -> bool:
    """Whether the environment says so now."""
    return os.environ.get(VARIABLE, "").strip().lower() not in ON_AGAIN


def switch() -> Callable[[], Any]:
    """Return what each call asks for its way past kubelb, None where it takes none: as the environment is now, and as
    the call's context will be.
    """
    return _always if switched_off() else off


def _always() -> Any:
    way = off()
    return True if way is None else way


def announce(service: str, portless: str) -> None:
    """Say that a load balancer is switched off by the environment: a line that an operator looks for.

    `portless`: why there is no address for what has no URL with a port in it, gRPC and `call`; "" where there is one.
    """
    say(
        logging.WARNING,
        "%s: %s is set: requests go through the Service's own name, not balanced%s",
        service,
        VARIABLE,
        f"; gRPC and LoadBalancer.call are refused: {portless}" if portless else "",
    )


class disabled:  # noqa: N801  # used as a verb: `with kubelb.disabled()`
    """A block in which calls go the plain way, through the Service's own name: no discovery, no picking, no retries.

    It holds for httpx, httpx2, requests, gRPC and `LoadBalancer.call`, in the thread or task of the block and in tasks
    begun inside; a thread started inside has a context of its own (`asyncio.to_thread` takes it along). For a whole
    process set ``KUBELB_DISABLE=1`` before adapters are made.

    What the plain way needs: a URL with the Service's port, where that is not the scheme's own (kubelb itself never
    dials it). For gRPC and `LoadBalancer.call` the port is `fallback_port`, or the target's number; ``KUBELB_TARGETS``
    counts before both. Where there is none they raise NoEndpoints.

    >>> import kubelb
    >>> lb = kubelb.LoadBalancer("reviews.prod:http", discovery=kubelb.DiscoveryOptions(fallback_port=80))
    >>> with kubelb.disabled():
    ...     lb.call(lambda attempt: attempt.endpoint.authority)
    'reviews.prod.svc.cluster.local:80'
    """

    __slots__ = ("_way",)

    def __init__(self) -> None:
        self._way: Any = True

    def __enter__(self) -> Self:
        _off.enter(self._way)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _off.leave()
