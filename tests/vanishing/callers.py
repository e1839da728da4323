"""Every adapter by three verbs: made over a load balancer, asked, closed."""

import asyncio
import importlib
from itertools import product
from typing import Any

import grpc
import requests

from kubelb.adapters import grpc as balanced

# Loaded here: pytest rewrites them as it loads them, which CPython 3.11 does not survive in several threads at once.
from kubelb.adapters._httpx.http2 import apool, pool  # noqa: F401
from kubelb.adapters.grpc import aio
from kubelb.adapters.requests import Adapter

__all__ = ["Caller", "Requests", "http", "rpc"]

URL = "http://reviews.prod/"
ECHO = "/test.Echo/UU"
FOREVER: Any = None
SHORT = [("grpc.keepalive_timeout_ms", 2000)]


class Caller:
    """`ask` posts and returns the answer's text, or the name of the exception; it waits for ever."""

    name: str
    http2 = rpc = False

    def open(self, lb: Any, short: Any = None) -> None:
        """With the default options, or such as find a vanished node in `short` time, as sockets have them."""
        raise NotImplementedError

    def ask(self, body: bytes | None = None) -> str:
        try:
            return self.asked(body)
        except Exception as error:
            return type(error).__name__

    def asked(self, body: bytes | None) -> str:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Httpx(Caller):
    def __init__(self, module: str, http2: bool) -> None:
        self.name = f"{module} http2" if http2 else module
        self.http2 = http2
        self._module = importlib.import_module(module)
        self._adapter = importlib.import_module(f"kubelb.adapters.{module}")

    def open(self, lb: Any, short: Any = None) -> None:
        protocols = {"http1": False, "http2": True} if self.http2 else {}
        limits = self._module.Limits(keepalive_expiry=None)
        self._open(lb, limits=limits, socket_options=short, **protocols)

    def _open(self, lb: Any, **options: Any) -> None:
        self._client = self._module.Client(transport=self._adapter.Transport(lb, **options), timeout=FOREVER)

    def asked(self, body: bytes | None) -> str:
        return self._client.post(URL, content=body).text

    def close(self) -> None:
        self._client.close()


class AioHttpx(Httpx):
    def __init__(self, module: str, http2: bool) -> None:
        super().__init__(module, http2)
        self.name = f"async {self.name}"

    def _open(self, lb: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = self._module.AsyncClient(transport=self._adapter.AsyncTransport(lb, **options), timeout=FOREVER)

    def asked(self, body: bytes | None) -> str:
        return self._runner.run(self._client.post(URL, content=body)).text

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


class Requests(Caller):
    name = "requests"

    def open(self, lb: Any, short: Any = None) -> None:
        self._session = requests.Session()
        self._session.mount("http://", Adapter(lb, socket_options=short))

    def asked(self, body: bytes | None) -> str:
        return self._session.post(URL, data=body).text

    def close(self) -> None:
        self._session.close()


class Grpc(Caller):
    name = "grpc"
    rpc = True

    def open(self, lb: Any, short: Any = None) -> None:
        self._channel = balanced.insecure_channel(lb, SHORT if short else None)

    def asked(self, body: bytes | None) -> str:
        return "ok" if self._channel.unary_unary(ECHO)(body or b"") else ""

    def ask(self, body: bytes | None = None) -> str:
        try:
            return self.asked(body)
        except grpc.RpcError as error:
            return error.code().name  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        self._channel.close()


class AioGrpc(Grpc):
    name = "grpc.aio"

    def open(self, lb: Any, short: Any = None) -> None:
        self._runner = asyncio.Runner()
        self._aio = aio.insecure_channel(lb, SHORT if short else None)

    def asked(self, body: bytes | None) -> str:
        async def call() -> bytes:
            return await self._aio.unary_unary(ECHO)(body or b"")

        return "ok" if self._runner.run(call()) else ""

    def close(self) -> None:
        self._runner.run(self._aio.close())
        self._runner.close()


def http() -> list[Caller]:
    """New ones."""
    kinds = product((Httpx, AioHttpx), ("httpx", "httpx2"), (False, True))
    return [*(kind(module, http2) for kind, module, http2 in kinds), Requests()]


def rpc() -> list[Caller]:
    """New ones."""
    return [Grpc(), AioGrpc()]
