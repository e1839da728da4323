"""One way to write a test for four clients: httpx and httpx2, sync and asyncio.

A `World` has the verbs of a client. The asyncio ones run each verb to its end on an event loop of the world's own, so a
test reads the same in both; tests about concurrency use the event loop themselves.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextvars import copy_context
from types import ModuleType
from typing import Any

NAMES = ("httpx", "httpx2")


class World:
    """The sync world."""

    aio = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.httpx: Any = importlib.import_module(name)
        self.adapter: ModuleType = importlib.import_module(f"kubelb.adapters.{name}")
        self._clients: list[Any] = []

    def transport(self, lb: Any, **options: Any) -> Any:
        return self.adapter.Transport(lb, **options)

    def client(self, lb: Any, *, tls: dict[str, Any] | None = None, mounts: Any = None, **options: Any) -> Any:
        """A client over a transport for `lb` (or over `mounts`), closed when the test ends."""
        if mounts is None:
            options["transport"] = self.transport(lb, **(tls or {}))
        options.setdefault("timeout", 5.0)
        client = self._make(mounts=mounts, **options)
        self._clients.append(client)
        return client

    def _make(self, **options: Any) -> Any:
        return self.httpx.Client(**options)

    def request(self, client: Any, method: str, url: str, **options: Any) -> Any:
        return client.request(method, url, **options)

    def get(self, client: Any, url: str, **options: Any) -> Any:
        return self.request(client, "GET", url, **options)

    def open(self, client: Any, method: str, url: str, **options: Any) -> Any:
        """A response whose body has not been read."""
        return client.send(client.build_request(method, url, **options), stream=True)

    def read(self, response: Any) -> bytes:
        return response.read()

    def chunks(self, response: Any, count: int | None = None) -> list[bytes]:
        """The raw body in pieces, or the first `count` of them, whereupon the iteration is abandoned."""
        found = []
        for part in response.iter_raw():
            found.append(part)
            if len(found) == count:
                break
        return found

    def close(self, thing: Any) -> None:
        thing.close()

    def body(self, parts: Iterable[bytes]) -> Any:
        """A request body that can be produced once."""

        def produce() -> Iterator[bytes]:
            yield from parts

        return produce()

    def breathe(self, seconds: float = 0.0) -> None:
        """Let what was put off happen."""

    def end(self) -> None:
        for client in self._clients:
            client.close()


class AioWorld(World):
    """The asyncio world."""

    aio = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.runner = asyncio.Runner()

    def run(self, coroutine: Any) -> Any:
        """Run it to its end in the context of now; a runner's own is that of its first use."""
        return self.runner.run(coroutine, context=copy_context())

    def transport(self, lb: Any, **options: Any) -> Any:
        return self.adapter.AsyncTransport(lb, **options)

    def _make(self, **options: Any) -> Any:
        return self.httpx.AsyncClient(**options)

    def request(self, client: Any, method: str, url: str, **options: Any) -> Any:
        return self.run(client.request(method, url, **options))

    def open(self, client: Any, method: str, url: str, **options: Any) -> Any:
        return self.run(client.send(client.build_request(method, url, **options), stream=True))

    def read(self, response: Any) -> bytes:
        return self.run(response.aread())

    def chunks(self, response: Any, count: int | None = None) -> list[bytes]:
        async def collect() -> list[bytes]:
            found = []
            async for part in response.aiter_raw():
                found.append(part)
                if len(found) == count:
                    break
            return found

        return self.run(collect())

    def close(self, thing: Any) -> None:
        self.run(thing.aclose())

    def body(self, parts: Iterable[bytes]) -> Any:
        async def produce() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return produce()

    def breathe(self, seconds: float = 0.0) -> None:
        self.run(asyncio.sleep(seconds))

    def end(self) -> None:
        for client in self._clients:
            self.run(client.aclose())
        self.runner.close()
