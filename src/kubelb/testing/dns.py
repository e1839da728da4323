"""`cluster.dns`: a nameserver for the names of a test cluster, over UDP and TCP on one port."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubelb.testing.connection import Connection
from kubelb.testing.doorman import Doorman
from kubelb.testing.server import Server
from kubelb.testing.zone import DOMAIN, Answer, Record, Zone

if TYPE_CHECKING:
    import dns.message
    import dns.rrset

__all__ = ["Dns"]

LARGEST = 65535


class Dns:
    """A nameserver that says what CoreDNS would, of the slices that there are, and as much trouble as a test wants.

        lb = kubelb.LoadBalancer(f"dns+srv://{cluster.dns.address}/_http._tcp.reviews.prod.svc.cluster.local")
        cluster.dns.down()                      # refused, until up()
        cluster.dns.freeze()                    # silent, until thaw()
        cluster.dns.freeze("AAAA")              # to questions of that type alone
        cluster.dns.fail("SERVFAIL", times=2)
        assert "SRV _http._tcp.reviews.prod.svc.cluster.local." in cluster.dns.questions

    Switches stay until they are turned back, one by one or all by `heal()`. `ttl` is that of every answer, in seconds.
    """

    def __init__(self, zone: Zone, doorman: Doorman, *, ttl: int = 1) -> None:
        self.ttl = ttl
        self._zone = zone
        self._doorman = doorman
        self._questions: deque[str] = deque(maxlen=100_000)
        self._lock = threading.Lock()
        self._silent = False
        self._silent_to: frozenset[str] = frozenset()
        """Where it is silent: to these types; to all where there are none."""
        self._rcode = ""
        self._times: int | None = None
        self._udp: socket.socket | None = None
        self._tcp, udp = self._bind()
        self._udp = udp
        self._watch(udp)
        _servers.add(self)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, for a target's nameserver."""
        return f"{self._tcp.host}:{self._tcp.port}"

    def target(self, name: str, port: str | int) -> str:
        """The target of a Service "NAME.NAMESPACE": by SRV for a port's name, by A records for a number."""
        host = f"{name}.svc.{DOMAIN.rstrip('.')}"
        if isinstance(port, int):
            return f"dns://{self.address}/{host}:{port}"
        return f"dns+srv://{self.address}/_{port}._tcp.{host}"

    @property
    def questions(self) -> list[str]:
        """Every question so far as "SRV name.", oldest first (the newest 100 000)."""
        return list(self._questions)

    def down(self) -> None:
        """The server dies: questions are refused."""
        with self._lock:
            udp, self._udp = self._udp, None
        if udp is not None:
            self._doorman.remove(udp)
            udp.close()
        self._tcp.unlisten()
        self._tcp.cut()

    def up(self) -> None:
        """It is back, on the same port."""
        with self._lock:
            if self._udp is not None:
                return
            udp = self._udp = _udp(self._tcp.host, self._tcp.port)
        self._watch(udp)
        self._tcp.listen()

    def freeze(self, *kinds: str) -> None:
        """Questions are taken and not answered: all, or those of record types such as ``"AAAA"`` and ``"SRV"``."""
        import dns.rdatatype

        known = frozenset(dns.rdatatype.to_text(dns.rdatatype.from_text(kind)) for kind in kinds)
        self._silent, self._silent_to = True, known

    def thaw(self) -> None:
        """New questions are answered; those that came meanwhile are not."""
        self._silent = False

    def fail(self, rcode: str = "SERVFAIL", *, times: int | None = None) -> None:
        """Answer with that code: the next `times` questions, or until `heal()`."""
        import dns.rcode

        dns.rcode.from_text(rcode)  # raises for what is none
        with self._lock:
            self._rcode, self._times = rcode, times

    def heal(self) -> None:
        """Every switch back."""
        with self._lock:
            self._silent, self._rcode, self._times = False, "", None
        self.up()

    def shut(self) -> None:
        """End for good; `join` waits for the threads of connections. The cluster does this when it closes."""
        self.down()
        self._tcp.shut()

    def join(self, until: float) -> None:
        """Wait no longer than to `until` (`time.monotonic()`)."""
        self._tcp.join(until)

    def abandon(self) -> None:
        """In a child after a fork: a copy that stays open would keep the port."""
        if self._udp is not None:
            self._udp.close()

    def __repr__(self) -> str:
        return f"<Dns {self.address} {'down' if self._udp is None else 'silent' if self._silent else 'up'}>"

    # -- the wire

    def _bind(self) -> tuple[Server, socket.socket]:
        """TCP and UDP on one port, which may be free for one of them alone."""
        for _ in range(64):
            tcp = Server(self._doorman, "127.0.0.1", None, self._serve, name="kubelb-testing-dns")
            try:
                return tcp, _udp(tcp.host, tcp.port)
            except OSError as error:
                tcp.shut()
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "no port is free for TCP and UDP")

    def _watch(self, udp: socket.socket) -> None:
        self._doorman.add(udp, lambda: self._datagram(udp))

    def _datagram(self, udp: socket.socket) -> None:
        try:
            wire, peer = udp.recvfrom(LARGEST)
            reply = self._reply(wire, tcp=False)
            if reply is not None:
                udp.sendto(reply, peer)
        except OSError:  # closed meanwhile, or the peer is gone
            return

    def _serve(self, connection: Connection) -> None:
        sock = connection.sock
        while len(head := _exactly(sock, 2)) == 2:
            (size,) = struct.unpack("!H", head)
            reply = self._reply(_exactly(sock, size), tcp=True)
            if reply is not None:
                sock.sendall(struct.pack("!H", len(reply)) + reply)

    def _reply(self, wire: bytes, *, tcp: bool) -> bytes | None:
        import dns.exception
        import dns.message
        import dns.rcode
        import dns.rdatatype

        try:
            query = dns.message.from_wire(wire)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        name, kind = str(question.name).lower(), dns.rdatatype.to_text(question.rdtype)
        self._questions.append(f"{kind} {name}")
        if self._silent and (not self._silent_to or kind in self._silent_to):
            return None
        reply = dns.message.make_response(query, recursion_available=False)
        if query.edns > 0:
            reply.use_edns(0)
            reply.set_rcode(dns.rcode.BADVERS)
            return reply.to_wire()
        rcode = self._failure()
        answer = None if rcode else self._zone.ask(name, kind)
        if answer is None:
            reply.set_rcode(dns.rcode.from_text(rcode or "REFUSED"))
            return reply.to_wire()
        limit = LARGEST if tcp else max(512, query.payload if query.edns >= 0 else 0)
        return self._fit(reply, answer, limit)

    def _failure(self) -> str:
        with self._lock:
            if self._times is None:
                return self._rcode
            self._times -= 1
            return self._rcode if self._times >= 0 else ""

    def _fit(self, reply: dns.message.Message, answer: Answer, limit: int) -> bytes:
        """All of it, or as many records as fit, with the mark that says so (TC)."""
        import dns.exception
        import dns.flags
        import dns.rcode

        reply.flags |= dns.flags.AA
        if not answer.exists:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        if not answer.records:
            soa = f"ns.dns.{DOMAIN} hostmaster.{DOMAIN} 1 7200 1800 86400 {self.ttl}"
            reply.authority = self._rrsets([Record(DOMAIN, "SOA", soa)])
            return reply.to_wire()
        reply.answer = self._rrsets(answer.records)
        reply.additional = self._rrsets(answer.extra)
        try:
            return reply.to_wire(max_size=limit)
        except dns.exception.TooBig:
            reply.flags |= dns.flags.TC
            reply.answer = reply.additional = []
        fits = reply.to_wire()
        least, most = 0, len(answer.records)
        while most - least > most // 16:  # halving: to the sixteenth, which no client can tell from the last record
            count = (least + most + 1) // 2
            reply.answer = self._rrsets(answer.records[:count])
            try:
                fits, least = reply.to_wire(max_size=limit), count
            except dns.exception.TooBig:
                most = count - 1
        return fits

    def _rrsets(self, records: Sequence[Record]) -> list[dns.rrset.RRset]:
        import dns.rrset

        groups: dict[tuple[str, str], list[str]] = {}
        for record in records:
            groups.setdefault((record.name, record.kind), []).append(record.text)
        return [dns.rrset.from_text_list(name, self.ttl, "IN", kind, texts) for (name, kind), texts in groups.items()]


def _udp(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer at the end."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


_servers: weakref.WeakSet[Dns] = weakref.WeakSet()


def _abandon_all() -> None:
    for server in list(_servers):
        server.abandon()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_abandon_all)
