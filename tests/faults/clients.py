"""What every client of the table can be told to do, whatever it is underneath.

    client.ask(ask)      to its end, which is an End and never an exception
    client.open(ask)     only until the answer has begun: a Held, whose rest is finished, given up or dropped
    client.begin(ask)    in the background: a Going, which can be cancelled where the client knows how

The asyncio ones live on a loop in a thread of its own, so a test reads the same for all.
"""

import asyncio
import gc
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from functools import cache
from typing import Any

from tests.faults.asking import Ask, End, How

import kubelb

__all__ = ["AioClient", "Client", "Going", "Held"]

PATIENCE = 40.0
"""Seconds after which a call that has not ended is a failure of the test."""


class Client(ABC):
    """One client over one load balancer."""

    name: str
    family: str
    """`HTTP`, `RPC` (one response), `STREAM` (many) or `HAND` (a function of the user's)."""

    def __init__(self, lb: kubelb.LoadBalancer) -> None:
        self.lb = lb

    # What a client brings along; of the asyncio ones the first three are coroutines.

    @abstractmethod
    def begin_answer(self, ask: Ask) -> Any:
        """Send, and return when the answer has begun; where it comes as a whole, when it is here."""

    @abstractmethod
    def end_answer(self, answer: Any) -> Any:
        """Read the rest; returns the name of the pod, or an End where the pod told of an error."""

    @abstractmethod
    def give_up(self, answer: Any) -> Any:
        """Leave an answer that has begun."""

    @abstractmethod
    def meaning(self, error: BaseException, *, begun: bool) -> End:
        """Return the End that an exception stands for; raises what no user of this client expects."""

    @abstractmethod
    def close(self) -> None:
        """Close it; the load balancer stays open."""

    def connected(self, count: int) -> None:  # noqa: B027
        """Wait for so many connections, where they are made ahead of need."""

    def noticed(self, count: int) -> None:  # noqa: B027
        """Wait until it knows of no more connections than that, where it keeps them."""

    def cancel(self) -> None:
        """End what `begin` began."""
        raise NotImplementedError(f"{self.name} cannot be cancelled")

    def call_object(self, ask: Ask) -> Any:
        """Return what stands for a call before its answer, where there is such a thing."""
        raise NotImplementedError(f"{self.name} has no call objects")

    # What tests do with it

    def ask(self, ask: Ask) -> End:
        """Make the call and see it to its end."""
        held = self.open(ask)
        return held if isinstance(held, End) else held.finish()

    def open(self, ask: Ask) -> "Held | End":
        """Make the call until its answer has begun."""
        try:
            with ask.hints():
                return Held(self, self.do(self.begin_answer, ask))
        except (Exception, CancelledError) as error:
            return self.ended(error, begun=False)

    def begin(self, ask: Ask) -> "Going":
        """Make the call in the background."""
        return Going(self, ask)

    def ask_in_child(self, ask: Ask) -> End:
        """Make the call in a forked child."""
        return self.ask(ask)

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call it, or run the coroutine that it returns."""
        return function(*args)

    def ended(self, error: BaseException, *, begun: bool) -> End:
        """Return the End that an exception stands for."""
        if isinstance(error, CancelledError | asyncio.CancelledError):
            return End(How.CANCELLED, type(error).__name__)
        end = self.meaning(error, begun=begun)
        tries = len(getattr(error, "__notes__", ()))
        return End(end.how, end.own, end.refusal, end.pod, tries)


class Held:
    """An answer that has begun."""

    def __init__(self, client: Client, answer: Any) -> None:
        self._client = client
        self._answer = answer

    def finish(self) -> End:
        """Read the rest."""
        answer, self._answer = self._answer, None
        client = self._client
        try:
            found = client.do(client.end_answer, answer)
        except (Exception, CancelledError) as error:
            return client.ended(error, begun=True)
        return found if isinstance(found, End) else End(How.ANSWERED, pod=found)

    def give_up(self) -> None:
        """Close or cancel it."""
        answer, self._answer = self._answer, None
        self._client.do(self._client.give_up, answer)

    def drop(self) -> None:
        """Forget it, as a user does who does not know better."""
        self._answer = None
        gc.collect()


class Going:
    """A call under way in a thread of its own."""

    def __init__(self, client: Client, ask: Ask) -> None:
        self._client = client
        self._end: Future[End] = Future()
        self._thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._thread.start()

    def _run(self, ask: Ask) -> None:
        try:
            self._end.set_result(self._client.ask(ask))
        except BaseException as error:
            self._end.set_exception(error)

    def cancel(self) -> None:
        """End it from outside."""
        self._client.cancel()

    def end(self) -> End:
        """Wait for it."""
        end = self._end.result(PATIENCE)
        self._thread.join()
        return end


@cache
def the_loop() -> asyncio.AbstractEventLoop:
    """For all: grpcio loses its way where one loop is closed while another one goes on (grpc.aio, not kubelb)."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="the-loop", daemon=True).start()
    return loop


class AioClient(Client):
    """A client of asyncio, on the loop of all of them."""

    def __init__(self, lb: kubelb.LoadBalancer) -> None:
        super().__init__(lb)
        self._running: set[asyncio.Task[Any]] = set()
        self.run(self.start())

    async def start(self) -> None:
        """What has to be made on the loop."""

    async def stop(self) -> None:
        """What has to be closed there."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the loop, in the context of now."""
        return asyncio.run_coroutine_threadsafe(coroutine, the_loop()).result(PATIENCE)

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.run(self._noted(function(*args)))

    async def _noted(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await coroutine
        finally:
            self._running.discard(task)

    def cancel(self) -> None:
        def cancel_all() -> None:
            for task in self._running:
                task.cancel()

        the_loop().call_soon_threadsafe(cancel_all)

    def ask_in_child(self, ask: Ask) -> End:
        """On a loop of the child's: the parent's does not run there."""
        self._running = set()
        with asyncio.Runner() as runner:
            self.run = runner.run  # type: ignore[method-assign]
            return self.ask(ask)

    def close(self) -> None:
        self.run(self.stop())
