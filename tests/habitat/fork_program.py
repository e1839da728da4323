"""Every way to another process, from one that has used its load balancer: ``python fork_program.py WAY KUBECONFIG``.

The child calls pods by each client, closes nothing of its parent's, and hears of new pods; it prints one line, and so
does the parent, which must notice nothing.
"""

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings

import httpx
import requests

import kubelb
from kubelb.adapters.httpx import Transport
from kubelb.adapters.requests import mount

LONG = 45.0
NUMBERS = itertools.count()
lb: kubelb.LoadBalancer
session = requests.Session()
client: httpx.Client


def open_up(kubeconfig: str) -> None:
    global lb, client
    lb = kubelb.LoadBalancer(
        "web.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=kubeconfig), ready_timeout=LONG
    )
    mount(session, lb)
    client = httpx.Client(mounts={"http://web.prod": Transport(lb)}, timeout=LONG)


def crossed(who: str, count: int = 60) -> int:
    """How many answers were not to the question."""
    wrong = 0
    for _ in range(count):
        word = f"{who}-{os.getpid()}-{next(NUMBERS)}"
        wrong += session.post(f"http://web.prod/echo/{word}", data=word, timeout=LONG).text != word
        wrong += client.post(f"http://web.prod/echo/{word}-x", content=word).text != word
        wrong += lb.call(lambda attempt: attempt.endpoint.port) <= 0
    return wrong


def knows(count: int) -> bool:
    """Whether it hears of so many pods, and says that it knows them: it only looks, and picks nothing."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        health = lb.health()
        if len(lb.endpoints()) == count and health.synced and not health.error:
            return True
        time.sleep(0.05)
    return False


def child(who: str, count: int, closes: bool = False) -> None:
    signal.alarm(100)
    known = knows(count)
    wrong = crossed(who)
    flying = sum(view.in_flight for view in lb.endpoints())
    if closes:
        client.close()
        session.close()
        lb.close()
    os.write(1, f"{who}: crossed {wrong} known {known} in flight {flying}\n".encode())


def ended(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    if status:
        os.write(1, f"a child ended with {status}\n".encode())


def leave(job, *args) -> None:
    """A child's whole life."""
    try:
        job(*args)
    except BaseException as error:
        os.write(1, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def os_fork() -> None:
    if (pid := os.fork()) == 0:
        leave(child, "child", 5, True)
    ended(pid)


def c_forked(job, *args) -> None:
    """A fork in C while no other thread runs Python: with one Python itself may hang, for its locks are not renewed."""
    if (pid := ctypes.PyDLL(None).fork()) == 0:
        leave(job, *args)
    os.write(1, b"forked\n")
    ended(pid)


def c_fork() -> None:
    c_forked(child, "child", 5, True)


def c_fork_twice() -> None:
    """A child that was never used forks again: neither has been told."""

    def again() -> None:
        if (grandchild := ctypes.PyDLL(None).fork()) == 0:
            leave(child, "child", 5, True)
        ended(grandchild)

    c_forked(again)


def c_fork_then_threads() -> None:
    """Several threads of the child find out at the same moment."""

    def all_at_once() -> None:
        crew = [threading.Thread(target=crossed, args=(f"thread{number}", 20)) for number in range(8)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        child("child", 5, True)

    c_forked(all_at_once)


def from_a_thread() -> None:
    thread = threading.Thread(target=os_fork)
    thread.start()
    thread.join()


def daemonize() -> None:
    """Twice, and the middle one is gone before the last begins: as daemons do."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(reading)
            leave(child, "child", 5, True)
        os._exit(0)
    os.close(writing)
    ended(pid)
    os.read(reading, 1)  # the end of the pipe: the daemon has ended


def by_multiprocessing(method: str) -> None:
    process = multiprocessing.get_context(method).Process(target=begin, args=(sys.argv[2],))
    process.start()
    process.join()


def begin(kubeconfig: str) -> None:
    """In a process of multiprocessing; where that was not forked it begins with nothing."""
    if "lb" not in globals():
        open_up(kubeconfig)
        lb.wait_ready()
    child("child", 5, True)


def posix_spawn() -> None:
    """A program of its own: nothing of ours is in it."""
    ended(os.posix_spawn(sys.executable, [sys.executable, "-c", "print('child: spawned', flush=True)"], os.environ))


IN_C = ("C", "C, twice", "C, then threads")
WAYS = {
    "os.fork": os_fork,
    "C": c_fork,
    "C, twice": c_fork_twice,
    "C, then threads": c_fork_then_threads,
    "from a thread": from_a_thread,
    "daemonize": daemonize,
    "fork": lambda: by_multiprocessing("fork"),
    "forkserver": lambda: by_multiprocessing("forkserver"),
    "spawn": lambda: by_multiprocessing("spawn"),
    "posix_spawn": posix_spawn,
}


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python, of forks while threads run
    open_up(sys.argv[2])
    lb.wait_ready()
    crossed("boot", 6)
    os.write(1, b"used\n")
    sys.stdin.readline()
    stop = threading.Event()
    wrong: list[int] = []
    busy = threading.Thread(target=lambda: [wrong.append(crossed("parent", 1)) for _ in iter(stop.is_set, True)])
    if sys.argv[1] in IN_C:
        WAYS[sys.argv[1]]()
    else:
        busy.start()
        WAYS[sys.argv[1]]()
        stop.set()
        busy.join()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    os.write(1, f"parent: crossed {sum(wrong) + crossed('parent')} known {knows(5)}\n".encode())
    lb.close()


if __name__ == "__main__":
    main()
