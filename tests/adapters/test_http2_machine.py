"""The machine by hand: bytes in, bytes out, no socket and no clock but the test's."""

import random
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpcore
import pytest

from kubelb.adapters._httpx.http2.cutter import Cutter, Goaway, TooLong
from kubelb.adapters._httpx.http2.endings import judgement
from kubelb.adapters._httpx.http2.headers import request_fields, split_status
from kubelb.adapters._httpx.http2.machine import Machine
from kubelb.adapters._httpx.http2.state import UNSAID
from kubelb.adapters._httpx.http2.stream import Stream
from kubelb.model import Sent, Verdict

GET = [(b":method", b"GET"), (b":authority", b"x"), (b":scheme", b"http"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:], (b"content-length", b"60001")]


class Pair:
    """A machine and an h2 server, with nothing between."""

    def __init__(self) -> None:
        self.now = 0.0
        self.machine = Machine(httpcore, clock=lambda: self.now)
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.events: list[Any] = []

    def begin(self) -> None:
        self.server.initiate_connection()
        self.swap()

    def swap(self) -> None:
        """Everything that either has to say."""
        if data := self.machine.output():
            self.events += self.server.receive_data(data)
        if data := self.server.data_to_send():
            self.now += 1
            self.machine.receive(data)

    def goaway(self, last: int, code: int = 0) -> None:
        self.machine.receive(goaway(last, code))

    def judged(self, stream: Stream) -> Any:
        assert stream.error is not None
        return judgement(stream.error)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def goaway(last: int, code: int) -> bytes:
    return b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4, "big") + code.to_bytes(4, "big")


