"""Names to addresses, without ever being stuck in the resolver.

`getaddrinfo` cannot be interrupted and waits 5 to 30 s for a silent nameserver. So a daemon thread calls it, one for
each name at a time however many ask, and those that wait can leave. What was found is used again for `FRESH` seconds,
and for ever while looking it up again fails: an API server seldom moves, and a nameserver often has a bad minute.
"""

import queue
import socket
import threading
from typing import NamedTuple

from kubelb.clock import monotonic
from kubelb.discovery.kube.lifeline import CutError, Lifeline
from kubelb.records import record, replace
from kubelb.threads import begin

__all__ = ["FRESH", "Address", "after_fork_in_child", "forget", "resolve"]

FRESH = 30.0


class Address(NamedTuple):
    """What `connect` takes."""

    family: int
    sockaddr: tuple[object, ...]


@record(frozen=True, slots=True)
class _Found:
    when: float
    addresses: tuple[Address, ...]


Question = tuple[str, int]
_lock = threading.Lock()
_known: dict[Question, _Found] = {}
_asking: dict[Question, "_Lookup"] = {}


def resolve(host: str, port: int, timeout: float, lifeline: Lifeline) -> tuple[Address, ...]:
    """Return where to connect to. Raises `OSError` (`gaierror`, `TimeoutError`), or `CutError` when stopped."""
    literal = _literal(host, port)
    if literal:
        return literal
    question = host, port
    with _lock:
        found = _known.get(question)
        if found is not None and monotonic() - found.when < FRESH:
            return found.addresses
        lookup = _asking.get(question)
        if lookup is None:
            lookup = _asking[question] = _Lookup(question)
    try:
        return lookup.wait(timeout, lifeline)
    except CutError:
        raise
    except OSError:
        if found is not None:
            return found.addresses
        raise


def forget(host: str, port: int) -> None:
    """Nothing answers there: ask again before the next try, and fall back on it if there is no answer."""
    with _lock:
        found = _known.get((host, port))
        if found is not None:
            _known[host, port] = replace(found, when=float("-inf"))


def after_fork_in_child() -> None:
    """The threads that were asking are not here."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _asking.clear()


class _Lookup:
    """One question to the resolver, and every caller that waits for the answer."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._done = threading.Event()
        self._waiting: list[queue.SimpleQueue[None]] = []
        self._result: tuple[Address, ...] | OSError = OSError("not looked up")
        begin(threading.Thread(target=self._run, name=f"kubelb-lookup-{question[0]}", daemon=True))

    def wait(self, timeout: float, lifeline: Lifeline) -> tuple[Address, ...]:
        bell: queue.SimpleQueue[None] = queue.SimpleQueue()

        def ring() -> None:
            bell.put(None)

        self._waiting.append(bell)
        if self._done.is_set():
            ring()
        lifeline.on_stop(ring)
        try:
            bell.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer from the nameserver within {timeout:g} s") from None
        finally:
            lifeline.off_stop(ring)
            self._waiting.remove(bell)
        if not self._done.is_set():
            raise CutError("stopped")
        if isinstance(self._result, OSError):
            raise self._result
        return self._result

    def _run(self) -> None:
        host, port = self._question
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._result = tuple(Address(family, sockaddr) for family, _, _, _, sockaddr in answers)
        except OSError as error:
            self._result = error
        except UnicodeError:
            self._result = OSError(f"{host!r} is no host name")
        with _lock:
            if isinstance(self._result, tuple):
                _known[self._question] = _Found(monotonic(), self._result)
            _asking.pop(self._question, None)
        self._done.set()
        for bell in list(self._waiting):
            bell.put(None)


def _literal(host: str, port: int) -> tuple[Address, ...]:
    """An IP address needs no look-up."""
    try:
        answers = socket.getaddrinfo(
            host.removeprefix("[").removesuffix("]"), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except (OSError, UnicodeError):
        return ()
    return tuple(Address(family, sockaddr) for family, _, _, _, sockaddr in answers)
