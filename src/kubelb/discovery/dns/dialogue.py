"""One question's way through the nameservers: UDP, then TCP where the answer does not fit, then the next one.

    UDP --answer--> done          --cut off--> TCP to the same nameserver --answer--> done
     |                                          |
     +--- silence, refusal, SERVFAIL -----------+--> the next nameserver; after the last, those that were silent again

Sockets never block; the asker waits for them all and says when one is ready or the time of a try is over. Each UDP
socket is connected, so that the kernel drops what comes from elsewhere, tells of a port that nobody listens on, and
gives each question a port of its own that nobody can guess.

A nameserver that said no (SERVFAIL, REFUSED) is not asked a second time: the poller comes back by its own clock.
"""

import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Collection

from kubelb.discovery.dns.message import Query, Refused, Truncated, answers, query, read
from kubelb.discovery.dns.steps import LIES, Answer, Failure, Question
from kubelb.model import Address

__all__ = ["TCP_TIMEOUT", "TIMEOUTS", "Dialogue", "socket_address"]

TIMEOUTS = 1.0, 2.0
"""Seconds that each nameserver is waited for over UDP, in the first and in the second round."""
TCP_TIMEOUT = 5.0
"""Seconds for a whole exchange over TCP: 64 KiB at most."""
_PENDING = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN}


class Dialogue:
    """One question. `sock` is what to wait for (for room to write where `writing`), `until` how long at most.

    `result` is None until the end; `server` is then the one that answered, None where nobody did.
    """

    def __init__(self, question: Question, servers: tuple[Address, ...]) -> None:
        self.question = question
        self.sock: socket.socket | None = None
        self.until = 0.0
        self.writing = False
        self.result: Answer | Failure | None = None
        self.server: Address | None = None
        self._tries = deque((server, timeout) for timeout in TIMEOUTS for server in servers)
        self._failures: dict[Address, Failure] = {}
        self._try: tuple[Address, float] = (("", 0), 0.0)
        self._query: Query = query(question)
        self._tcp = False
        self._out = b""
        self._in = bytearray()

    def begin(self, now: float) -> None:
        """Ask the first nameserver, or the next."""
        self.close()
        while self._tries and self.result is None:
            self._try = self._tries.popleft()
            self._query = query(self.question)
            if self._open(now, tcp=False):
                return
        if self.result is None:
            self.result = self._sum_up()

    def ready(self, now: float) -> None:
        """The socket can be read, or written to."""
        try:
            if self.writing:
                self._write()
            elif self._tcp:
                self._read_stream(now)
            else:
                self._read_datagram(now)
        except OSError as error:
            self._lost(error, now)

    def late(self, now: float) -> None:
        """The time of this try is over."""
        how = "TCP" if self._tcp else "UDP"
        waited = TCP_TIMEOUT if self._tcp else self._try[1]
        cure = f"is the nameserver up, and may this process reach it over {how} (NetworkPolicy, firewall)?"
        self._fail(Failure("silent", f"no answer within {waited:g} s over {how}", cure), now, again=not self._tcp)

    def close(self) -> None:
        """Let go of the socket."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def _open(self, now: float, *, tcp: bool) -> bool:
        server, timeout = self._try
        wire = self._query.wire
        self._tcp = self.writing = tcp
        self._in.clear()
        self._out = struct.pack("!H", len(wire)) + wire if tcp else b""
        self.until = now + (TCP_TIMEOUT if tcp else timeout)
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        try:
            sock = self.sock = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
            sock.setblocking(False)
            _check(sock.connect_ex(socket_address(server)), _PENDING)
            if not tcp:
                sock.send(wire)
        except OSError as error:
            self._note(_unreachable(error, "TCP" if tcp else "UDP"))
            self.close()
            return False
        return True

    def _write(self) -> None:
        assert self.sock is not None
        _check(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        self._out = self._out[self.sock.send(self._out) :]
        self.writing = bool(self._out)

    def _read_datagram(self, now: float) -> None:
        assert self.sock is not None
        try:
            wire = self.sock.recv(65535)
        except BlockingIOError:  # its checksum was wrong, so the kernel dropped it after all
            return
        self._take(wire, now)

    def _read_stream(self, now: float) -> None:
        assert self.sock is not None
        try:
            piece = self.sock.recv(65537)
        except BlockingIOError:
            return
        if not piece:
            cure = "is there something in between that cuts TCP on port 53?"
            self._fail(Failure("unreachable", "it closed the TCP connection without an answer", cure), now)
            return
        self._in += piece
        size = struct.unpack("!H", self._in[:2])[0] + 2 if len(self._in) >= 2 else 2
        if len(self._in) >= size > 2:
            self._take(bytes(self._in[2:size]), now)

    def _take(self, wire: bytes, now: float) -> None:
        message = answers(self._query, wire, tcp=self._tcp)
        if message is None:
            if self._tcp:
                self._fail(Failure("malformed", "what came over TCP is no answer to the question", LIES), now)
            return  # over UDP anybody may have sent it: the real answer may still come
        if isinstance(message, Truncated):
            self.close()
            if not self._open(now, tcp=True):
                self.begin(now)
            return
        found = read(message, self.question)
        if isinstance(found, Refused):
            if found.plain and message.edns < 0 and self._query.message.edns >= 0:
                self._query = query(self.question, edns=False)
                self.close()
                if self._open(now, tcp=self._tcp):
                    return
            cure = "does that nameserver serve this name, and is it well? Its own log tells"
            self._fail(Failure("server-error", found.rcode, cure), now)
        elif isinstance(found, Failure):
            self._fail(found, now)
        else:
            self.result, self.server = found, self._try[0]
            self.close()

    def _lost(self, error: OSError, now: float) -> None:
        self._fail(_unreachable(error, "TCP" if self._tcp else "UDP"), now)

    def _fail(self, failure: Failure, now: float, *, again: bool = False) -> None:
        """This nameserver has no answer; whether it may have one in the next round, `again` says."""
        self._note(failure, again=again)
        self.begin(now)

    def _note(self, failure: Failure, *, again: bool = False) -> None:
        server = self._try[0]
        self._failures[server] = failure
        if not again:
            self._tries = deque(each for each in self._tries if each[0] != server)

    def _sum_up(self) -> Failure:
        """One failure for all nameservers, the last one's if they differ in kind."""
        said = "; ".join(f"{_name(server)}: {failure.reason}" for server, failure in self._failures.items())
        last = next(reversed(self._failures.values()), Failure("unreachable", "no nameserver is known"))
        return last._replace(reason=f"no nameserver has an answer for {self.question} ({said or last.reason})")


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


def _unreachable(error: OSError, how: str) -> Failure:
    cure = "is that the address of a nameserver, and may this process reach it (NetworkPolicy, firewall)?"
    return Failure("unreachable", f"{(error.strerror or type(error).__name__).lower()} over {how}", cure)


def _name(server: Address) -> str:
    ip, port = server
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
