"""What a hypercorn of the soak serves: it notes the mark of each request that it was given, then answers."""

import asyncio
import os

LEDGER = os.open(os.environ["SOAK_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    headers = dict(scope["headers"])
    mark = headers.get(b"x-mark")
    if mark is not None:
        os.write(LEDGER, mark + b"\n")  # one write of a short line to a file opened for appending is whole
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    path = scope["path"]
    if path == "/slow":
        await asyncio.sleep(0.2)
    if path == "/broken":
        raise RuntimeError("as a bug does")
    status = 503 if path == "/fail" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    for _ in range(3 if path == "/stream" else 1):
        await send({"type": "http.response.body", "body": b"x" * 2000, "more_body": True})
        if path == "/stream":
            await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b""})
