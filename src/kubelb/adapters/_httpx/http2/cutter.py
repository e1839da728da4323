"""Cuts what was received into what h2 may see and the GOAWAY frames, which it may not.

To h2 GOAWAY is the end: it then takes no frame more, though the streams up to the last one that GOAWAY names are to be
finished (RFC 9113, 6.8). The cut is also made behind each frame of headers, so that the machine can look at a stream
between its headers and its data; and behind each end of a stream, for of the frames that h2 is given together it tells
nothing where the last one breaks the protocol, and a whole answer may be among them.
"""

from collections.abc import Iterator

__all__ = ["Cutter", "Goaway", "TooLong"]

DATA, HEADERS, GOAWAY, CONTINUATION = 0x0, 0x1, 0x7, 0x9
HEAD = 9
END_STREAM = 0x1
LONGEST = 1 << 14
"""Bytes of a frame at most, as we never announce anything else."""


class Goaway:
    """A GOAWAY frame."""

    __slots__ = ("code", "last")

    def __init__(self, payload: bytes) -> None:
        self.last = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        self.code = int.from_bytes(payload[4:8], "big")


class TooLong(ValueError):
    """A frame that no peer may send; or no frame at all, but an answer of HTTP/1.1."""


class Cutter:
    """Remembers the frame that a piece of input ended in."""

    __slots__ = ("_behind", "_held", "_rest")

    def __init__(self) -> None:
        self._held = b""
        """The beginning of a frame's head, or of a GOAWAY frame."""
        self._rest = 0
        """Bytes of the current frame that are still to come."""
        self._behind = False
        """The cut is to be made behind that frame."""

    def cut(self, data: bytes) -> Iterator[bytes | Goaway]:
        """Yield what came, in its order; raises TooLong."""
        if self._held:
            data = self._held + data
            self._held = b""
        size = len(data)
        start, at = 0, self._rest
        if self._behind and at <= size:
            yield data[:at]
            start, self._behind = at, False
        while at + HEAD <= size:
            length = int.from_bytes(data[at : at + 3], "big")
            kind, end = data[at + 3], at + HEAD + length
            if length > LONGEST or (kind == GOAWAY and length < 8):
                raise TooLong(f"a frame of {length} bytes, type {kind}")
            if kind == GOAWAY:
                if end > size:
                    break
                if start < at:
                    yield data[start:at]
                yield Goaway(data[at + HEAD : end])
                start = end
            elif kind in {HEADERS, CONTINUATION} or (kind == DATA and data[at + 4] & END_STREAM):
                if end <= size:
                    yield data[start:end]
                    start = end
                else:
                    self._behind = True
            at = end
        if at < size:  # in a head, or in a GOAWAY
            self._held = data[at:]
            self._rest = 0
            size = at
        else:
            self._rest = at - size
        if start < size:
            yield data[start:size]
