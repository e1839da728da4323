"""What a connection of HTTP/2 hears: bytes in, changed streams out.

Whatever h2 makes of the bytes, no exception of its own leaves here: what breaks the protocol ends the connection, and
each of its streams with an exception of httpcore's. What only one stream got wrong, as a body of another length than it
said, ends that one.
"""

from collections.abc import Callable
from typing import Any

import h2.events
import h2.settings

from kubelb.adapters._httpx.http2.cutter import Goaway
from kubelb.adapters._httpx.http2.endings import NO_ERROR, Judged, code_name, reset, verdict_of, with_judgement
from kubelb.adapters._httpx.http2.headers import body_length, split_status
from kubelb.adapters._httpx.http2.state import MOST, WINDOW, State
from kubelb.clock import Clock, monotonic
from kubelb.model import Sent, Verdict

__all__ = ["Hearing"]

_STREAMS = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS


class Hearing(State):
    """A state that changes with what is received."""

    def __init__(self, core: Any, clock: Clock = monotonic) -> None:
        super().__init__(core, clock)
        self._handlers: dict[type, Callable[[Any], None]] = {
            h2.events.RemoteSettingsChanged: self._on_settings,
            h2.events.InformationalResponseReceived: self._on_information,
            h2.events.ResponseReceived: self._on_headers,
            h2.events.DataReceived: self._on_data,
            h2.events.StreamEnded: self._on_end,
            h2.events.StreamReset: self._on_reset,
            h2.events.WindowUpdated: self._on_window,
        }

    def receive(self, data: bytes) -> bool:
        """Take what was received; returns whether more streams are allowed than before."""
        self.heard = self._clock()
        self.in_doubt = False
        limit = self.limit
        try:
            for part in self._cutter.cut(data):
                if type(part) is Goaway:
                    self._on_goaway(part)
                    continue
                for event in self._h2.receive_data(part):  # type: ignore[arg-type]
                    handler = self._handlers.get(type(event))
                    if handler is not None:
                        handler(event)
        except Exception as error:  # noqa: BLE001  # h2's own, hpack's, and what neither foresaw
            if not self.ended:
                words = f"the server broke HTTP/2: {type(error).__name__}: {error}"
                self._end(words, self._core.RemoteProtocolError)
        if self._credit >= WINDOW // 2 and not self.ended:
            self._h2.increment_flow_control_window(self._credit)
            self._credit = 0
        return self.limit > limit

    def _on_settings(self, event: Any) -> None:
        changed = event.changed_settings.get(_STREAMS)
        if changed is not None:
            self.settle(changed.new_value)
        elif not self.settled:
            self.settle(MOST)
        self._leave()
        self.changed += self.streams.values()  # their windows may have changed

    def _on_information(self, event: Any) -> None:
        """1xx: nothing to hand on, but not nothing."""
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.begun = True

    def _on_headers(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        stream.begun = True
        stream.status, stream.headers = split_status(event.headers)
        self._served = True
        stream.expected = body_length(stream.method, stream.status, stream.headers)
        # A body of another length is this stream's error alone; to h2 it is the end of the connection.
        h2_stream = self._h2.streams.get(event.stream_id)
        if h2_stream is not None:
            h2_stream._expected_content_length = None  # noqa: SLF001
        self.changed.append(stream)

    def _on_data(self, event: Any) -> None:
        self._credit += event.flow_controlled_length
        stream = self.streams.get(event.stream_id)
        if stream is not None and stream.error is None and event.data:
            stream.chunks.append(event.data)
            stream.got += len(event.data)
            self.changed.append(stream)

    def _on_end(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None or stream.error is not None:
            return
        if not stream.status:
            words = "the server ended the stream without an answer"
        elif stream.expected is not None and stream.expected != stream.got:
            words = f"the body ended after {stream.got} bytes of {stream.expected}"
        else:
            stream.ended = True
            self._settle_count(stream)
            self.changed.append(stream)
            return
        error = self._core.RemoteProtocolError(words)
        self._fail(stream, with_judgement(error, Judged(Verdict.FAILED, reason="bad answer")))

    def _on_reset(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None or stream.error is not None:
            return
        if stream.ended:  # no more of the request is wanted
            stream.sent = stream.over = True
            self._settle_count(stream)
            self.changed.append(stream)
            return
        stream.over = True
        self._fail(stream, reset(self._core, int(event.error_code), answered=stream.begun, fresh=stream.fresh))

    def _on_window(self, event: Any) -> None:
        if not event.stream_id:
            self.changed += self.streams.values()
        elif (stream := self.streams.get(event.stream_id)) is not None:
            self.changed.append(stream)

    def _on_goaway(self, goaway: Goaway) -> None:
        """No new streams, and those above its last one were not processed.

        Those up to it may still be answered. A peer that is built like h2 cannot: after its GOAWAY it can neither send
        nor hear, and lets them wait for its idle timeout (hypercorn, 5 s). So it is asked: others answer the PING, and
        that one finds it to be a frame that it cannot take, and closes.
        """
        if not self.leaving and self.streams:
            self._h2.ping(b"leaving?")
        self.leaving = True
        code = self._goaway.code if self._goaway is not None else goaway.code  # the first: what follows is its work
        self._goaway = self._goaway or goaway
        self._incident.planned = code == NO_ERROR and self._served
        if not self.used:
            self._end("the server went away", self._core.RemoteProtocolError)
        self.changed += self.newcomers
        name, verdict = code_name(code), verdict_of(code)
        for stream in list(self.streams.values()):
            if stream.id > goaway.last and not stream.begun and stream.error is None:
                stream.over = True
                error = self._core.RemoteProtocolError(f"the server went away before this request: {name}")
                judged = Judged(verdict, Sent.NEVER, True, f"GOAWAY {name}", stream.fresh, self._incident)
                self._fail(stream, with_judgement(error, judged))
        self._leave()
