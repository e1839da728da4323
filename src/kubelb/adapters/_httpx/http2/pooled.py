"""What httpcore's pool asks of a connection, whichever shell it is."""

from typing import Any

from kubelb.adapters._httpx.foreign import foreign, forks
from kubelb.adapters._httpx.http2.machine import Machine
from kubelb.adapters._httpx.http2.stream import Stream
from kubelb.clock import monotonic

__all__ = ["Pooled"]


class Pooled:
    """Base of both shells; over a network stream that is ours from now on."""

    def __init__(self, core: Any, origin: Any, stream: Any, keepalive: float | None) -> None:
        self._core = core
        self._origin = origin
        self._network = stream
        self._keepalive = keepalive
        self._machine = Machine(core)
        self._expires: float | None = None
        self._forks = forks[0]
        self._rest()

    def foreign(self) -> bool:
        """Whether it is another process's: this one has a copy after a fork, and its socket speaks for the other one.

        Nothing is said on it here, and no lock of it is taken: a thread that does not exist here may hold that.
        """
        return foreign(self._forks)

    def _flush(self) -> None:
        """Let what the machine has to say be written: the shell's part."""
        raise NotImplementedError

    def _taken(self, stream: Stream) -> bytes:
        """Return what is here of a response's body, empty at its end; raises what has ended it."""
        if stream.chunks:
            data = self._machine.take(stream)
            self._flush()
            return data
        if stream.error is not None:
            raise stream.error
        return b""

    def _rest(self) -> None:
        """It is idle from now on, if it is."""
        if self._keepalive is not None and self._machine.idle():
            self._expires = monotonic() + self._keepalive

    def _response(self, stream: Stream, body: Any) -> Any:
        """Return the response whose headers are here; raises what the stream ended with."""
        if stream.error is not None and not stream.refused():  # broken by now: sooner than in the body
            raise stream.error
        return self._core.Response(
            stream.status,
            headers=stream.headers,
            content=body,
            extensions={"http_version": b"HTTP/2", "network_stream": self._network, "stream_id": stream.id},
        )

    def can_handle_request(self, origin: Any) -> bool:
        """Whether it leads there."""
        return bool(origin == self._origin)

    def is_available(self) -> bool:
        """Whether a stream can be opened, or it is not known yet."""
        return (self._machine.can_open() or self._machine.settling()) and not self.foreign()

    def has_expired(self) -> bool:
        """Whether it has been idle for too long, or has ended: older pools ask nothing else of an idle one."""
        return self._machine.ended or (self._expires is not None and monotonic() > self._expires)

    def is_idle(self) -> bool:
        """Whether no request is on it."""
        return self._machine.idle()

    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._machine.ended or self.foreign()

    def is_connected(self) -> bool:
        """As httpcore2 asks."""
        return True

    def can_multiplex(self) -> bool:
        """As httpcore2 asks."""
        return True

    def info(self) -> str:
        """For httpcore's reprs."""
        return f"{str(self._origin)!r}, HTTP/2, {len(self._machine.streams)} streams"
