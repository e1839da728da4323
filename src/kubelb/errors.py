"""Every exception of kubelb.

LoadBalancerError            kubelb itself refused; where tries end otherwise, the last try's own error comes back
 +- NotReady                 no first snapshot within ready_timeout (or the deadline), and why
 +- UnknownService           the service does not exist
 +- NoEndpoints              it exists, and nothing in it can be used
 +- Unusable                 there are endpoints, and just now none of them can take a request
 +- Overloaded               the service is at a limit of this process: in flight, or waiting
 +- DeadlineExceeded         no time left for a first or another try
 +- Closed                   the load balancer was closed
 +- WrongHost                an adapter was asked for a host that is not its service
TargetError(ValueError)      a name that cannot be parsed
NeverSent                    raised by your function, for `LoadBalancer.call`: nothing of the request was sent

`error_type` gives the name that metrics and spans have for any exception.

Each carries `service`, `reason` and, where they explain something, the `counts` behind it. Adapters raise subclasses
that are also what that client's users catch. Whatever a reason repeats of what others wrote is one line without control
characters and secrets (see `kubelb.printable`).
"""

import sys
from collections.abc import Mapping
from contextlib import suppress

from kubelb.printable import printable

__all__ = [
    "Closed",
    "DeadlineExceeded",
    "LoadBalancerError",
    "NeverSent",
    "NoEndpoints",
    "NotReady",
    "Overloaded",
    "TargetError",
    "UnknownService",
    "Unusable",
    "WrongHost",
    "error_type",
]


class LoadBalancerError(Exception):
    """kubelb refused a call before or between tries.

    `service` is the target's text, `reason` a sentence for the user, `counts` the numbers behind it, for example
    ``{"known": 3, "not ready": 2, "other zone": 1}``.
    """

    def __init__(self, service: str, reason: str, counts: Mapping[str, int] | None = None) -> None:
        self.service = service = printable(service)
        self.reason = reason = printable(reason)
        self.counts: Mapping[str, int] = dict(counts or {})
        super().__init__(service, reason, self.counts)

    def __str__(self) -> str:
        numbers = ", ".join(f"{name}: {count}" for name, count in self.counts.items() if count or name != "known")
        if not numbers and "known" in self.counts:
            numbers = "no endpoint is known"
        return f"{self.service}: {self.reason}" + (f" ({numbers})" if numbers else "")


class NotReady(LoadBalancerError):
    """No endpoints were learnt in time, or none can be by an error in the configuration; the reason says which."""


class UnknownService(LoadBalancerError):
    """The service does not exist as far as discovery can see."""


class NoEndpoints(LoadBalancerError):
    """The service is known and has nothing to send to."""


class Unusable(LoadBalancerError):
    """There are endpoints, and just now none of them can take this request; the reason says why.

    No connection to any is ready (gRPC), each is at its limit, circuits are open (each one's, or the service's), or the
    policy picks none of those there are.
    """


class Overloaded(LoadBalancerError):
    """The service is at a limit of `ConcurrencyLimits`; the reason names it. It is this process that has too much."""


class DeadlineExceeded(LoadBalancerError):
    """The deadline ran out before an attempt could be started."""


class Closed(LoadBalancerError):
    """`LoadBalancer.close` was called."""


class WrongHost(LoadBalancerError):
    """A request, or a redirect, for a host that this service does not have; it never reaches a pod."""


class NeverSent(Exception):
    """Raise this in a function that `LoadBalancer.call` or `acall` calls: no byte of its request was sent.

    Then another endpoint is tried at once, whether or not the call is idempotent, and the endpoint has failed. kubelb
    guesses that of no other exception: a `ConnectionRefusedError` may come of another connection, when the request has
    long been processed. So raise it around the connect, and around nothing else:

        try:
            connection = socket.create_connection(attempt.endpoint.address, timeout=attempt.timeout)
        except OSError as error:
            raise kubelb.NeverSent from error

    When tries end, the caller gets the exception that it was raised from, or this one where there is none. Raise a new
    one each time: what one call was told is not told to another around it.
    """

    told = False
    """Whether a call has heard of it; it is then an exception like any other."""


class TargetError(ValueError):
    """A target that cannot be parsed; names the text, the place and the cure, and no password that stands in it."""

    def __init__(self, text: str = "") -> None:
        super().__init__(printable(text))


def error_type(error: BaseException) -> str:
    """Return the name that kubelb's metrics and spans have for an exception, their attribute ``error.type``.

    It is the full name of its class, without the module for Python's own; of a `NeverSent` that of the exception which
    it was raised from; of gRPC's errors the name of their status; of a refusal of kubelb's that is also an error of the
    client's, kubelb's own name, the same for every client. It holds nothing of the exception's text, which may be
    secret. It has few values, so metrics of your own can use it as an attribute and be joined with kubelb's.

    >>> error_type(ConnectionRefusedError("10.0.0.7")), error_type(Closed("reviews.prod", "it was closed"))
    ('ConnectionRefusedError', 'kubelb.errors.Closed')
    """
    if isinstance(error, NeverSent) and error.__cause__ is not None:
        error = error.__cause__
    grpc = sys.modules.get("grpc")
    if grpc is not None and isinstance(error, getattr(grpc, "RpcError", ())):
        with suppress(Exception):  # an interceptor's own kind of error may do anything
            name = error.code().name  # type: ignore[attr-defined]
            if isinstance(name, str):
                return name
    kind = next((each for each in type(error).__mro__ if each.__module__ == __name__), type(error))
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
