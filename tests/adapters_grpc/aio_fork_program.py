"""A process that forks after it has used a channel of asyncio: `aio_fork_program.py ADDRESS`.

Run by test_aio_channel.py.
"""

import asyncio
import os
import sys
import traceback
import warnings
from typing import Any

import kubelb
from kubelb.adapters.grpc import aio
from kubelb.service import service_of


async def call(channel: Any) -> bytes:
    answer: bytes = await channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
    return answer


async def refused(channel: Any) -> None:
    for use in (lambda: call(channel), channel.channel_ready):
        try:
            await use()
        except RuntimeError as error:
            assert "forked from one that had used grpc.aio" in str(error), error
        else:
            raise AssertionError("not refused")
    await channel.close()


async def child(channel: Any, lb: kubelb.LoadBalancer) -> None:
    await refused(channel)
    await refused(aio.insecure_channel(lb))
    assert sum(state.in_flight for state in service_of(lb).balancer.states()) == 0
    assert await lb.acall(lambda attempt: asyncio.sleep(0, attempt.number)) == 1


def main(address: str) -> int:
    lb = kubelb.LoadBalancer(f"static:///{address}")
    loop = asyncio.new_event_loop()

    async def begin() -> Any:
        channel = aio.insecure_channel(lb)
        assert (await call(channel)).startswith(b"x@")
        return channel

    channel = loop.run_until_complete(begin())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # CPython's own, about forking with threads
        pid = os.fork()
    if not pid:
        code = 1
        try:
            asyncio.run(child(channel, lb))
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert loop.run_until_complete(call(channel)).startswith(b"x@")
    loop.run_until_complete(channel.close())
    loop.close()
    lb.close()
    print("the parent is well, the child was told")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
