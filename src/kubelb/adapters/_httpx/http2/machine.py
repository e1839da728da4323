"""Machine: one HTTP/2 connection without its socket.

The shells give it what they received and write what it has to say; it tells them which waiters to wake (`changed`).
state.py has what it is and how it ends, hearing.py what it makes of bytes; here is what a request does with it.

Flow control: the connection's window is opened as soon as data comes, each stream's as its data is taken. So a reader
that is slow fills its own window, and its neighbours' data comes all the same.

Not safe for threads: the sync shell has a lock around it.
"""

from contextlib import suppress

import h2.errors
import h2.exceptions

from kubelb.adapters._httpx.http2.headers import Fields
from kubelb.adapters._httpx.http2.hearing import Hearing
from kubelb.adapters._httpx.http2.state import WINDOW
from kubelb.adapters._httpx.http2.stream import Stream

__all__ = ["AT_ONCE", "Machine"]

AT_ONCE = 1 << 18
"""Bytes of a body that are handed on before the shell is asked to write them."""


class Machine(Hearing):
    """What a shell has of a connection."""

    def open(self, fields: Fields, *, body: bool) -> Stream:
        """Open a stream; raises what `refusal` says, or LocalProtocolError for what is no request."""
        if not self.can_open():
            raise self.refusal()
        try:
            number = self._h2.get_next_available_stream_id()
        except h2.exceptions.NoAvailableStreamIDError:
            self.leaving = True
            raise self.refusal() from None
        try:
            self._h2.send_headers(number, fields, end_stream=not body)
        except Exception as error:  # what it has encoded by now is not known, so no more headers
            self.leaving = True
            raise self._core.LocalProtocolError(str(error)) from error
        stream = Stream(number, fields[0][1], self._clock(), alone=self.used and not self.streams)
        stream.sent = not body
        self.used = True
        self.streams[number] = stream
        self.running += 1
        return stream

    # The request's body

    def room(self, stream: Stream) -> int:
        """How many bytes of the body the peer takes now."""
        return max(0, self._h2.local_flow_control_window(stream.id))

    def unwanted(self, stream: Stream) -> bool:
        """Whether the rest of the body need not be sent: the answer is here, or says no, or there will be none."""
        return stream.ended or stream.status >= 400 or stream.error is not None

    def send(self, stream: Stream, data: memoryview) -> int:
        """Send a part of the body, as much as there is room for; returns how much that was."""
        size = min(len(data), self.room(stream), AT_ONCE)
        step = self._h2.max_outbound_frame_size
        for start in range(0, size, step):
            self._h2.send_data(stream.id, bytes(data[start : min(start + step, size)]))
        return size

    def finish(self, stream: Stream) -> None:
        """The body is sent."""
        if not self.unwanted(stream):
            self._h2.end_stream(stream.id)
            stream.sent = True
            self._settle_count(stream)

    # The response's body

    def take(self, stream: Stream) -> bytes:
        """Return what there is of the body, and let the peer send as much again."""
        chunks = stream.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        stream.taken += len(data)
        if stream.taken >= WINDOW // 2 and not (stream.ended or stream.error or self.ended):
            self._h2.increment_flow_control_window(stream.taken, stream.id)
            stream.taken = 0
        return data

    # The end of a request

    def doubt(self, since: float) -> None:
        """A stream has waited since then and got nothing: unless anything else came, ask whether the peer is there."""
        if not (self.in_doubt or self.ended) and self.heard < since:
            self.in_doubt = True
            self._h2.ping(b"anybody?")

    def drop(self, stream: Stream) -> None:
        """The request has ended here, however it did. Safe to call twice."""
        if self.streams.pop(stream.id, None) is None:
            return
        if not (self.ended or stream.over or (stream.sent and stream.ended)):
            code = h2.errors.ErrorCodes.NO_ERROR if stream.ended else h2.errors.ErrorCodes.CANCEL
            with suppress(h2.exceptions.ProtocolError):  # the peer was faster
                self._h2.reset_stream(stream.id, code)
        self._uncount(stream)
        self._leave()

    def output(self) -> bytes:
        """Return what is to be written, and forget it."""
        return self._h2.data_to_send()
