"""For unit tests that mock the client: requests go past kubelb, to where the mock waits for them.

A mock replaces the client's own way of sending, which kubelb does not use; or it comes after a pod was picked, where
there is no cluster. Under `mocked` and in the fixture `kubelb_disabled` that own way is used (see `kubelb.disabled`).
"""

from typing import Any

from kubelb.runtime.switch import disabled

__all__ = ["mocked"]


class mocked(disabled):  # noqa: N801  # used as a verb: `with mocked(...)`
    """A block in which every adapter hands its requests to `transport`, as if the client had been given that.

    For httpx and httpx2 it is a transport (``httpx.MockTransport(handler)``, ``httpx.ASGITransport(app)``), for
    requests an adapter with a `send`. Without one requests go the client's own way, for mocks that patch that: respx,
    pytest-httpx, responses, requests-mock, vcrpy, pook. It is a thread's or a task's own, as `kubelb.disabled`.

    >>> import httpx
    >>> from kubelb.adapters.httpx import mounts
    >>> with httpx.Client(mounts=mounts("reviews.prod:http")) as client:
    ...     with mocked(httpx.MockTransport(lambda request: httpx.Response(200, text="mocked"))):
    ...         client.get("http://reviews.prod/").text
    'mocked'
    """

    __slots__ = ()

    def __init__(self, transport: Any = None) -> None:
        super().__init__()
        if transport is None:
            return
        if not any(hasattr(transport, name) for name in ("handle_request", "handle_async_request", "send")):
            raise TypeError(f"mocked({type(transport).__name__}): give a transport, as httpx.MockTransport(handler)")
        self._way = transport
