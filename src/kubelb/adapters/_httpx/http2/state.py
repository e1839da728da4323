"""What a connection of HTTP/2 is at a moment, and how it ends.

    settling   no SETTINGS yet: one stream, and the others wait for them, a second at most
    open       streams up to the limit
    in doubt   a stream timed out while nothing came: a PING is out, and no stream is opened until anything comes
    leaving    GOAWAY, or no stream ids left: no new streams; ends with the last one
    ended      nothing is sent or read any more; each stream has ended or has an error of its own

A stream is in `streams` from its headers until its request has ended here, which may be after the peer has ended it. It
counts towards the peer's limit until the peer has ended it too.
"""

from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.exceptions
import h2.settings

from kubelb.adapters._httpx.http2.cutter import Cutter, Goaway
from kubelb.adapters._httpx.http2.endings import Judged, code_name, verdict_of, with_judgement
from kubelb.adapters._httpx.http2.stream import Stream, Waiter
from kubelb.adapters.sockets import gone
from kubelb.clock import Clock, monotonic
from kubelb.model import Incident, Sent, Verdict

__all__ = ["MOST", "UNSAID", "WINDOW", "State"]

WINDOW = 1 << 24
"""Bytes that a peer may send ahead, on each stream; as httpcore has it."""
MOST = 256
"""Streams at most, whatever the peer allows: h2 counts them all for each new one."""
UNSAID = 100
"""Streams, where no SETTINGS come: what RFC 9113 recommends as the least."""

_CONFIG = h2.config.H2Configuration(client_side=True, header_encoding=None, validate_inbound_headers=False)
_SETTINGS = h2.settings.SettingCodes


class State:
    """`core` is httpcore; `heard` the time when something was last received."""

    def __init__(self, core: Any, clock: Clock = monotonic) -> None:
        self._core = core
        self._clock = clock
        self._h2 = h2.connection.H2Connection(config=_CONFIG)
        self._cutter = Cutter()
        self.streams: dict[int, Stream] = {}
        self.newcomers: list[Waiter] = []
        """Requests that wait for the peer's SETTINGS."""
        self.changed: list[Waiter] = []
        """Those to wake."""
        self.running = 0
        self.limit = 1
        self.settled = False
        self.used = False
        self._served = False
        """A stream was answered here: so what the peer says at the end is worth something."""
        self.in_doubt = False
        self.leaving = False
        self.ended = False
        self._closed = False
        """It was closed from here."""
        self.heard = clock()
        self._goaway: Goaway | None = None
        self._incident = Incident()
        """Its end, which all its streams share."""
        self._credit = 0
        self._start()

    def _start(self) -> None:
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                _SETTINGS.ENABLE_PUSH: 0,
                _SETTINGS.INITIAL_WINDOW_SIZE: WINDOW,
                _SETTINGS.MAX_CONCURRENT_STREAMS: 100,
                _SETTINGS.MAX_HEADER_LIST_SIZE: 65536,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW)

    def can_open(self) -> bool:
        """Whether a stream can be opened now."""
        return self.running < self.limit and not (self.leaving or self.ended or self.in_doubt)

    def settling(self) -> bool:
        """Whether it is worth waiting for the peer's SETTINGS."""
        return not (self.settled or self.leaving or self.ended)

    def settle(self, limit: int = UNSAID) -> bool:
        """Allow so many streams; returns whether that is more than before."""
        more = limit > self.limit or not self.settled
        self.settled = True
        self.limit = min(limit, MOST)
        self.changed += self.newcomers
        return more

    def idle(self) -> bool:
        """Whether no request is on it, nor waits to be."""
        return not (self.streams or self.newcomers)

    def refusal(self) -> Exception:
        """Return the error for a request that cannot be sent here, and of which nothing was sent.

        As a rule it makes httpcore use another connection. But where this one never took a request, the next one to the
        same endpoint need not be better, and httpcore would connect for ever. Such a pod serves no request, and counts
        as one that refuses the connection.
        """
        if self.used or self._closed:
            refusal: Exception = self._core.ConnectionNotAvailable()
            return refusal
        if self._goaway is not None:
            words = f"the server went away: {code_name(self._goaway.code)}"
        else:
            words = "the server closed the connection" if self.ended else "the server allows no streams"
        error = self._core.ConnectError(f"{words} before any request")
        return with_judgement(error, Judged(Verdict.FAILED, Sent.NEVER, True, "connect error", True, self._incident))

    # Endings

    def _leave(self) -> None:
        """Close it where it is of no use any more: an idle connection that allows no streams is on its way out too."""
        if (self.leaving or (self.limit == 0 and self.used)) and not self.streams:
            self.close()

    def close(self) -> None:
        """End it from here, with a word to the peer."""
        self._closed = self._closed or not self.ended
        if not self.ended:
            with suppress(h2.exceptions.ProtocolError):
                self._h2.close_connection()
            self._end("the connection was closed", self._core.ReadError, Judged(Verdict.CANCELLED, retryable=False))

    def lost(self, error: Exception | None) -> None:
        """The peer closed the connection, or it broke."""
        if self.ended:
            return
        if error is None:
            self._end("Server disconnected", self._core.RemoteProtocolError)
        else:
            # A node that has vanished is to blame however many streams wait for it.
            judged = Judged(Verdict.FAILED, reason="disconnected", incident=Incident()) if gone(error) else None
            self._end(str(error) or type(error).__name__, self._core.ReadError, judged)

    def _end(self, words: str, kind: Any, judged: Judged | None = None) -> None:
        self.ended = True
        open_ = [stream for stream in self.streams.values() if not stream.ended and stream.error is None]
        if open_:
            incident = self._incident
            if incident.planned and len(open_) > 1:
                # GOAWAY's last stream and those below were to be answered, so this was not as planned. One is forgiven:
                # a server that is built on h2, as hypercorn, goes away at a limit of requests with the one at hand as
                # the last, and can then send no more, not even that answer; each connection would end in a failure.
                incident = Incident()
            found = judged or Judged(self._verdict(open_), reason="disconnected", incident=incident)
            for stream in open_:
                self._fail(stream, with_judgement(kind(words), found))
        self.changed += self.newcomers

    def _verdict(self, open_: list[Stream]) -> Verdict:
        """What the end of the connection says."""
        if self._goaway is not None:
            return verdict_of(self._goaway.code)
        only = open_[0]
        if len(open_) == 1 and only.alone and self.heard < only.opened:
            return Verdict.NEUTRAL  # it was idle, and its peer may have been closing it
        return Verdict.FAILED

    def _fail(self, stream: Stream, error: Exception) -> None:
        stream.error = error
        if stream.over or stream.sent:  # else h2 and the peer count it until it is reset here
            self._uncount(stream)
        self.changed.append(stream)

    def _uncount(self, stream: Stream) -> None:
        if stream.counted:
            stream.counted = False
            self.running -= 1

    def _settle_count(self, stream: Stream) -> None:
        if stream.sent and stream.ended:
            self._uncount(stream)
