"""The interceptors of an asyncio channel: four lists, and two of our own around them.

grpcio keeps one list for each kind of call, and its calls look into them as they begin. Generated Google clients and
others append to these lists of a channel that they are given, whenever it suits them. So a channel of ours has the same
four, by the same names, and each sub-channel reads them in the place of its own: what is appended counts from the next
try on, whatever was made before it.

    what an instrumentation has put on the sub-channel
    outermost   what a user's interceptor raises is carried out as an error of gRPC's and unpacked by the call; what it
                answers by itself gets an end (see `aio/canned.py`)
    the lists
    innermost   metadata that an interceptor has added and that cannot be sent are refused as anywhere else

grpcio 1.80 takes only its own errors from interceptors: any other is raised a second time in a callback of the event
loop and a third time in a finalizer, and the end of the call is not told.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grpc.aio
from grpc import StatusCode
from grpc.aio import ClientInterceptor

from kubelb.adapters._grpc.aio.canned import answered
from kubelb.adapters._grpc.aio.metadata import sendable

__all__ = ["KINDS", "RAISED", "Live", "Raised", "flat", "put_into", "sorted_out"]

RAISED = "kubelb: an interceptor raised"


class Raised(grpc.aio.AioRpcError):
    """Carries what an interceptor raised, as its `__cause__`."""

    def __init__(self) -> None:
        super().__init__(StatusCode.UNKNOWN, grpc.aio.Metadata(), grpc.aio.Metadata(), RAISED, "")


async def _outermost(guard: Any, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
    ends = None if details.timeout is None else asyncio.get_running_loop().time() + details.timeout
    try:
        call = await continuation(details, request)
    except grpc.aio.AioRpcError:
        raise
    except Exception as error:
        raise Raised from error
    return answered(call, guard.kind, _carried, ends)


def _carried(error: Exception) -> Raised:
    raised = Raised()
    raised.__cause__ = error
    return raised


async def _innermost(_: Any, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
    if details.metadata:
        sendable(details.metadata)
    return await continuation(details, request)


KINDS = {
    grpc.aio.UnaryUnaryClientInterceptor: "unary_unary",
    grpc.aio.UnaryStreamClientInterceptor: "unary_stream",
    grpc.aio.StreamUnaryClientInterceptor: "stream_unary",
    grpc.aio.StreamStreamClientInterceptor: "stream_stream",
}
"""With the name of each, which is in those of its method and of its list: `_unary_unary_interceptors`."""


def _made(kind: type[Any], way: Callable[..., Any]) -> Any:
    members = {f"intercept_{KINDS[kind]}": way, "kind": KINDS[kind]}
    return type(way.__name__.strip("_").title(), (kind,), members)()


_GUARDS = {name: (_made(kind, _outermost), _made(kind, _innermost)) for kind, name in KINDS.items()}


def sorted_out(given: Sequence[Any] | None) -> dict[str, list[Any]]:
    """Return the list of each kind, by its name; TypeError for what is no interceptor.

    One of several kinds is put where grpcio puts it: into the list of the first of them.
    """
    lists: dict[str, list[Any]] = {name: [] for name in KINDS.values()}
    if given is None:
        return lists
    if isinstance(given, ClientInterceptor) or not isinstance(given, Iterable):
        raise TypeError(f"interceptors={given!r}: give a list of them")
    for each in given:
        name = next((name for kind, name in KINDS.items() if isinstance(each, kind)), None)
        if name is None:
            raise TypeError(f"interceptors=[{each!r}]: give objects of classes that derive from grpc.aio's")
        lists[name].append(each)
    return lists


class Live:
    """A sub-channel's list of one kind: its own interceptors, then those that `owner` has now, with their guards.

    Kinds of calls that are not intercepted stay as quick as they are. `guarded`: False for the channel of calls that go
    past kubelb, which are grpcio's own from end to end.
    """

    __slots__ = ("_first", "_last", "_name", "_own", "_owner")

    def __init__(self, owner: Any, name: str, own: Iterable[Any] = (), *, guarded: bool = True) -> None:
        self._owner, self._name = owner, f"_{name}_interceptors"
        first, last = _GUARDS[name]
        self._first: tuple[Any, ...] = (first,) if guarded else ()
        self._last: tuple[Any, ...] = (last,) if guarded else ()
        self._own = tuple(own)

    def __bool__(self) -> bool:
        return bool(getattr(self._owner, self._name) or self._own)

    def __iter__(self) -> Iterator[Any]:
        ours = getattr(self._owner, self._name)
        return iter((*self._own, *self._first, *ours, *self._last) if ours else self._own)


def put_into(channel: Any, owner: Any, *, guarded: bool = True) -> bool:
    """Have a channel of grpcio's read the lists of `owner`; False where it has none of its own (they are private)."""
    names = {name: f"_{name}_interceptors" for name in KINDS.values()}
    if not all(isinstance(getattr(channel, attribute, None), list) for attribute in names.values()):
        return False
    for name, attribute in names.items():
        setattr(channel, attribute, Live(owner, name, getattr(channel, attribute), guarded=guarded))
    return True


def flat(owner: Any, *, guarded: bool = True) -> list[Any]:
    """Return what is in the lists of `owner` now, as a channel's constructor takes it."""
    return [each for name in KINDS.values() for each in Live(owner, name, guarded=guarded)]
