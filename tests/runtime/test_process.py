"""Which process this is, and what its threads are: noticed once, by the first that asks."""

import ctypes
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest

from kubelb import process
from kubelb.itself import loaded
from kubelb.runtime import greenlets

fork = ctypes.PyDLL(None).fork


def in_child(job: Callable[[], object], by: Callable[[], int]) -> str:
    """What `job` returns in a child."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = by()
    if pid == 0:
        try:
            said = repr(job())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


MARKS = {"page": process.mark, "process id": process.ProcessId}


@pytest.mark.parametrize("by", [os.fork, fork], ids=["os.fork", "C"])
@pytest.mark.parametrize("kind", MARKS)
def test_a_mark_is_set_in_its_own_process_alone(kind: str, by: Callable[[], int]) -> None:
    """Wiped in the child, where it can be set again, and kept in the parent; both kinds."""
    mark = MARKS[kind]()
    mark[0] = 1

    def child() -> list[bool]:
        before = bool(mark[0])
        mark[0] = 1
        return [before, bool(mark[0]), in_child(lambda: bool(mark[0]), by) == "False"]

    assert in_child(child, by) == "[False, True, True]"
    assert mark[0]


def test_a_system_without_such_pages_compares_process_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older kernel refuses the advice; macOS does not know it."""
    monkeypatch.setattr(process, "WIPE_ON_FORK", 0x7FFF)
    assert isinstance(process.mark(), process.ProcessId)
    monkeypatch.delattr(process.mmap, "MAP_ANONYMOUS")
    assert isinstance(process.mark(), process.ProcessId)


def test_a_system_without_fork_needs_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte, always true."""
    monkeypatch.delattr(os, "fork")
    assert process.mark()[0]


def test_python_s_own_fork_is_told_at_once() -> None:
    """Its hook settles, before any other code; and it is no fork in C."""
    assert in_child(lambda: (process.here[0], process.forked_in_c()), os.fork) == "(1, False)"


LOADS = """
def load(module):
    __import__(module)
"""


@pytest.mark.parametrize("package", ["kubelb", "kubelb.discovery.kube", "another"])
def test_a_fork_waits_for_what_kubelb_is_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """The kind: a lock that a fork copies without its owner. The child would wait for that module for ever."""
    name = f"slow_part_of_{package.replace('.', '_')}"
    (tmp_path / f"{name}.py").write_text("import time\nBEGUN = True\ntime.sleep(0.5)\nVALUE = 7\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    code = {"__name__": package}
    exec(LOADS, code)
    thread = threading.Thread(target=code["load"], args=(name,))
    thread.start()
    while not hasattr(sys.modules.get(name), "BEGUN"):
        time.sleep(0.001)

    def whole() -> bool:
        return hasattr(sys.modules[name], "VALUE")

    assert in_child(whole, os.fork) == str(package != "another")
    thread.join()


def stack(*frames: tuple[str, str, object]) -> FrameType | None:
    """Frames from the outside in: file, name of the code, name of the module."""
    frame: Any = None
    for file, code, module in frames:
        named = SimpleNamespace(co_filename=file, co_name=code)
        frame = SimpleNamespace(f_code=named, f_globals={"__name__": module}, f_back=frame)
    return frame


LOAD = (process.IMPORT, "_find_and_load", "importlib._bootstrap")


@pytest.mark.parametrize(
    ("frames", "loads"),
    [
        ([("lb.py", "call", "kubelb.runtime.calls"), LOAD, ("idna.py", "<module>", "encodings.idna")], True),
        ([("app.py", "<module>", "app"), LOAD, ("lb.py", "<module>", "kubelb.loadbalancer")], True),
        ([LOAD, ("lb.py", "<module>", "kubelb.model"), ("dataclasses.py", "dataclass", "dataclasses")], True),
        ([LOAD, ("app.py", "<module>", "app"), ("lb.py", "call", "kubelb.runtime.calls")], False),
        ([LOAD, ("app.py", "<module>", "app")], False),
        ([("lb.py", "call", "kubelb.runtime.calls"), ("q.py", "wait", None)], False),
    ],
    ids=["for a call", "kubelb itself", "in one of its modules", "a program that serves", "another's", "no name"],
)
def test_what_is_loading(frames: list[tuple[str, str, object]], loads: bool) -> None:
    """A module of kubelb's, or what kubelb asked for; not a program that calls kubelb while it is being loaded."""
    assert process._loads(stack(*frames)) is loads


def test_a_fork_does_not_wait_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is being loaded may wait for a module that the forking thread is in: the fork goes on after a while."""
    monkeypatch.setattr(process, "PATIENCE", 0.05)
    monkeypatch.setattr(process, "_importing", lambda: True)
    began = time.monotonic()
    assert in_child(lambda: process.here[0], os.fork) == "1"
    assert time.monotonic() - began >= 0.05


def test_a_module_that_is_half_loaded_is_none_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork in C may leave one in the child, and it never is more than that there."""
    name = "kubelb.discovery.dns.half"
    half = ModuleType(name)
    half.__spec__ = ModuleSpec(name, None)
    half.__spec__._initializing = True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, half)
    assert loaded("discovery.dns.half") is None
    half.__spec__._initializing = False  # type: ignore[attr-defined]
    assert loaded("discovery.dns.half") is half


def test_a_fork_in_c_is_settled_by_the_first_that_asks() -> None:
    """Eight threads ask at the same moment: the jobs are done once, and nobody goes on before they are."""

    def child() -> object:
        done: list[int] = []
        process.on_settle(lambda: done.append(len(done)))
        before, seen = process.here[0], []
        gate = threading.Barrier(8)

        def ask() -> None:
            gate.wait(20)
            process.settle()
            seen.append((process.here[0], len(done)))

        crew = [threading.Thread(target=ask) for _ in range(8)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join(20)
        return before, sorted(set(seen)), process.forked_in_c()

    assert in_child(child, fork) == "(0, [(1, 1)], True)"
    assert not process.forked_in_c()


class Member:
    """Something that a patch concerns."""

    def __init__(self, running: bool) -> None:
        self._running = running
        self.told: list[str] = []

    def running(self) -> bool:
        return self._running

    def after_patch(self) -> None:
        self.told.append("patch")

    def patched_too_late(self) -> None:
        self.told.append("too late")


def patch(*members: Member) -> None:
    """As after an import and then a patch, with these alone to be told. In a child: its process has no other threads,
    which would notice it, too."""
    greenlets._members = WeakSet()
    greenlets._known = threading.Lock
    for member in members:
        greenlets.concerns(member)
    greenlets.look()
    assert not greenlets.patched()
    threading.Lock = lambda make=threading.Lock: make()
    assert greenlets.patched()


def test_a_patch_is_told_once() -> None:
    """To everybody whom it concerns, when the next one looks."""

    def job() -> object:
        member = Member(running=False)
        patch(member)
        greenlets.look()
        greenlets.look()
        return member.told, greenlets.patched()

    assert in_child(job, os.fork) == repr((["patch"], False))


def test_a_patch_while_threads_run_is_refused() -> None:
    """Each time that somebody looks; and everybody is told, so that no pick goes on."""

    def job() -> object:
        idle, busy = Member(running=False), Member(running=True)
        patch(idle, busy)
        for _ in range(2):
            with pytest.raises(greenlets.PatchedTooLate, match="patch first"):
                greenlets.look()
        return set(idle.told), set(busy.told)

    assert in_child(job, os.fork) == repr(({"too late"}, {"too late"}))
