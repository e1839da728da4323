"""One line of a watch -> what a Sink is told, and how far it leads. What makes no sense costs itself."""

from typing import NamedTuple

import msgspec

from kubelb.discovery.kube.diagnose import PROXY, Code, Trouble, said
from kubelb.discovery.kube.sink import Sink
from kubelb.discovery.kube.wire import decode_event, decode_slice
from kubelb.printable import shown

__all__ = ["Told", "apply"]


class Told(NamedTuple):
    """An event that was applied."""

    version: str
    bookmark: bool
    """It says that everything up to its version was told before it."""


def apply(line: bytes, sink: Sink, namespace: str) -> Told | None:
    """Tell it; None if it made no sense. Raises `Trouble` where the watch cannot go on."""
    try:
        event = decode_event(line)
        if event.type == "ERROR":
            raise said(bytes(event.object), "watch", namespace)
        piece = decode_slice(event.object)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        sink.skipped("a watch event", str(error))
        return None
    except msgspec.DecodeError as error:
        raise Trouble(Code.MALFORMED, f"a watch event that is no JSON: {error}", PROXY) from None
    except RecursionError:  # of what type it is cannot be known: the end of the watch, perhaps
        raise Trouble(Code.MALFORMED, "a watch event that is nested too deep", PROXY) from None
    if event.type not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}:
        sink.skipped("a watch event", f"its type is {shown(event.type)}")
        return None
    if piece.kind != "EndpointSlice":
        sink.skipped("a watch event", f"its object is of kind {shown(piece.kind)}")
        return None
    if event.type == "DELETED":
        sink.delete(piece)
    elif event.type != "BOOKMARK":
        sink.upsert(piece)
    return Told(piece.metadata.resource_version, event.type == "BOOKMARK")