def frame(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + b"\0\0\0\1" + payload


END = frame(0, b"ok", flags=1)
"""Data, and the end of the stream."""


def test_the_cutter_gives_back_what_it_was_given_however_it_comes() -> None:
    """Seeded: random frames in random pieces; GOAWAY is found each time, and nothing else is touched."""
    chance = random.Random(7)
    for _ in range(200):
        kinds = [chance.choice((0, 1, 3, 4, 7, 8, 9, 200)) for _ in range(12)]
        frames = [frame(kind, chance.randbytes(chance.choice((8, 9, 40)))) for kind in kinds]
        data, at = b"".join(frames), 0
        cutter, rest, found = Cutter(), b"", []
        while at < len(data):
            step = chance.choice((1, 2, 5, 9, 30, 200))
            for part in cutter.cut(data[at : at + step]):
                if isinstance(part, Goaway):
                    found.append((part.last, part.code))
                else:
                    rest += part
            at += step
        assert rest == b"".join(one for kind, one in zip(kinds, frames, strict=True) if kind != 7)
        assert len(found) == kinds.count(7)


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", frame(7, b"short"), b"\xff" * 9])
def test_the_cutter_refuses_what_is_no_frame(data: bytes) -> None:
    with pytest.raises(TooLong):
        list(Cutter().cut(data))


def test_one_stream_until_the_settings_are_here(pair: Pair) -> None:
    first = pair.machine.open(GET, body=False)
    assert not pair.machine.can_open()
    assert pair.machine.settling()
    pair.begin()
    assert pair.machine.can_open()
    assert not pair.machine.settling()
    assert not first.answered()


def test_settings_that_never_come(pair: Pair) -> None:
    pair.machine.open(GET, body=False)
    pair.machine.settle()
    assert pair.machine.limit == UNSAID
    assert pair.machine.can_open()


def test_a_limit_counts_what_the_peer_counts(pair: Pair) -> None:
    """A stream whose answer is here but not read has ended for the peer; one that was reset, too."""
    pair.begin()
    pair.server.update_settings({3: 1})
    pair.swap()
    first = pair.machine.open(GET, body=False)
    with pytest.raises(httpcore.ConnectionNotAvailable):
        pair.machine.open(GET, body=False)
    pair.swap()
    pair.server.send_headers(1, [(":status", "200")])
    pair.server.send_data(1, b"whole", end_stream=True)
    pair.swap()
    second = pair.machine.open(GET, body=False)
    assert pair.machine.take(first) == b"whole"
    pair.machine.drop(first)
    pair.machine.drop(second)
    pair.machine.drop(second)
    assert pair.machine.running == 0
    assert pair.machine.can_open()


def test_each_last_stream_of_goaway(pair: Pair) -> None:
    """Of three streams those above the last were not processed; the others go on, and new ones are refused."""
    for last in (0, 1, 3, 5, 2**31 - 1):
        pair = Pair()
        pair.begin()
        streams = [pair.machine.open(GET, body=False) for _ in range(3)]
        pair.swap()
        pair.machine._served = True
        pair.goaway(last)
        for stream in streams:
            assert (stream.error is not None) == (stream.id > last)
            if stream.error is not None:
                judged = pair.judged(stream)
                assert judged[:2] == (Verdict.FAILED, Sent.NEVER)
                assert judged.incident.planned
        with pytest.raises(httpcore.ConnectionNotAvailable):
            pair.machine.open(GET, body=False)
        for stream in streams:
            if stream.error is None:
                pair.server.send_headers(stream.id, [(":status", "200")], end_stream=True)
        pair.swap()
        assert all(stream.ended for stream in streams if stream.error is None)
        for stream in streams:
            pair.machine.drop(stream)
        assert pair.machine.ended


def test_a_stream_that_was_answered_is_not_unprocessed_whatever_goaway_says(pair: Pair) -> None:
    pair.begin()
    stream = pair.machine.open(GET, body=False)
    pair.swap()
    pair.server.send_headers(1, [(":status", "200")])
    pair.swap()
    pair.goaway(0)
    assert stream.error is None
    pair.machine.lost(None)
    assert pair.judged(stream).sent is Sent.MAYBE


@pytest.mark.parametrize("how", ["goaway", "eof", "none allowed"])
def test_a_connection_that_never_took_a_request_is_as_one_that_was_refused(pair: Pair, how: str) -> None:
    """Never sent, blamed, and no reason to connect again and again."""
    if how == "goaway":
        pair.begin()
        pair.goaway(0)
    elif how == "eof":
        pair.machine.lost(None)
    else:
        pair.server.local_settings.max_concurrent_streams = 0
        pair.server.local_settings.acknowledge()
        pair.begin()
    with pytest.raises(httpcore.ConnectError) as caught:
        pair.machine.open(GET, body=False)
    first = judgement(caught.value)
    assert first[:2] == (Verdict.FAILED, Sent.NEVER)
    assert not first.incident.planned
    with pytest.raises(httpcore.ConnectError) as caught:
        pair.machine.open(GET, body=False)
    assert judgement(caught.value).incident is first.incident  # so it counts once


def test_the_end_of_an_idle_connection_that_meets_a_request_is_nobodys_fault(pair: Pair) -> None:
    """As with HTTP/1.1: used before, idle, and closed before a byte of an answer. With a second stream it is a cut."""
    for streams, verdict in ((1, Verdict.NEUTRAL), (2, Verdict.FAILED)):
        pair = Pair()
        pair.begin()
        first = pair.machine.open(GET, body=False)
        pair.swap()
        pair.server.send_headers(1, [(":status", "200")], end_stream=True)
        pair.swap()
        pair.machine.drop(first)
        pair.now += 1
        opened = [pair.machine.open(GET, body=False) for _ in range(streams)]
        pair.now += 1
        pair.machine.lost(None)
        assert pair.judged(opened[0]).verdict is verdict


def test_doubt_ends_with_whatever_comes(pair: Pair) -> None:
    pair.begin()
    stream = pair.machine.open(GET, body=False)
    pair.swap()
    pair.machine.doubt(pair.now)  # something came since
    assert pair.machine.can_open()
    pair.machine.doubt(pair.now + 1)
    pair.machine.drop(stream)
    assert not pair.machine.can_open()
    pair.swap()
    assert any(isinstance(event, h2.events.PingReceived) for event in pair.events)
    assert pair.machine.can_open()


def test_a_window_below_zero_is_no_room(pair: Pair) -> None:
    pair.begin()
    stream = pair.machine.open(POST, body=True)
    pair.machine.send(stream, memoryview(b"x" * 60_000))
    pair.swap()
    pair.server.update_settings({4: 10})
    pair.swap()
    assert pair.machine.room(stream) == 0
    assert pair.machine.send(stream, memoryview(b"x")) == 0


def test_an_unfinished_request_is_cancelled_and_a_finished_one_is_not(pair: Pair) -> None:
    pair.begin()
    for body, whole in ((True, False), (False, True)):
        pair.events.clear()
        stream = pair.machine.open(POST if body else GET, body=body)
        pair.swap()
        pair.server.send_headers(stream.id, [(":status", "200")], end_stream=True)
        pair.swap()
        pair.machine.drop(stream)
        pair.swap()
        resets = [event for event in pair.events if isinstance(event, h2.events.StreamReset)]
        assert bool(resets) is not whole


def test_what_h2_never_foresaw_ends_the_connection_and_nothing_else(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(data: bytes) -> None:
        raise KeyError(7)

    pair.begin()
    streams = [pair.machine.open(GET, body=False) for _ in range(2)]
    monkeypatch.setattr(pair.machine._h2, "receive_data", fail)
    pair.machine.receive(frame(0, b"data"))
    assert pair.machine.ended
    assert [type(stream.error) for stream in streams] == [httpcore.RemoteProtocolError] * 2
    first, second = (pair.judged(stream) for stream in streams)
    assert first.verdict is second.verdict is Verdict.FAILED
    assert first.incident is second.incident is not None  # so it counts once
    assert streams[0].error is not streams[1].error


def test_garbage_of_all_kinds_ends_in_an_error_of_the_stream() -> None:
    """Seeded: a conversation with bytes flipped. Nothing escapes, and the stream is answered, broken or waits."""
    chance = random.Random(11)
    for _ in range(150):
        pair = Pair()
        stream = pair.machine.open(GET, body=False)
        pair.server.initiate_connection()
        pair.server.receive_data(pair.machine.output())
        pair.server.send_headers(1, [(":status", "200"), ("content-length", "5")])
        pair.server.send_data(1, b"whole", end_stream=True)
        data = bytearray(pair.server.data_to_send())
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        pair.machine.receive(bytes(data))
        pair.machine.lost(None)
        assert stream.answered()
        pair.machine.drop(stream)


@pytest.mark.parametrize("how", ["REFUSED_STREAM", "GOAWAY"])
def test_a_request_of_whose_answer_anything_has_come_was_sent(pair: Pair, how: str) -> None:
    """Something of an answer that is not its status, a 1xx: whatever the peer then says, it may have been processed."""
    pair.begin()
    stream = pair.machine.open(POST, body=True)
    pair.swap()
    pair.server.send_headers(1, [(":status", "103"), ("link", "</a>")])
    pair.swap()
    assert not stream.answered()
    if how == "GOAWAY":
        pair.goaway(0)
        pair.machine.lost(None)
    else:
        pair.machine.receive(frame(3, (7).to_bytes(4, "big")))
    assert pair.judged(stream).sent is Sent.MAYBE


def test_a_stream_that_failed_here_counts_until_the_peer_hears_of_it(pair: Pair) -> None:
    """An upload whose answer is broken is open to the peer: a request more would be one more than it allows."""
    pair.begin()
    pair.server.update_settings({3: 1})
    pair.swap()
    first = pair.machine.open([*POST[:4]], body=True)
    pair.swap()
    pair.server.send_headers(1, [(":status", "200"), ("content-length", "5")])
    pair.machine.receive(pair.server.data_to_send() + END)
    assert first.error is not None
    with pytest.raises(httpcore.ConnectionNotAvailable):
        pair.machine.open(GET, body=False)
    pair.machine.drop(first)
    assert pair.machine.running == 0
    pair.machine.open(GET, body=False)
    assert not pair.machine.leaving


@pytest.mark.parametrize("step", [1, 3, 11, 14, 1000])
def test_a_whole_answer_is_one_though_the_peer_breaks_the_protocol_right_after_it(pair: Pair, step: int) -> None:
    """However it comes in pieces; h2 tells nothing of the frames that it is given together with a wrong one."""
    pair.begin()
    whole, open_ = (pair.machine.open(GET, body=False) for _ in range(2))
    pair.swap()
    pair.server.send_headers(1, [(":status", "200")])
    data = pair.server.data_to_send() + END + frame(0, b"more", flags=1) + frame(8, b"\0\0\0\0")
    for at in range(0, len(data), step):
        pair.machine.receive(data[at : at + step])
    assert pair.machine.ended
    assert (whole.ended, whole.error) == (True, None)
    assert pair.machine.take(whole) == b"ok"
    assert open_.error is not None


@pytest.mark.parametrize("step", [7, 12, 1000])
def test_a_body_of_another_length_is_an_error_of_its_stream_however_it_comes(pair: Pair, step: int) -> None:
    """The machine looks at a stream between its headers and its data, also where the headers came in two pieces."""
    pair.begin()
    wrong, other = (pair.machine.open(GET, body=False) for _ in range(2))
    pair.swap()
    pair.server.send_headers(1, [(":status", "200"), ("content-length", "5")])
    data = pair.server.data_to_send() + END
    for at in range(0, len(data), step):
        pair.machine.receive(data[at : at + step])
    assert wrong.error is not None
    assert other.error is None
    assert not pair.machine.ended


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_planned_end_is_believed_only_of_what_the_peer_does_not_break_its_word_with(pair: Pair, cut: int) -> None:
    """GOAWAY's last stream and those below are to be answered; more than one that is not, and it is a failure."""
    pair.begin()
    pair.machine._served = True
    streams = [pair.machine.open(GET, body=False) for _ in range(cut + 2)]
    pair.swap()
    pair.goaway(streams[cut - 1].id)
    pair.machine.lost(None)
    above = {pair.judged(stream).incident for stream in streams[cut:]}
    below = {pair.judged(stream).incident for stream in streams[:cut]}
    assert [incident.planned for incident in above] == [True]
    assert [incident.planned for incident in below] == [cut == 1]


def test_fields_of_one_connection_are_left_out() -> None:
    class Request:
        method = b"POST"
        url = httpcore.URL("https://reviews.prod/a?b=1")
        headers = [
            (b"Host", b"reviews.prod:80"),
            (b"Connection", b"keep-alive"),
            (b"Transfer-Encoding", b"chunked"),
            (b"TE", b"gzip"),
            (b"X-One", b"1"),
        ]

    fields, body = request_fields(Request)
    assert body
    assert fields == [
        (b":method", b"POST"),
        (b":authority", b"reviews.prod:80"),
        (b":scheme", b"https"),
        (b":path", b"/a?b=1"),
        (b"x-one", b"1"),
    ]


@pytest.mark.parametrize(
    "fields", [[], *([(b":status", status)] for status in (b"nonsense", b"7", b"2_00", b" 200", b"+200"))]
)
def test_an_answer_without_a_status_is_none(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_status(fields)
