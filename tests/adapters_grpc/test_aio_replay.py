"""Laws of request streams for asyncio: whatever attempts come, die and wait, each reads the messages in their order."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubelb.adapters._grpc.aio.replay import AioReplay, Written
from kubelb.adapters._grpc.shared.replay import FEW, LIMIT

END = object()


class Source:
    """Gives messages when it is told to, `written` or from an iterator; notes how often it is entered at a time."""

    def __init__(self, written: bool) -> None:
        self.written = Written() if written else None
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.inside = self.most = 0

    def replay(self) -> AioReplay:
        return AioReplay(self if self.written is None else self.written)

    def __aiter__(self) -> "Source":
        return self

    async def __anext__(self) -> Any:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            message = await self.queue.get()
        finally:
            self.inside -= 1
        if message is END:
            raise StopAsyncIteration
        if isinstance(message, Exception):
            raise message
        return message

    def give(self, message: Any) -> Any:
        """A message, the end, or what the caller's iterator raises; returns the task of a writer."""
        if self.written is None:
            self.queue.put_nowait(message)
        elif message is END:
            self.written.close()
        else:
            return asyncio.ensure_future(self.written.put(message))
        return None


class Attempt:
    """Reads as grpcio does, in a task; stops after so many messages, as one does whose RPC has died."""

    def __init__(self, replay: AioReplay, most: int) -> None:
        self.got: list[Any] = []
        self.ended = False
        self.task = asyncio.ensure_future(self.read(replay.begin(), most))

    async def read(self, cursor: Any, most: int) -> None:
        for _ in range(most):
            try:
                self.got.append(await anext(cursor))
            except StopAsyncIteration:
                self.ended = True
                return


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 5)),
        st.tuples(st.just("give"), st.integers(1, 3)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(steps=steps, written=st.booleans(), committed=st.integers(0, 6))
def test_each_attempt_reads_the_messages_in_their_order(steps: Any, written: bool, committed: int) -> None:
    """Those before the live one a part of them, the live one all; nobody is left waiting, nothing is kept."""

    async def play() -> None:
        source = Source(written)
        replay = source.replay()
        attempts: list[Attempt] = []
        given: list[int] = []
        writers: list[Any] = []
        for step, number in steps:
            if step == "begin":
                attempts.append(Attempt(replay, number))
            elif step == "give":
                for _ in range(number):
                    given.append(len(given))
                    writers.append(source.give(given[-1]))
            else:
                for _ in range(number):
                    await asyncio.sleep(0)
        assert replay.whole
        live = Attempt(replay, 10_000)
        while len(live.got) < min(committed, len(given)):  # noqa: ASYNC110 - turns of the loop are what is varied
            await asyncio.sleep(0)
        replay.commit()
        given.append(len(given))
        writers.append(source.give(given[-1]))
        await asyncio.sleep(0)  # the writer has begun
        source.give(END)
        await asyncio.wait_for(live.task, 10)
        assert live.got == given
        assert live.ended
        await settle()
        for attempt in attempts:
            assert attempt.got == given[: len(attempt.got)]
        assert replay._kept == []
        replay.end()
        await settle()
        assert source.most <= 1  # two tasks inside one generator would be an error
        assert all(writer is None or writer.done() for writer in writers)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(play())


@settings(max_examples=40, deadline=None)
@given(before=st.integers(0, 4), readers=st.lists(st.integers(0, 6), min_size=1, max_size=4), written=st.booleans())
def test_the_end_wakes_everybody(before: int, readers: list[int], written: bool) -> None:
    """A call that is over while attempts wait for a message and a writer for one to be sent."""

    async def play() -> None:
        source = Source(written)
        replay = source.replay()
        writers = [source.give(number) for number in range(before)]
        attempts = []
        for most in readers:
            attempts.append(Attempt(replay, most))
            await settle()
        replay.end()
        replay.end()
        await settle()
        assert all(attempt.task.done() for attempt in attempts)
        assert all(writer is None or writer.done() for writer in writers)

    asyncio.run(play())


def test_what_the_source_raises_is_raised_to_every_attempt() -> None:
    """By its own exception, also to one that begins later."""

    async def play() -> None:
        source = Source(written=False)
        replay = source.replay()
        source.give(0)
        source.give(KeyError("mine"))
        for _ in range(2):
            cursor = replay.begin()
            assert await anext(cursor) == 0
            with pytest.raises(KeyError, match="mine"):
                await anext(cursor)
        assert isinstance(replay.failure, KeyError)

    asyncio.run(play())


@pytest.mark.parametrize("size", [1, LIMIT])
def test_it_keeps_so_much_and_no_more(size: int) -> None:
    """256 KiB, or a thousand messages of unknown size."""
    message = b"x" * size if size > 1 else 7

    async def play() -> None:
        replay = AioReplay([message] * (FEW + 10))
        cursor, taken = replay.begin(), 0
        while replay.whole:
            await anext(cursor)
            taken += 1
        assert taken == (2 if size > 1 else FEW + 1)
        assert len(replay._kept) <= 1

    asyncio.run(play())
