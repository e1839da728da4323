"""What kubelb adds to gRPC: to a call, a future and a message; calls in flight beside grpcio's round_robin; memory.

    python benchmarks/rpc.py [--smoke]

The server runs in a process of its own. How differences are measured is told in `_compare.py`.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import threading
import time
from concurrent import futures
from functools import partial
from pathlib import Path

import grpc
import grpc.aio

import kubelb
from _compare import Run, timed
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio as balanced_aio
from kubelb.service import service_of

ENDPOINTS = 10
MANY = 1000
MESSAGES = 100
ADDED, TO_MESSAGES = 0.35, 0.15
"""Of the bare p50, to which even a short run on a busy machine says no. A bare call takes half of an HTTP request."""
ECHO = "/bench.Echo/Unary"
STREAM = "/bench.Echo/Stream"
NO_REUSE = (("grpc.so_reuseport", 0),)


class Echo(grpc.GenericRpcHandler):
    """Bytes in, bytes out; or a hundred messages for one."""

    def service(self, details):
        if details.method == ECHO:
            return grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        return grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request] * MESSAGES))


def serve(pipe, many: int) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=(Echo(),), options=NO_REUSE)
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(ENDPOINTS)]
    hosts = [f"127.0.{4 + number // 250}.{1 + number % 250}" for number in range(many)]
    for host in hosts:
        server.add_insecure_port(f"{host}:{ports[0]}")
    server.start()
    pipe.send(([f"127.0.0.1:{port}" for port in ports], [f"{host}:{ports[0]}" for host in hosts]))
    pipe.recv()
    server.stop(0)


def timed_async(loop, call):
    async def many(size):
        took = []
        for _ in range(size):
            began = time.perf_counter_ns()
            await call(b"x")
            took.append(time.perf_counter_ns() - began)
        return statistics.median(took) / 1000

    return lambda size: loop.run_until_complete(many(size))


def drained(call):
    """Read a whole stream."""
    for _ in call(b"x"):
        pass


def thread_rate(call, crew: int, total: int) -> float:
    """Calls a second with so many threads."""

    def worker():
        for _ in range(total // crew):
            call(b"x")

    threads = [threading.Thread(target=worker) for _ in range(crew)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total / (time.perf_counter() - began)


def task_rate(loop, call, crew: int, total: int) -> float:
    """The same with so many tasks."""

    async def worker():
        for _ in range(total // crew):
            await call(b"x")

    async def all_of_them():
        await asyncio.gather(*(worker() for _ in range(crew)))

    began = time.perf_counter()
    loop.run_until_complete(all_of_them())
    return total / (time.perf_counter() - began)


def sync(run: Run, addresses: list[str]) -> None:
    """Calls, futures and streams, one at a time."""
    bare, twin = (grpc.insecure_channel(f"ipv4:{addresses[0]}") for _ in range(2))
    for count in (1, ENDPOINTS):
        with (
            kubelb.LoadBalancer("static:///" + ",".join(addresses[:count])) as lb,
            balanced.insecure_channel(lb) as ours,
        ):
            unary = [channel.unary_unary(ECHO) for channel in (bare, twin, ours)]
            run.latency("grpc", count, [timed(partial(call, b"x")) for call in unary], ADDED)
            later = [timed(lambda call=call: call.future(b"x").result()) for call in unary]
            run.latency("grpc future()", count, later, ADDED)
            stream = [channel.unary_stream(STREAM) for channel in (bare, twin, ours)]
            drains = [timed(partial(drained, call)) for call in stream]
            run.latency(f"grpc {MESSAGES} messages", count, drains, TO_MESSAGES, size=run.size // 4)
    bare.close()
    twin.close()


def aio(run: Run, addresses: list[str]) -> None:
    """Calls on asyncio, one at a time."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def channels(lb):
        bare, twin = (grpc.aio.insecure_channel(f"ipv4:{addresses[0]}") for _ in range(2))
        return bare, twin, balanced_aio.insecure_channel(lb)

    for count in (1, ENDPOINTS):
        with kubelb.LoadBalancer("static:///" + ",".join(addresses[:count])) as lb:
            three = loop.run_until_complete(channels(lb))
            blocks = [timed_async(loop, channel.unary_unary(ECHO)) for channel in three]
            run.latency("grpc.aio", count, blocks, ADDED)
            for channel in three:
                loop.run_until_complete(channel.close())
    loop.close()


def flying(run: Run, addresses: list[str]) -> None:
    """Many calls in flight over ten endpoints, beside one bare channel and beside grpcio's own round_robin."""
    robin = (f"ipv4:{','.join(addresses)}", [("grpc.lb_policy_name", "round_robin")])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def channels(lb):
        return (
            grpc.aio.insecure_channel(f"ipv4:{addresses[0]}"),
            grpc.aio.insecure_channel(*robin),
            balanced_aio.insecure_channel(lb),
        )

    with kubelb.LoadBalancer("static:///" + ",".join(addresses)) as lb:
        threads = [
            grpc.insecure_channel(f"ipv4:{addresses[0]}"),
            grpc.insecure_channel(*robin),
            balanced.insecure_channel(lb),
        ]
        tasks = loop.run_until_complete(channels(lb))
        for crew in (20,) if run.smoke else (20, 100):
            of_threads = [partial(thread_rate, channel.unary_unary(ECHO)) for channel in threads]
            of_tasks = [partial(task_rate, loop, channel.unary_unary(ECHO)) for channel in tasks]
            for kind, (bare, core, ours) in (("threads", of_threads), ("tasks", of_tasks)):
                run.throughput(f"grpc {kind}", ENDPOINTS, crew, bare, ours)
                run.throughput(f"grpc {kind}, of round_robin", ENDPOINTS, crew, core, ours)
        for channel in threads:
            channel.close()
        for channel in tasks:
            loop.run_until_complete(channel.close())
    loop.close()


def memory(many: list[str]) -> None:
    """What a thousand connected endpoints cost this process (where /proc tells)."""
    if not Path("/proc/self/statm").exists():
        print("memory of many endpoints: this system does not tell")
        return

    def now():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), sum(1 for _ in Path("/proc/self/fd").iterdir())

    with kubelb.LoadBalancer("static:///" + ",".join(many), policy="round_robin") as lb:
        lb.endpoints()
        before, began = now(), time.perf_counter()
        with balanced.insecure_channel(lb) as channel:
            echo = channel.unary_unary(ECHO)
            seen = set()
            while len(seen) < len(many) and time.perf_counter() - began < 60:
                echo(b"x", wait_for_ready=True)
                seen = {state for state in service_of(lb).balancer.states() if state.successes}
            took, after = time.perf_counter() - began, now()
        kib, descriptors = (after[0] - before[0]) / 1024 / len(many), (after[1] - before[1]) / len(many)
        print(
            f"{len(seen)} endpoints connected and called within {took:.1f} s: "
            f"{kib:.1f} KiB and {descriptors:.2f} descriptors each"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates generously")
    run = Run(parser.parse_args().smoke)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(there, 100 if run.smoke else MANY), daemon=True)
    process.start()  # before this process has used gRPC
    addresses, many = here.recv()
    print(f"{'one in flight, us':24} {'bare p50':>8} {'added':>8}")
    sync(run, addresses)
    aio(run, addresses)
    flying(run, addresses)
    memory(many)
    here.send(None)
    process.join(5)
    return run.gates.close()


if __name__ == "__main__":
    sys.exit(main())
