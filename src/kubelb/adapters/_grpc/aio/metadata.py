"""Metadata that cannot be sent, found before core finds it.

A call that core refuses for its metadata never begins, and grpcio for asyncio does not take that for an end: a stream
is waited for without end (1.80), and so is any call that is not awaited. So metadata are looked at first, by what
HTTP/2 and gRPC allow:

    key      lower-case letters, digits, "-", "_", "."
    value    printable ASCII; any bytes, where the key ends with "-bin"

Errors name the key and never the value, which may be a secret.
"""

import re
from typing import Any

import grpc.aio
from grpc import StatusCode

from kubelb.printable import shown

__all__ = ["sendable"]

_key = re.compile(r"[0-9a-z_.-]+").fullmatch
_text = re.compile(r"[ -~]*").fullmatch
_bytes = re.compile(rb"[ -~]*").fullmatch


def sendable(metadata: Any) -> Any:
    """Return the same metadata as a tuple: each attempt makes its own of it, for interceptors change them in place.

    Raises an AioRpcError with INTERNAL for what cannot be sent, TypeError and ValueError for what is no metadata.
    """
    try:
        metadata = tuple(metadata)
    except TypeError:
        raise TypeError(f"metadata={shown(metadata)}: give pairs of a key and a value") from None
    for pair in metadata:
        try:
            key, value = pair
        except (TypeError, ValueError):
            raise ValueError(f"metadata of {type(pair).__name__}: give pairs of a key and a value") from None
        name = key.decode("latin-1") if isinstance(key, bytes) else key
        if not isinstance(name, str):
            raise TypeError(f"metadata key {shown(key)}: give a str, not {type(key).__name__}")
        if not _key(name):
            raise _refused(f'key {name!r}: use lower-case letters, digits, "-", "_" and "."')
        if name.endswith("-bin"):
            if not isinstance(value, bytes):
                raise TypeError(f"metadata value of {name!r}: give bytes, not {type(value).__name__}")
        elif isinstance(value, str | bytes):
            if not (_text(value) if isinstance(value, str) else _bytes(value)):
                raise _refused(f'value of {name!r}: use printable ASCII, or bytes with a key that ends with "-bin"')
        elif value is not None:  # which grpcio sends as nothing
            raise TypeError(f"metadata value of {name!r}: give a str, not {type(value).__name__}")
    return metadata


def _refused(what: str) -> grpc.aio.AioRpcError:
    # Without a string of core's: so it is told from what a server says (`codes.made_here`).
    details = f"Invalid metadata {what}"
    return grpc.aio.AioRpcError(StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details, "")
