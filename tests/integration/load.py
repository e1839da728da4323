"""Steady open-loop load on a Service, from threads and from an event loop at the same time, over one LoadBalancer.

Open loop: a request starts when its time has come, whatever became of those before it, as users do. So a call that
hangs delays nobody, and is seen as what it is. Two kinds of failure are told apart: before the response headers, where
kubelb may and must try elsewhere, and later, in the body, where nobody can.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

import httpx

from kubelb import LoadBalancer
from kubelb.adapters.httpx import AsyncTransport, Transport

THREADS = 24
TIMEOUT = 10.0


class Done(NamedTuple):
    """One request: when it began, and how it ended. `error` is from before the headers, `broken` from after them."""

    began: float
    ended: float
    kind: str
    path: str
    status: int = 0
    backend: str = ""
    error: str = ""
    broken: str = ""


class Load:
    """`rate` requests a second from each of the two worlds, from `with` to its end. A context manager."""

    def __init__(
        self,
        lb: LoadBalancer,
        *,
        rate: float = 40.0,
        method: str = "GET",
        path: Callable[[int], str] = lambda number: f"/{number}?delay={0.3 if number % 3 == 0 else 0}",
    ) -> None:
        self._lb = lb
        self._method = method
        self._path = path
        self._interval = 1.0 / rate
        self._numbers = itertools.count()
        self._origin = f"http://{lb.target.service}.{lb.target.namespace}"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, name=f"load-{run.__name__}") for run in (self._sync, self._aio)]
        self._begun: list[str] = []  # lists, because appending to one is safe from many threads and += 1 is not
        self.done: list[Done] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT + 5.0)
        assert not any(thread.is_alive() for thread in self._threads)

    @property
    def started(self) -> int:
        return len(self._begun)

    @property
    def kinds(self) -> set[str]:
        """The worlds that got answers."""
        return {done.kind for done in list(self.done) if done.status == 200}

    @property
    def errors(self) -> list[str]:
        """What callers saw instead of a response, and answers that are none."""
        return [f"{done.kind} {done.status} {done.error}" for done in self.done if done.error or done.status != 200]

    @property
    def broken(self) -> list[str]:
        return [done.broken for done in self.done if done.broken]

    def backends(self, since: float = 0.0) -> Counter[str]:
        """Who answered, of those requests that began since then."""
        return Counter(done.backend for done in list(self.done) if done.began >= since and done.backend)

    # The two worlds, side by side.

    def _sync(self) -> None:
        with (
            httpx.Client(mounts={self._origin: Transport(self._lb)}, timeout=TIMEOUT) as client,
            ThreadPoolExecutor(THREADS, thread_name_prefix="load") as pool,
        ):
            due = time.monotonic()
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due += self._interval
                pool.submit(self._send, client)

    def _send(self, client: httpx.Client) -> None:
        end = self._begin("sync")
        try:
            response = client.send(client.build_request(self._method, end.url), stream=True)
        except Exception as error:
            end(error=error)
            return
        try:
            response.read()
        except httpx.HTTPError as error:
            end(response, broken=error)
        else:
            end(response)
        finally:
            response.close()

    def _aio(self) -> None:
        asyncio.run(self._aio_main())

    async def _aio_main(self) -> None:
        async with (
            httpx.AsyncClient(mounts={self._origin: AsyncTransport(self._lb)}, timeout=TIMEOUT) as client,
            asyncio.TaskGroup() as tasks,
        ):
            due = time.monotonic()
            while not self._stop.is_set():
                due += self._interval
                tasks.create_task(self._asend(client))
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _asend(self, client: httpx.AsyncClient) -> None:
        end = self._begin("asyncio")
        try:
            response = await client.send(client.build_request(self._method, end.url), stream=True)
        except Exception as error:
            end(error=error)
            return
        try:
            await response.aread()
        except httpx.HTTPError as error:
            end(response, broken=error)
        else:
            end(response)
        finally:
            await response.aclose()

    def _begin(self, kind: str) -> Running:
        path = self._path(next(self._numbers))
        self._begun.append(path)
        return Running(self.done, kind, self._origin, path)


class Running:
    """One request that has begun; called with how it ended."""

    def __init__(self, done: list[Done], kind: str, origin: str, path: str) -> None:
        self.url = origin + path
        self._done, self._kind, self._path = done, kind, path.partition("?")[0]
        self._began = time.monotonic()

    def __call__(self, response: Any = None, *, error: Any = None, broken: Any = None) -> None:
        ended = Done(self._began, time.monotonic(), self._kind, self._path)
        if response is None:
            ended = ended._replace(error="; ".join([repr(error), *getattr(error, "__notes__", ())]))
        else:
            name = response.headers.get("x-backend", "")
            ended = ended._replace(status=response.status_code, backend=name, broken=repr(broken) if broken else "")
        self._done.append(ended)
