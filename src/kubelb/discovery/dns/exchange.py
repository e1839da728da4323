"""One query to one nameserver over one socket: bytes out, the bytes of one answer in.

Sockets never block; what waits for them says when one is ready. Each UDP socket is connected, so that the kernel
drops what comes from elsewhere, tells of a port that nothing listens on, and gives each question a port of its own that
cannot be guessed.
"""

import errno
import os
import socket
import struct
from collections.abc import Collection

from kubelb.discovery.dns.manners import Way
from kubelb.discovery.dns.message import Query
from kubelb.discovery.dns.steps import LIES, Failure
from kubelb.model import Address

__all__ = ["Exchange", "socket_address"]

_PENDING = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN}


class Exchange:
    """`sock` is what to wait for, for room to write where `writing`.

    `number` is that of the try that it belongs to, `waits` how many seconds it is given before another is tried.
    `instead` says that the nameserver was heard, and asked to be asked in this way.
    """

    def __init__(
        self, server: Address, way: Way, query: Query, *, number: int, waits: float, instead: bool = False
    ) -> None:
        self.server = server
        self.way = way
        self.query = query
        self.number = number
        self.waits = waits
        self.instead = instead
        self.writing = way is Way.TCP
        self._out = struct.pack("!H", len(query.wire)) + query.wire if self.writing else b""
        self._in = bytearray()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM if self.writing else socket.SOCK_DGRAM)
        try:
            self.sock.setblocking(False)
            _check(self.sock.connect_ex(socket_address(server)), _PENDING)
            if not self.writing:
                self.sock.send(query.wire)
        except OSError:
            self.sock.close()
            raise

    def ready(self) -> bytes | Failure | None:
        """The socket can be read, or written to: return the whole answer, or why there will be none."""
        try:
            if self.writing:
                self._write()
                return None
            return self._read_stream() if self.way is Way.TCP else self._read_datagram()
        except OSError as error:
            return self.lost(error)

    def lost(self, error: OSError) -> Failure:
        """What that error means."""
        return unreachable(error, self.way)

    def close(self) -> None:
        """Let go of the socket."""
        self.sock.close()

    def _write(self) -> None:
        _check(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        self._out = self._out[self.sock.send(self._out) :]
        self.writing = bool(self._out)

    def _read_datagram(self) -> bytes | None:
        try:
            return self.sock.recv(65535)
        except BlockingIOError:  # its checksum was wrong, so the kernel dropped it after all
            return None

    def _read_stream(self) -> bytes | Failure | None:
        try:
            piece = self.sock.recv(65537)
        except BlockingIOError:
            return None
        if not piece:
            cure = "is there something in between that cuts TCP on port 53?"
            return Failure("unreachable", "it closed the TCP connection without an answer", cure)
        self._in += piece
        size = struct.unpack("!H", self._in[:2])[0] + 2 if len(self._in) >= 2 else 2
        if size == 2 and len(self._in) >= 2:
            return Failure("malformed", "what came over TCP is an answer of no bytes", LIES)
        return bytes(self._in[2:size]) if len(self._in) >= size > 2 else None


def unreachable(error: OSError, way: Way) -> Failure:
    """The failure of a nameserver to which there is no way."""
    cure = "is that the address of a nameserver, and may this process reach it (NetworkPolicy, firewall)?"
    return Failure("unreachable", f"{(error.strerror or type(error).__name__).lower()} over {way.how}", cure)


def socket_address(server: Address) -> tuple[str, int] | tuple[str, int, int, int]:
    """What `connect` takes: a link-local nameserver (``fe80::1%eth0``) is dialled on its own link, and on no other.

    Of a pair `connect` keeps the address and forgets the link.
    """
    ip, port = server
    if "%" not in ip:
        return server
    found = socket.getaddrinfo(ip, port, socket.AF_INET6, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    address, port, flow, link = found[0][4]  # type: ignore[misc]
    return address, port, flow, link


def _check(code: int, fine: Collection[int] = ()) -> None:
    if code and code not in fine:
        raise OSError(code, os.strerror(code))
