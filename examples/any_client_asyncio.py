"""A protocol of your own over asyncio's streams: `acall` picks, retries elsewhere, and cancels when time is over."""

import asyncio
from collections.abc import Awaitable, Callable

import kubelb


async def ask(attempt: kubelb.Attempt) -> str:
    """Send a line, read a line. A lost connection raises OSError or EOFError, which is worth another endpoint."""
    reader, writer = await asyncio.open_connection(*attempt.endpoint.address)
    try:
        writer.write(b"rating 7\n")
        await writer.drain()
        return (await reader.readuntil(b"\n")).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()


async def main() -> None:
    servers = [await asyncio.start_server(answer(name), "127.0.0.1", 0) for name in ("one", "rude", "two")]
    addresses = [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    async with kubelb.LoadBalancer("static:///" + ",".join(addresses)) as lb:  # "ratings.prod:lines" in a cluster
        for _ in range(6):
            print(await lb.acall(ask, idempotent=True, deadline=2.0))
        rude = next(view for view in lb.endpoints() if view.address == addresses[1])
        print("rude:", f"{rude.failures} failed")
    for server in servers:
        server.close()
        await server.wait_closed()


def answer(name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if name != "rude":  # which hangs up without an answer
            writer.write(b"%s from %s\n" % (line.strip(), name.encode()))
            await writer.drain()
        writer.close()

    return serve


if __name__ == "__main__":
    asyncio.run(main())
