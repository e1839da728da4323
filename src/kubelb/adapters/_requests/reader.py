"""The reading end of a socket, every read within the bounds of its attempt.

http.client reads status line and headers through a file made from the socket, and a socket's timeout begins anew with
each read. This file sets the timeout before each read to what is left. A connection that the kernel has ended, for its
peer has vanished, is told from a timeout: that may be one that the client does not even have.
"""

import io
import socket
from typing import Any

from kubelb.adapters._requests.bounds import Bounds
from kubelb.adapters.sockets import aborted, gone

__all__ = ["Reading"]


class Reading:
    """Stands for a socket where http.client makes the file of a response."""

    def __init__(self, sock: socket.socket, bounds: Bounds) -> None:
        self._sock = sock
        self._bounds = bounds

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002
        """Return a buffered file for reading."""
        return io.BufferedReader(_Raw(self._sock, self._bounds))


class _Raw(io.RawIOBase):
    def __init__(self, sock: socket.socket, bounds: Bounds) -> None:
        self._sock = sock
        self._bounds = bounds
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._bounds.until is not None:
            self._sock.settimeout(self._bounds.left())
        try:
            return self._file.readinto(buffer)
        except TimeoutError as error:
            if gone(error):
                raise aborted(error) from error
            raise

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()
