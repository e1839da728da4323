"""Measuring on a machine that others use too: small chunks, interleaved, the least of many.

The least time of a chunk is the one in which nothing else ran; variants are interleaved, so that whatever slows the
machine down slows all of them. Ratios of such minima are steady where times are not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter_ns, process_time_ns

from _gates import Gate

__all__ = ["Chunk", "least", "patiently", "threads"]

MORE = 9
"""More turns at most, where a gate is missed."""

Chunk = Callable[[int], object]
"""Does something so many times."""
Key = tuple[int, str] | str
"""What is measured, and among how many endpoints where that matters."""


def least(chunks: Mapping[str, Chunk], rounds: int, size: int = 300) -> dict[str, float]:
    """Return the least nanoseconds of one repetition, for each chunk."""
    best = dict.fromkeys(chunks, float("inf"))
    for _ in range(rounds):
        for name, chunk in chunks.items():
            began = perf_counter_ns()
            chunk(size)
            best[name] = min(best[name], (perf_counter_ns() - began) / size)
    return best


def patiently(
    turn: Callable[[], Mapping[Key, float]], gates: Callable[[Mapping[Key, float]], Iterable[Gate]]
) -> dict[Key, float]:
    """Return the least of each figure, over one turn, and over more as long as a gate is missed.

    A minimum only comes nearer to the truth, and a machine's pace changes from second to second.
    """
    times = dict(turn())
    for _ in range(MORE):
        if all(gate.met for gate in gates(times)):
            break
        times = {what: min(ns, times[what]) for what, ns in turn().items()}
    return times


def threads(chunk: Chunk, counts: Sequence[int], rounds: int, size: int = 20_000) -> dict[int, float]:
    """Return the least process nanoseconds of one repetition, with so many threads doing it at once."""
    import threading

    best = dict.fromkeys(counts, float("inf"))
    for _ in range(rounds):
        for count in counts:
            crew = [threading.Thread(target=chunk, args=(size // count,)) for _ in range(count)]
            began = process_time_ns()
            for thread in crew:
                thread.start()
            for thread in crew:
                thread.join()
            best[count] = min(best[count], (process_time_ns() - began) / (size // count * count))
    return best
