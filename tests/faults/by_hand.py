"""`lb.call` and `lb.acall`, over a client written with bare sockets: a connection for each attempt, HTTP/1.1 on it."""

import asyncio
import socket
import time
from typing import Any

from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.clients import AioClient, Client

import kubelb

__all__ = ["HAND", "Acall", "Call"]

HAND = "by hand"
LONG = 20.0
CONNECT = 1.0


class Told(ConnectionError):
    """503: the pod says that another one may do better. Any OSError means that to `call`."""


def request(ask: Ask) -> bytes:
    head = f"{ask.method} / HTTP/1.1\r\nHost: reviews.prod\r\nx-ask: {ask.marker}\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(ask.body) + ask.body


def judged(data: bytes) -> str | End | None:
    """What an answer says; None while some of it is missing. 503 is an exception, so that `call` hears of it."""
    head, whole, body = data.partition(b"\r\n\r\n")
    if not whole:
        return None
    line, *fields = head.decode().lower().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    if len(body) < int(headers["content-length"]):
        return None
    status, pod = line.split(" ")[1], headers.get("x-backend", "")
    if status == "503":
        raise Told(status, pod)
    return End(How.TOLD, status, pod=pod) if status >= "400" else pod


class _ByHand:
    """What both share."""

    family = HAND
    lb: kubelb.LoadBalancer

    def options(self, ask: Ask) -> dict[str, Any]:
        """What `call` is given beside the function; hints around it say the rest."""
        return {"idempotent": True if ask.allowed is Allowed.YES else None}

    def meaning(self, error: BaseException, *, begun: bool) -> End:
        """The function's own exception; to kubelb an answer has no middle."""
        assert not begun
        if isinstance(error, kubelb.LoadBalancerError):
            late = isinstance(error, kubelb.DeadlineExceeded)
            return End(How.LATE if late else How.UNREACHABLE, type(error).__name__, type(error))
        own = type(error).__name__
        if isinstance(error, Told):
            return End(How.TOLD, str(error.args[0]), pod=error.args[1])
        if isinstance(error, ConnectionRefusedError):
            return End(How.UNREACHABLE, own)
        if isinstance(error, TimeoutError):
            return End(How.LATE, own)
        if isinstance(error, ConnectionError | EOFError):
            return End(How.LOST, own)
        raise error


class Call(_ByHand, Client):
    name = "call"

    def begin_answer(self, ask: Ask) -> Any:
        def exchange(attempt: kubelb.Attempt) -> str | End:
            until = time.monotonic() + (LONG if attempt.timeout is None else attempt.timeout)

            def left(most: float) -> float:
                return max(0.001, min(most, until - time.monotonic()))

            try:
                connected = socket.create_connection(attempt.endpoint.address, timeout=left(CONNECT))
            except OSError as error:
                raise kubelb.NeverSent from error
            with connected as sock:
                sock.settimeout(left(LONG))
                sock.sendall(request(ask))
                data = b""
                while (found := judged(data)) is None:
                    if time.monotonic() >= until:
                        raise TimeoutError("no time left")
                    sock.settimeout(left(ask.timeout or LONG))
                    data += (piece := sock.recv(65536))
                    if not piece:
                        raise EOFError(f"the answer ended after {len(data)} bytes")
                return found

        return self.lb.call(exchange, **self.options(ask))

    def end_answer(self, answer: Any) -> Any:
        return answer

    def give_up(self, answer: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing to close."""


class Acall(_ByHand, AioClient):
    name = "acall"

    async def begin_answer(self, ask: Ask) -> Any:
        async def exchange(attempt: kubelb.Attempt) -> str | End:
            try:
                async with asyncio.timeout(CONNECT):
                    reader, writer = await asyncio.open_connection(*attempt.endpoint.address)
            except OSError as error:
                raise kubelb.NeverSent from error
            try:
                writer.write(request(ask))
                await writer.drain()
                data = b""
                while (found := judged(data)) is None:
                    async with asyncio.timeout(ask.timeout):
                        data += (piece := await reader.read(65536))
                    if not piece:
                        raise EOFError(f"the answer ended after {len(data)} bytes")
            finally:
                writer.close()
            return found

        return await self.lb.acall(exchange, **self.options(ask))

    async def end_answer(self, answer: Any) -> Any:
        return answer

    async def give_up(self, answer: Any) -> Any:
        raise NotImplementedError
