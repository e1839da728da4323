"""Request streams that can be sent again: what is kept, how long, and what the threads of dead attempts do to it."""

import threading
from collections.abc import Iterator

import pytest

from kubelb.adapters._grpc.shared.replay import FEW, LIMIT, Replay


def test_each_attempt_begins_at_the_first_message() -> None:
    """Also one that begins while another is half way."""
    replay = Replay(b"%d" % number for number in range(4))
    first = iter(replay)
    assert [next(first), next(first)] == [b"0", b"1"]
    assert list(replay) == [b"0", b"1", b"2", b"3"]
    assert replay.whole


def test_committed_it_keeps_nothing() -> None:
    """The attempt that goes on gets the rest, and messages go once they are taken."""
    replay = Replay(b"%d" % number for number in range(4))
    cursor = iter(replay)
    next(cursor)
    replay.commit()
    assert not replay.whole
    assert list(cursor) == [b"1", b"2", b"3"]
    assert replay._kept == []


@pytest.mark.parametrize("size", [1, LIMIT])
def test_it_keeps_so_much_and_no_more(size: int) -> None:
    """256 KiB, or a thousand messages of unknown size."""
    message = b"x" * size if size > 1 else 7
    replay = Replay(message for _ in range(FEW + 10))
    cursor, taken = iter(replay), 0
    while replay.whole:
        next(cursor)
        taken += 1
    assert taken == (2 if size > 1 else FEW + 1)
    assert len(replay._kept) <= 1


def test_protobuf_messages_are_weighed() -> None:
    """By their own ByteSize."""

    class Message:
        def ByteSize(self) -> int:
            return LIMIT // 2

    replay = Replay(Message() for _ in range(5))
    seen = [replay.whole for _ in iter(replay)]
    assert seen == [True, True, False, False, False]


def test_what_the_source_raises_is_raised_to_every_attempt() -> None:
    """An exception of the caller's generator, and its end."""

    def source() -> Iterator[bytes]:
        yield b"0"
        raise KeyError("mine")

    replay = Replay(source())
    for _ in range(2):
        cursor = iter(replay)
        assert next(cursor) == b"0"
        with pytest.raises(KeyError):
            next(cursor)


@pytest.mark.parametrize("committed", [False, True])
def test_a_dead_attempt_that_is_inside_the_source_loses_nothing(committed: bool) -> None:
    """Its thread waits in the caller's iterator; what it gets there is the live attempt's."""
    go, inside = threading.Event(), threading.Event()

    def source() -> Iterator[bytes]:
        yield b"0"
        inside.set()
        assert go.wait(10)
        yield b"1"
        yield b"2"

    replay = Replay(source())
    dead = iter(replay)
    next(dead)
    zombie = threading.Thread(target=lambda: next(dead))
    zombie.start()
    assert inside.wait(10)
    live = iter(replay)
    found = [next(live)]
    if committed:
        replay.commit()
    reader = threading.Thread(target=lambda: found.extend(live))
    reader.start()
    go.set()
    reader.join(10)
    zombie.join(10)
    assert found == [b"0", b"1", b"2"]


def test_a_dead_attempt_that_missed_the_commitment_ends() -> None:
    """What it would ask for is gone."""
    replay = Replay([b"0", b"1", b"2"])
    dead, live = iter(replay), iter(replay)
    replay.commit()
    assert list(live) == [b"0", b"1", b"2"]
    assert list(dead) == []
