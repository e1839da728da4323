"""What kubelb adds to httpx and to requests: time to a request, and what separate pools give back under concurrency.

    python benchmarks/adapters.py [--smoke]

The server runs in a process of its own. Bare and balanced requests alternate in blocks; what is printed is the median
of the paired differences of the blocks' medians, and beside it the same for bare against bare: the error of the method.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import threading
import time
from functools import partial

import httpx
import requests

import kubelb
from _compare import Run, timed
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.adapters.requests import mount

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
URL = "http://reviews.prod/"
ENDPOINTS = 10
THROUGHPUT = 1.5
ADDED = 0.15
"""Of the bare p50, to which even a short run on a busy machine says no; the aim is 3 % or 15 us."""


class Server(asyncio.Protocol):
    """Answers each request with the same bytes; requests without bodies only."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


def serve(pipe) -> None:
    async def main():
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Server, "127.0.0.1", 0) for _ in range(ENDPOINTS)]
        pipe.send([server.sockets[0].getsockname()[1] for server in servers])
        await loop.run_in_executor(None, pipe.recv)

    asyncio.run(main())


def timed_async(loop, client, url):
    async def many(size):
        took = []
        for _ in range(size):
            began = time.perf_counter_ns()
            await client.get(url)
            took.append(time.perf_counter_ns() - began)
        return statistics.median(took) / 1000

    return lambda size: loop.run_until_complete(many(size))


def rate(loop, client, url, crew: int, total: int) -> float:
    """Requests a second with so many in flight."""

    async def worker(count):
        for _ in range(count):
            await client.get(url)

    async def all_of_them():
        await asyncio.gather(*(worker(total // crew) for _ in range(crew)))

    began = time.perf_counter()
    loop.run_until_complete(all_of_them())
    return total / (time.perf_counter() - began)


def thread_rate(client, url, crew: int, total: int) -> float:
    """The same with so many threads."""

    def worker():
        for _ in range(total // crew):
            client.get(url)

    threads = [threading.Thread(target=worker) for _ in range(crew)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total / (time.perf_counter() - began)


def sync(run: Run, lb, count: int, bare_url: str) -> None:
    """httpx in threads."""
    clients = [httpx.Client(timeout=60, **options) for options in ({}, {}, {"transport": Transport(lb)})]
    bare, twin, ours = clients
    run.latency(
        "sync",
        count,
        [timed(lambda: bare.get(bare_url)), timed(lambda: twin.get(bare_url)), timed(lambda: ours.get(URL))],
        ADDED,
    )
    if not run.smoke:  # with a hundred threads bare httpx closes connections under requests, and loses them
        run.throughput("threads", count, 20, partial(thread_rate, bare, bare_url), partial(thread_rate, ours, URL))
    for client in clients:
        client.close()


def sessions(run: Run, lb, count: int, bare_url: str) -> None:
    """requests."""
    bare, twin, ours = (requests.Session() for _ in range(3))
    mount(ours, lb, hosts=["reviews.prod"])
    run.latency(
        "requests",
        count,
        [timed(lambda: bare.get(bare_url)), timed(lambda: twin.get(bare_url)), timed(lambda: ours.get(URL))],
        ADDED,
    )
    for session in (bare, twin, ours):
        session.close()


def aio(run: Run, lb, count: int, bare_url: str) -> None:
    """httpx on asyncio."""
    loop = asyncio.new_event_loop()
    clients = [httpx.AsyncClient(timeout=60, **options) for options in ({}, {}, {"transport": AsyncTransport(lb)})]
    bare, twin, ours = clients
    run.latency(
        "asyncio",
        count,
        [timed_async(loop, bare, bare_url), timed_async(loop, twin, bare_url), timed_async(loop, ours, URL)],
        ADDED,
    )
    for crew in (20,) if run.smoke else (20, 100):
        ratio = run.throughput(
            "asyncio", count, crew, partial(rate, loop, bare, bare_url), partial(rate, loop, ours, URL)
        )
        if count == ENDPOINTS and crew == 20:
            bound = 1.0 if run.smoke else THROUGHPUT
            run.gates.at_least(f"asyncio: {crew} in flight over {count} endpoints, of bare", ratio, bound)
    if not run.smoke:  # many idle connections in one pool cost httpcore more than opening new ones
        few = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        clients.append(httpx.AsyncClient(timeout=60, transport=AsyncTransport(lb, limits=few)))
        limited = partial(rate, loop, clients[-1], URL)
        run.throughput("asyncio, limits 100 and 20", count, 100, partial(rate, loop, bare, bare_url), limited)
    for client in clients:
        loop.run_until_complete(client.aclose())
    loop.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates generously")
    run = Run(parser.parse_args().smoke)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    process.start()
    ports = here.recv()
    print(f"{'one in flight, us':24} {'bare p50':>8} {'added':>8}")
    for count in (1, ENDPOINTS):
        target = "static:///" + ",".join(f"127.0.0.1:{port}" for port in ports[:count])
        with kubelb.LoadBalancer(target) as lb:
            for measure in (sync, sessions, aio):
                measure(run, lb, count, f"http://127.0.0.1:{ports[0]}/")
    here.send(None)
    process.join(5)
    return run.gates.close()


if __name__ == "__main__":
    sys.exit(main())
