"""What a sync call object is besides a Call and a Future: the RpcError that it may end with, as grpcio's own is.

Others rely on that. Pub/Sub's subscriber asks of what its done callback is given whether it is a `grpc.RpcError`, reads
`code()`, and opens the stream again or ends for good by the answer. So it is one from the beginning, whatever the end
will be; its text says how far it is, without waiting.
"""

from typing import Any, NoReturn, Self

import grpc

__all__ = ["Speaking", "told"]


class Speaking(grpc.RpcError):
    """Base of calls. They are no values: a copy is the call itself, and another process cannot have it."""

    _calling: Any

    def _said(self) -> tuple[Any, Any] | None:
        """Return the status and its text, None before there is one; does not block."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return told(self, self._calling.method, self._said())

    __str__ = __repr__

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a call cannot be pickled or copied deeply ({type(self).__name__} of {self._calling.method}): "
            "it belongs to its channel; keep its code() and details()"
        )


def told(call: Any, method: str, said: tuple[Any, Any] | None) -> str:
    """Return a call's text, in grpcio's form."""
    kind = type(call).__name__
    if said is None:
        return f"<{kind} of in-flight RPC {method}>"
    return f'<{kind} of RPC that terminated with:\n\tstatus = {said[0]}\n\tdetails = "{said[1]}"\n>'
