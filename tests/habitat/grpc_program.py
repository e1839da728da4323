"""gRPC in the child of a fork in C: ``python grpc_program.py used|unused sync|aio ADDRESSES``.

``used``: the parent had made a call; what the child's calls raise is printed. ``unused``: it had made the channel
alone, and the child's call is answered.
"""

import asyncio
import ctypes
import os
import signal
import sys

import kubelb
from kubelb.adapters.grpc import aio, insecure_channel

_, used, kind, addresses = sys.argv
METHOD = "/kubelb.testing.Echo/Unary"
lb = kubelb.LoadBalancer(f"static:///{addresses}")
if kind == "sync":
    channel = insecure_channel(lb)


def call() -> str:
    if kind == "sync":
        return channel.unary_unary(METHOD)(b"hello", timeout=20).decode()
    return asyncio.run(call_aio())


async def call_aio() -> str:
    async with aio.insecure_channel(lb) as own:
        return (await own.unary_unary(METHOD)(b"hello", timeout=20)).decode()


if used == "used":
    print("parent", call(), flush=True)
if (pid := ctypes.PyDLL(None).fork()) == 0:
    signal.alarm(60)
    try:
        said = call()
    except Exception as error:
        said = f"{type(error).__name__} {'lazy-apps' in str(error)}"
    print("child", said, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent", call(), flush=True)
os._exit(0)
