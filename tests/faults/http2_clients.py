"""httpx and httpx2 over HTTP/2 without TLS, as the table's clients."""

import importlib
from typing import Any

from tests.faults.asking import Ask
from tests.faults.over_http import LONG, AsyncHttpx, AsyncHttpx2, Httpx, Httpx2, url

__all__ = ["CLIENTS", "QUICK", "AsyncH2", "AsyncH2x2", "SyncH2", "SyncH2x2"]


class _OverHttp2:
    """Only the transport is another one, and the timeout of writes is that of reads."""

    module: str
    lb: Any
    client: Any
    options: dict[str, Any] = {}

    def make(self, client: str, transport: str) -> Any:
        self.httpx = importlib.import_module(self.module)
        adapter = importlib.import_module(f"kubelb.adapters.{self.module}")
        transport_ = getattr(adapter, transport)(self.lb, http1=False, http2=True, **self.options)
        return getattr(self.httpx, client)(transport=transport_, timeout=LONG)

    def client_error(self, ask: Ask) -> str:
        """The name of the exception that the call ends with."""
        end = self.ask(ask)  # type: ignore[attr-defined]
        return str(end.own)

    def header_error(self, name: str) -> str:
        """The same, for a call with such a header."""
        request = self.client.build_request("GET", url(self.lb), headers={name: "x"})
        try:
            self.do(self.client.send, request)  # type: ignore[attr-defined]
        except self.httpx.TransportError as error:
            return type(error).__name__
        return ""

    def request(self, ask: Ask) -> Any:
        seconds = ask.timeout or LONG
        return self.client.build_request(
            ask.method,
            url(self.lb),
            headers={"x-ask": ask.marker},
            content=ask.body or None,
            timeout=self.httpx.Timeout(LONG, read=seconds, write=seconds),
        )


class SyncH2(_OverHttp2, Httpx):
    name = "httpx http2"


class SyncH2x2(_OverHttp2, Httpx2):
    name = "httpx2 http2"


class AsyncH2(_OverHttp2, AsyncHttpx):
    name = "async httpx http2"


class AsyncH2x2(_OverHttp2, AsyncHttpx2):
    name = "async httpx2 http2"


CLIENTS = (SyncH2, AsyncH2, SyncH2x2, AsyncH2x2)
QUICK = (SyncH2, AsyncH2)
