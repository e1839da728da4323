"""The asyncio half: httpx, httpx2 (HTTP/1.1 and HTTP/2), grpc.aio and `acall`, on one loop that stalls now and then.

Every fifth call is cancelled, in one of the ways in which users cancel. A CancelledError that comes out where none of
them did is noted as a fault.
"""

import asyncio
import gc
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import grpc
import grpc.aio
import httpx
import httpx2
from tests.soak.kinds import Plan, request
from tests.soak.ledger import Ledger
from tests.soak.places import Places
from tests.soak.threads import BARE, PAUSE, named
from tests.soak.verdict import CANCELLED, PAST_SCOPE, UNASKED

import kubelb
from kubelb.adapters import httpx as over_httpx
from kubelb.adapters import httpx2 as over_httpx2
from kubelb.adapters.grpc import aio

__all__ = ["AioHalf"]

Make = Callable[[str, Plan], Awaitable[object]]
STALL = (0.05, 0.1, 0.3, 1.0)
"""Seconds for which the loop does nothing, as with a large JSON document."""
STALLS = 2.0
"""Seconds between two stalls, on average."""
CLOSING = 20.0


class AioHalf:
    """The same life as `SyncHalf`, on a loop in a thread of its own."""

    def __init__(self, places: Places, ledger: Ledger, balancers: dict[str, kubelb.LoadBalancer], seed: int) -> None:
        self._places = places
        self._ledger = ledger
        self._balancers = balancers
        self._seed = seed
        self._over = asyncio.Event()
        self._open: list[Any] = []
        self.left: list[str] = []
        """Tasks that were there when all calls had ended and all clients were closed."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    def end(self) -> None:
        """End the calls, close the clients and the loop."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(90.0)
        assert not self._thread.is_alive(), "the loop has not ended: a call cannot be cancelled, or a close hangs"

    async def _main(self) -> None:
        pairs = {
            "httpx async": self._httpx(httpx, over_httpx, http2=False),
            "httpx 2 async": self._httpx(httpx2, over_httpx2, http2=False),
            "httpx async h2": self._httpx(httpx, over_httpx, http2=True),
            "grpc aio": self._grpc(),
            "call async": self._call(),
        }
        workers = [
            asyncio.ensure_future(self._work(name, *pair, random.Random(f"{self._seed} {name} {number}")))
            for name, pair in pairs.items()
            for number in range(3)
        ]
        workers.append(asyncio.ensure_future(self._stall(random.Random(self._seed))))
        for worker in workers:
            await worker
        gc.collect()
        for client in reversed(self._open):
            await asyncio.wait_for(client.aclose() if hasattr(client, "aclose") else client.close(), CLOSING)
        end = time.monotonic() + 5.0
        while (left := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self.left = [repr(task) for task in left]

    async def _stall(self, dice: random.Random) -> None:
        while not self._over.is_set():
            await asyncio.sleep(dice.uniform(0, 2 * STALLS))
            time.sleep(dice.choice(STALL))  # noqa: ASYNC251  # that is the fault

    async def _work(self, name: str, make: Make, bare: Make, dice: random.Random) -> None:
        while not self._over.is_set():
            await asyncio.sleep(dice.uniform(0, 2 * PAUSE))
            plan = Plan.drawn(dice)
            client, how = (f"bare {name}", bare) if dice.random() < BARE else (name, make)
            mark = self._ledger.mark(client.replace(" ", "-"), once=plan.once)
            task = asyncio.ensure_future(self._one(client, how, mark, plan, dice))
            asked = plan.cancel is not None and dice.random() < 0.5
            if asked:
                for again in range(dice.choice([1, 1, 2])):
                    self._loop.call_later(plan.cancel * (1 + again / 10), task.cancel)
            try:
                await task
            except asyncio.CancelledError:
                how_ended = CANCELLED if asked else PAST_SCOPE if plan.cancel is not None else UNASKED
                self._ledger.ended(client, mark, how_ended)

    async def _one(self, client: str, make: Make, mark: str, plan: Plan, dice: random.Random) -> None:
        way = dice.choice(["", "asyncio", "anyio", "wait_for"]) if plan.cancel is not None else ""
        bound = plan.cancel or 0.0
        try:
            if way == "asyncio":
                async with asyncio.timeout(bound):
                    await make(mark, plan)
            elif way == "anyio":
                with anyio.fail_after(bound):
                    await make(mark, plan)
            elif way == "wait_for":
                await asyncio.wait_for(make(mark, plan), bound)
            else:
                await make(mark, plan)
        except Exception as error:
            how = CANCELLED if way and type(error) is TimeoutError else named(error)
            self._ledger.ended(client, mark, how)
        else:
            self._ledger.ended(client, mark, "ok")

    def _opened(self, client: Any) -> Any:
        self._open.append(client)
        return client

    def _httpx(self, module: Any, adapter: Any, *, http2: bool) -> tuple[Make, Make]:
        places = self._places
        verify = places.verify
        if http2:
            transport = adapter.AsyncTransport(
                self._balancers["pages"], hosts=["pages.prod"], verify=verify, http2=True
            )
            ours = self._opened(module.AsyncClient(transport=self._opened(transport)))
            bare = self._opened(module.AsyncClient(http2=True, verify=verify, trust_env=False))
            bases = "https://pages.prod", [f"https://{address}" for address in places.pages]
        else:
            transport = self._opened(adapter.AsyncTransport(self._balancers["web"]))
            ours = self._opened(module.AsyncClient(mounts={"http://web.prod": transport}))
            bare = self._opened(module.AsyncClient(trust_env=False))
            bases = "http://web.prod", [f"http://{address}" for address in places.web]

        async def send(client: Any, base: str, mark: str, plan: Plan) -> None:
            response = await client.send(request(client, base, mark, plan), stream=True)
            if plan.how == "drop":
                return
            try:
                if plan.how == "read":
                    await response.aread()
                else:
                    async for _part in response.aiter_raw(10):
                        break
            finally:
                await response.aclose()

        return (
            lambda mark, plan: send(ours, bases[0], mark, plan),
            lambda mark, plan: send(bare, places.one(bases[1]), mark, plan),
        )

    def _grpc(self) -> tuple[Make, Make]:
        ours = self._opened(aio.insecure_channel(self._balancers["rpc"]))
        bare = [self._opened(grpc.aio.insecure_channel(address)) for address in self._places.rpc]

        async def send(channel: Any, mark: str, plan: Plan) -> None:
            said = {"timeout": plan.timeout, "metadata": [("x-mark", mark)]}
            if plan.path == "/stream":
                call = channel.unary_stream("/kubelb.testing.Echo/ServerStream")(b"x" * plan.size, **said)
                async for _message in call:
                    if plan.how == "leave":
                        call.cancel()
                        return
                return
            await channel.unary_unary("/kubelb.testing.Echo/Unary")(b"x" * plan.size, **said)

        return (
            lambda mark, plan: send(ours, mark, plan),
            lambda mark, plan: send(self._places.one(bare), mark, plan),
        )

    def _call(self) -> tuple[Make, Make]:
        async def send(address: str, mark: str, plan: Plan) -> None:
            host, port = address.rsplit(":", 1)
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                method = "POST" if plan.once else "GET"
                writer.write(f"{method} {plan.path} HTTP/1.1\r\nHost: web.prod\r\nx-mark: {mark}\r\n".encode())
                writer.write(b"Connection: close\r\nContent-Length: 0\r\n\r\n")
                if not (await reader.read()).startswith(b"HTTP/1.1"):
                    raise EOFError("no answer")
            finally:
                writer.close()

        async def ours(mark: str, plan: Plan) -> None:
            async def once(attempt: kubelb.Attempt) -> None:
                await send(attempt.endpoint.authority, mark, plan)

            await self._balancers["web"].acall(once, deadline=plan.timeout, idempotent=not plan.once)

        async def bare(mark: str, plan: Plan) -> None:
            await asyncio.wait_for(send(self._places.one(self._places.web), mark, plan), plan.timeout)

        return ours, bare
