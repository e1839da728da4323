"""The body of an answer, whole or piece by piece, in an encoding that was asked for, and never more than fits."""

from collections.abc import Collection, Iterator

import urllib3

from kubelb.discovery.kube.allowance import UnreadableError
from kubelb.printable import shown

__all__ = ["LARGEST", "PIECE", "ZIPPED", "beginning", "decodable", "pieces", "whole"]

LARGEST = 1 << 28
"""Bytes of an answer, unzipped: 500 000 endpoints take 180 MB."""
PIECE = 1 << 22
"""Bytes of a chunk that are held at a time: an event is one chunk, and none is as large."""
ZIPPED = {"gzip", "x-gzip"}
"""What a list may be encoded as."""
_ERROR = 1 << 16


def decodable(response: urllib3.BaseHTTPResponse, asked: Collection[str]) -> None:
    """Raises `UnreadableError` for an encoding that was not asked for: urllib3 would undo any that it knows, and what
    is a megabyte on the wire may be a thousand then."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity", *asked}:
        raise UnreadableError(f"its Content-Encoding is {shown(encoding)}, which was not asked for")


def whole(response: urllib3.BaseHTTPResponse) -> bytes:
    """All of it, unzipped. Raises `UnreadableError` where that is too much."""
    parts, size = _read(response, LARGEST)
    if size > LARGEST:
        raise UnreadableError(f"it has more than {LARGEST >> 20} MiB")
    return b"".join(parts)


def beginning(response: urllib3.BaseHTTPResponse) -> bytes:
    """As much of an error as is ever read."""
    return b"".join(_read(response, _ERROR)[0])


def pieces(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """One for each chunk, which is one for each event; what is not chunked as it comes. Nothing is unzipped."""
    if getattr(response, "chunked", False):
        yield from response.read_chunked(PIECE, decode_content=False)
        return
    while piece := response.read1(PIECE, decode_content=False):
        yield piece


def _read(response: urllib3.BaseHTTPResponse, largest: int) -> tuple[list[bytes], int]:
    """To the end, or a piece further than `largest`; how much it was."""
    parts: list[bytes] = []
    size = 0
    while size <= largest and (part := response.read1(1 << 20, decode_content=True)):
        parts.append(part)
        size += len(part)
    return parts, size
