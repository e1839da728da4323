"""The asyncio twin of `dial.py`: the same addresses, timeouts and contexts."""

from asyncio import CancelledError
from typing import Any

from kubelb.adapters._httpx.dial import Dialling
from kubelb.adapters._httpx.foreign import foreign, forks, not_ours
from kubelb.adapters._httpx.timeouts import Timeouts

__all__ = ["AsyncDial"]


class AsyncDial(Dialling):
    """A network backend for httpcore's AsyncConnectionPool."""

    __slots__ = ()
    backend = "AnyIOBackend"

    async def connect_tcp(self, host: str, port: int, timeout: Any = None, **options: Any) -> Any:  # noqa: ARG002, ASYNC109
        """Connect, to our address."""
        ip, real = self._state.endpoint.address
        options["socket_options"] = self._options
        with timeout.tcp(self._patience, self._state, self._core.ConnectTimeout) as seconds:
            inner = await self._inner.connect_tcp(ip, real, timeout=seconds, **options)
        return _AsyncStream(self._core, inner, self.secure)

    async def secure(self, inner: Any, name: str | None, timeouts: Any) -> Any:
        """Make TLS of one of our connections."""
        context = self._contexts()
        with timeouts.tls(self._patience, self._state, self._core.ConnectTimeout) as seconds:
            secured = await inner.start_tls(context, name, seconds)
        return _AsyncStream(self._core, secured, self.secure)

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._inner.sleep(seconds)


class _AsyncStream:
    """In a forked child a stream of the parent's is neither read nor written nor closed (see `foreign.py`)."""

    __slots__ = ("_core", "_forks", "_inner", "_secure", "get_extra_info")

    def __init__(self, core: Any, inner: Any, secure: Any) -> None:
        self._core = core
        self._secure = secure
        self._inner = inner
        self._forks = forks[0]
        self.get_extra_info = inner.get_extra_info

    async def aclose(self) -> None:
        if not foreign(self._forks):
            await self._inner.aclose()

    async def read(self, max_bytes: int, timeout: Any = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        if foreign(self._forks):
            raise not_ours(self._core.ReadError)
        if type(timeout) is Timeouts:
            timeout = timeout.left("read")
            if timeout is not None and timeout <= 0:
                raise self._core.ReadTimeout("timed out")
        data: bytes = await self._inner.read(max_bytes, timeout)
        return data

    async def write(self, buffer: bytes, timeout: Any = None) -> None:  # noqa: ASYNC109
        if foreign(self._forks):
            raise not_ours(self._core.WriteError)
        if not buffer:
            return
        if type(timeout) is not Timeouts:
            await self._inner.write(buffer, timeout)
            return
        seconds = timeout.left("write")
        if seconds is not None and seconds <= 0:
            raise self._core.WriteTimeout("timed out")
        try:
            await self._inner.write(buffer, seconds)
        except self._core.WriteError:
            timeout.cut_short = True
            raise

    async def start_tls(
        self,
        ssl_context: Any,  # noqa: ARG002
        server_hostname: str | None = None,
        timeout: Any = None,  # noqa: ASYNC109
    ) -> Any:
        try:
            return await self._secure(self._inner, server_hostname, timeout)
        except CancelledError:  # httpcore closes it for any other error
            if not foreign(self._forks):
                await self._inner.aclose()
            raise
