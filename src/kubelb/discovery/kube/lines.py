"""A stream of bytes, cut anywhere, back into lines.

A watch event is one line, and one of a 1000-endpoint slice is 360 KB: parts are kept in a list and joined once, so that
a long line that arrives in small pieces costs its length and not its square. Lines stay bytes, so a cut inside a UTF-8
character means nothing.
"""

__all__ = ["LONGEST", "LineTooLongError", "Lines"]

LONGEST = 16 << 20
"""Bytes. etcd stores at most 1.5 MB an object; whatever is ten times that is no event."""


class LineTooLongError(ValueError):
    """Whatever is being received, it is not a watch."""


class Lines:
    """Feed it chunks, get whole lines; what is left without an end is dropped with the stream."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends, empty ones left out."""
        *ended, rest = chunk.split(b"\n")
        if ended:
            ended[0] = b"".join((*self._parts, ended[0]))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > LONGEST:
                raise LineTooLongError(f"a line of more than {LONGEST >> 20} MiB")
        return [line for line in ended if line.strip()]
