"""The body of an answer, whole or piece by piece, in an encoding that was asked for, and never more than fits.

http.client knows where a body ends, and tells what is cut off only where it reads all at once; here it is told in each
case. A watch is read chunk by chunk, which http.client has no way for: a chunk is an event, and is due as a whole.
"""

import zlib
from collections.abc import Collection, Iterator
from http.client import HTTPResponse, IncompleteRead, LineTooLong
from typing import Any, BinaryIO

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
_STEP = 1 << 20
_LINE = 1 << 16
_GZIP = 0x1F
"""The first byte of what gzip wrote; and, as it happens, what zlib has to be told to read it."""
_ENCODED = "it is not encoded as it says"


def decodable(answer: HTTPResponse, asked: Collection[str]) -> None:
    """Raises `UnreadableError` for an encoding that was not asked for."""
    encoding = _encoding(answer)
    if encoding not in {"", "identity", *asked}:
        raise UnreadableError(f"its Content-Encoding is {shown(encoding)}, which was not asked for")


def whole(answer: HTTPResponse) -> bytes:
    """All of it, unzipped. Raises `UnreadableError` where that is too much."""
    parts, size = _read(answer, LARGEST)
    if size > LARGEST:
        raise UnreadableError(f"it has more than {LARGEST >> 20} MiB")
    return b"".join(parts)


def beginning(answer: HTTPResponse) -> bytes:
    """As much of an error as is ever read."""
    return b"".join(_read(answer, _ERROR)[0])


def pieces(answer: HTTPResponse) -> Iterator[bytes]:
    """One for each chunk, which is one for each event; what is not chunked as it comes. Nothing is unzipped."""
    return _chunks(answer) if answer.chunked else _arrivals(answer)


def _read(answer: HTTPResponse, largest: int) -> tuple[list[bytes], int]:
    """To the end, or a part further than `largest`; how much it was."""
    parts: list[bytes] = []
    size = 0
    step = min(_STEP, largest + 1)
    come = _steps(answer, step)
    for part in _unzipped(come, step) if _encoding(answer) in ZIPPED else come:
        parts.append(part)
        size += len(part)
        if size > largest:
            break
    return parts, size


def _steps(answer: HTTPResponse, step: int) -> Iterator[bytes]:
    while part := answer.read(step):
        yield part
    if answer.length:
        raise IncompleteRead(b"", answer.length)


def _unzipped(parts: Iterator[bytes], step: int) -> Iterator[bytes]:
    """No part is longer than `step`, whatever it was zipped to. Members may follow each other, and zeros; what is
    neither is read and dropped, as other readers of gzip do.
    """
    member: Any = zlib.decompressobj(_GZIP)
    begun = False
    try:
        for part in parts:
            begun, rest = True, part
            while rest:
                if member is None:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    if rest[0] != _GZIP:
                        for _ in parts:
                            pass
                        return
                    member = zlib.decompressobj(_GZIP)
                while unzipped := member.decompress(rest, step):
                    yield unzipped
                    rest = member.unconsumed_tail
                rest, member = (member.unused_data, None) if member.eof else (b"", member)
    except zlib.error:
        raise UnreadableError(_ENCODED) from None
    if begun and member is not None:
        raise UnreadableError(_ENCODED)


def _chunks(answer: HTTPResponse) -> Iterator[bytes]:
    """A chunk that is too large comes in several parts."""
    file = answer.fp
    while size := _size(_line(file)):
        while size:
            wanted = min(size, PIECE)
            part = file.read(wanted)
            size -= wanted
            if len(part) < wanted or (not size and file.read(2) != b"\r\n"):
                raise IncompleteRead(b"", size)
            yield part
    while _line(file).strip():  # trailers
        pass
    answer.close()


def _size(line: bytes) -> int:
    """Of a chunk: in hexadecimal digits, and nothing that Python would take for a number beside them."""
    digits = line.partition(b";")[0].strip()
    if not digits or digits.strip(b"0123456789abcdefABCDEF") or not line.endswith(b"\n"):
        raise IncompleteRead(b"")
    return int(digits, 16)


def _line(file: BinaryIO) -> bytes:
    line = file.readline(_LINE + 1)
    if len(line) > _LINE:
        raise LineTooLong("chunk")
    return line


def _arrivals(answer: HTTPResponse) -> Iterator[bytes]:
    while part := answer.read1(PIECE):
        yield part
    if answer.length:
        raise IncompleteRead(b"", answer.length)
    answer.close()


def _encoding(answer: HTTPResponse) -> str:
    return (answer.getheader("Content-Encoding") or "").strip().lower()
