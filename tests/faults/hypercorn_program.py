"""The application of the pods under hypercorn: it reads the whole body, takes a moment, and says what it has done."""

import asyncio
from typing import Any

done: list[str] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.01)
    marker = dict(scope["headers"]).get(b"x-ask", b"")
    print(marker.decode(), flush=True)
    body = b"done"
    headers = [(b"content-length", b"4"), (b"x-http", scope["http_version"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
