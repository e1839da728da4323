"""The context that a servicer is given: the real one, plus the name of the backend in every answer's metadata.

`x-backend` goes with the initial metadata of an answer that has one, and with the trailing metadata of each. Initial
metadata is sent with the first message and never before it: an answer that fails at once stays "trailers only", as
gRPC's retries need it to be (a call is committed when its headers have come).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

BACKEND = "x-backend"
Metadata = Iterable[tuple[str, str | bytes]]


class Context:
    """Wraps the `grpc.ServicerContext` of one call."""

    def __init__(self, inner: grpc.ServicerContext, backend: str) -> None:
        self._inner = inner
        self._mark = ((BACKEND, backend),)
        self._sent = False
        inner.set_trailing_metadata(self._mark)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send_initial_metadata(self, initial_metadata: Metadata | None) -> None:
        self._inner.send_initial_metadata((*(initial_metadata or ()), *self._mark))
        self._sent = True

    def set_trailing_metadata(self, trailing_metadata: Metadata | None) -> None:
        self._inner.set_trailing_metadata((*(trailing_metadata or ()), *self._mark))

    def abort_with_status(self, status: Any) -> None:
        self.set_trailing_metadata(status.trailing_metadata)
        self._inner.abort(status.code, status.details)

    def send_headers(self) -> None:
        """Initial metadata, if there was none."""
        if not self._sent:
            self.send_initial_metadata(())


grpc.ServicerContext.register(Context)
