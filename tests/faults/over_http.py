"""httpx, httpx2 and requests, as the table's clients."""

import importlib
import threading
from typing import Any

import requests
from tests.faults.asking import Ask, End, How
from tests.faults.clients import AioClient, Client

import kubelb
from kubelb.adapters.requests import Adapter

__all__ = ["HTTP", "AsyncHttpx", "AsyncHttpx2", "Httpx", "Httpx2", "Requests"]

HTTP = "http"
LONG = 20.0
_HOW = {
    "ConnectError": How.UNREACHABLE,
    "ConnectTimeout": How.UNREACHABLE,
    "PoolTimeout": How.LATE,
    "ReadTimeout": How.LATE,
    "WriteTimeout": How.LATE,
    "ReadError": How.LOST,
    "WriteError": How.LOST,
    "RemoteProtocolError": How.LOST,
}


def url(lb: kubelb.LoadBalancer) -> str:
    """By the name of its service, where it has one."""
    target = lb.target
    return f"http://{target.service}.{target.namespace}/" if target.service else "http://reviews.prod/"


def answered(response: Any) -> str | End:
    """What a whole response says."""
    if response.status_code >= 400:
        return End(How.TOLD, str(response.status_code), pod=response.headers.get("x-backend", ""))
    return str(response.headers.get("x-backend", ""))


class _Httpx:
    """What the sync and the asyncio client share; `module` is the module's name."""

    module = "httpx"
    family = HTTP
    lb: kubelb.LoadBalancer
    client: Any

    def make(self, client: str, transport: str) -> Any:
        self.httpx: Any = importlib.import_module(self.module)
        adapter = importlib.import_module(f"kubelb.adapters.{self.module}")
        return getattr(self.httpx, client)(transport=getattr(adapter, transport)(self.lb), timeout=LONG)

    def request(self, ask: Ask) -> Any:
        return self.client.build_request(
            ask.method,
            url(self.lb),
            headers={"x-ask": ask.marker},
            content=ask.body or None,
            timeout=self.httpx.Timeout(LONG, read=ask.timeout or LONG),
        )

    def meaning(self, error: BaseException, *, begun: bool) -> End:
        """The client's own class, always; and kubelb's where it refused."""
        if isinstance(error, kubelb.LoadBalancerError):
            late = isinstance(error, kubelb.DeadlineExceeded)
            base = self.httpx.TimeoutException if late else self.httpx.ConnectError
            assert isinstance(error, base), error
            return End(How.LATE if late else How.UNREACHABLE, base.__name__, kubelb_class(error))
        if not isinstance(error, self.httpx.TransportError):
            raise error
        how = _HOW[type(error).__name__]
        return End(How.BROKEN if begun and how is How.LOST else how, type(error).__name__)


def kubelb_class(error: kubelb.LoadBalancerError) -> type[kubelb.LoadBalancerError]:
    """Of an adapter's subclass, kubelb's own."""
    return next(base for base in type(error).__mro__ if base.__module__ == "kubelb.errors")


class Httpx(_Httpx, Client):
    name = "httpx"

    def __init__(self, lb: kubelb.LoadBalancer) -> None:
        super().__init__(lb)
        self.client = self.make("Client", "Transport")

    def begin_answer(self, ask: Ask) -> Any:
        return self.client.send(self.request(ask), stream=True)

    def end_answer(self, answer: Any) -> Any:
        try:
            answer.read()
        finally:
            answer.close()
        return answered(answer)

    def give_up(self, answer: Any) -> Any:
        answer.close()

    def close(self) -> None:
        self.client.close()


class Httpx2(Httpx):
    name = "httpx2"
    module = "httpx2"


class AsyncHttpx(_Httpx, AioClient):
    name = "httpx-async"

    async def start(self) -> None:
        self.client = self.make("AsyncClient", "AsyncTransport")

    async def begin_answer(self, ask: Ask) -> Any:
        return await self.client.send(self.request(ask), stream=True)

    async def end_answer(self, answer: Any) -> Any:
        try:
            await answer.aread()
        finally:
            await answer.aclose()
        return answered(answer)

    async def give_up(self, answer: Any) -> Any:
        await answer.aclose()

    async def stop(self) -> None:
        await self.client.aclose()


class AsyncHttpx2(AsyncHttpx):
    name = "httpx2-async"
    module = "httpx2"


class Requests(Client):
    """One adapter, and a session for each thread, as requests wants it."""

    name = "requests"
    family = HTTP

    def __init__(self, lb: kubelb.LoadBalancer) -> None:
        super().__init__(lb)
        self.adapter = Adapter(lb)
        self._local = threading.local()

    @property
    def session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
            self._local.session.mount("http://", self.adapter)
        session: requests.Session = self._local.session
        return session

    def begin_answer(self, ask: Ask) -> Any:
        return self.session.request(
            ask.method,
            url(self.lb),
            headers={"x-ask": ask.marker},
            data=ask.body or None,
            timeout=(LONG, ask.timeout or LONG),
            stream=True,
        )

    def end_answer(self, answer: Any) -> Any:
        with answer:
            _ = answer.content
        return answered(answer)

    def give_up(self, answer: Any) -> Any:
        answer.close()

    def meaning(self, error: BaseException, *, begun: bool) -> End:
        """requests has few classes: what its ConnectionError is made of tells the rest."""
        own = type(error).__name__
        if isinstance(error, kubelb.LoadBalancerError):
            late = isinstance(error, kubelb.DeadlineExceeded)
            base: Any = requests.Timeout if late else requests.ConnectionError
            assert isinstance(error, base), error
            return End(How.LATE if late else How.UNREACHABLE, base.__name__, kubelb_class(error))
        if not isinstance(error, requests.RequestException):
            raise error
        if own == "ReadTimeout":
            return End(How.LATE, own)
        if own == "ChunkedEncodingError":
            assert begun
            return End(How.BROKEN, own)
        assert own in {"ConnectionError", "ConnectTimeout"}, error
        inner = repr(error.args[0] if error.args else error)
        if begun:
            return End(How.LATE if "timed out" in inner.lower() else How.BROKEN, own)
        reason = type(getattr(error.args[0], "reason", error.args[0])).__name__ if error.args else ""
        refused = reason in {"NewConnectionError", "ConnectTimeoutError"} or own == "ConnectTimeout"
        return End(How.UNREACHABLE if refused else How.LOST, own)

    def close(self) -> None:
        self.adapter.close()
