"""The table's rows for HTTP/2: what a pod may do to a stream or a connection, and what must come of it.

As in `table.py` a row has how a call ends, how often each of three pods was given it, and what each is charged with;
`once` for a call that must not be repeated, `again` for one that may. The first pod has the fault.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.faults.http2_pod import FIRST_WINDOW, MOST_STREAMS, Link, Pod, Told, answer
from tests.faults.table import ANSWERED, BOTH, BROKEN, FIRST, LATE, LOST, NOWHERE, SECOND, TOLD, Then
from tests.waiting import until

__all__ = ["CODES", "ROWS", "Row"]

CODES = {
    "NO_ERROR": 0,
    "PROTOCOL_ERROR": 1,
    "INTERNAL_ERROR": 2,
    "FLOW_CONTROL_ERROR": 3,
    "SETTINGS_TIMEOUT": 4,
    "STREAM_CLOSED": 5,
    "FRAME_SIZE_ERROR": 6,
    "REFUSED_STREAM": 7,
    "CANCEL": 8,
    "COMPRESSION_ERROR": 9,
    "CONNECT_ERROR": 10,
    "ENHANCE_YOUR_CALM": 11,
    "INADEQUATE_SECURITY": 12,
    "HTTP_1_1_REQUIRED": 13,
    "one that is not assigned": 0xBEEF,
}
BIG = b"x" * 300_000
PATIENCE = 1.0
"""Seconds of a call, or of a read; a pod that is well needs milliseconds, and more on a busy machine."""
LAST = 2**31 - 1

Handler: TypeAlias = Callable[[Told], object]


@dataclass(frozen=True)
class Row:
    name: str
    first: Callable[[Pod], object]
    """What is wrong with the first pod, from the start."""
    once: Then
    again: Then | None = None
    ask: dict[str, Any] = field(default_factory=dict)
    warm: Callable[[Pod], object] | None = None
    """What goes wrong after a first call on the connection."""
    gone: bool = False
    """By that the connection has ended, before the call is made."""
    halfway: Handler | None = None
    """What goes wrong once the caller has the headers."""
    slow: bool = False
    most: int = 1
    """Connections to the first pod at most."""


def handles(handler: Handler) -> Callable[[Pod], object]:
    def apply(pod: Pod) -> None:
        pod.handler = handler

    return apply


def reset(code: int) -> Handler:
    return lambda told: told.cancel(code)


def resets(code: int, *, after: Handler | None = None) -> Callable[[Pod], object]:
    def handler(told: Told) -> None:
        if after is not None:
            after(told)
        told.cancel(code)

    return handles(handler)


def healthy(pod: Pod) -> None:
    """Nothing is wrong with it yet."""


def goes_away(last: Callable[[Told], int], code: int = 0, *, answers: bool = False) -> Callable[[Pod], object]:
    """GOAWAY while the call is there; then its answer, or the end of the connection."""

    def handler(told: Told) -> None:
        told.link.goaway(last(told), code)
        if answers:
            told.answer()
        else:
            told.link.cut()

    return handles(handler)


def connected(what: Callable[[Any], object]) -> Callable[[Pod], object]:
    def apply(pod: Pod) -> None:
        pod.on_connect = what

    return apply


def for_all_links(what: Callable[[Any], object]) -> Callable[[Pod], object]:
    def apply(pod: Pod) -> None:
        for link in list(pod.links):
            what(link)

    return apply


def mine(told: Told) -> int:
    return told.stream


def before(told: Told) -> int:
    return max(0, told.stream - 2)


def allows(streams: int) -> Callable[[Pod], object]:
    def apply(pod: Pod) -> None:
        pod.settings = {**pod.settings, MOST_STREAMS: streams}

    return apply


def allows_none(link: Link) -> None:
    """The client knows that its streams are counted, and then that there may be none; it is idle meanwhile."""
    assert until(lambda: link.acknowledged)
    link.settings(MOST_STREAMS, 0)


def shut(pod: Pod) -> None:
    """Its windows are never opened again."""
    pod.reads = False


def shrinks(pod: Pod) -> None:
    """In the midst of the body it takes its window back, below zero, and gives it again later."""

    def on_headers(told: Told) -> None:
        told.link.settings(FIRST_WINDOW, 10)
        told.link.settings(FIRST_WINDOW, 65535)

    pod.on_headers = on_headers


def early(status: int) -> Callable[[Pod], object]:
    """Answers as soon as the headers are here, and wants no more of the body."""

    def apply(pod: Pod) -> None:
        pod.reads = False

        def on_headers(told: Told) -> None:
            pod.delivered[told.marker] += 1
            told.headers(status)
            told.data(b"no", end=True)
            told.cancel(CODES["NO_ERROR"])

        pod.on_headers = on_headers

    return apply


def halves(told: Told) -> None:
    told.headers(200, ("content-length", "100000"))
    told.data(b"half")


def ends(told: Told) -> None:
    told.data(b"", end=True)


def nothing(told: Told) -> None:
    """It hangs."""


def garbage(told: Told) -> None:
    told.link.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def bad_status(told: Told) -> None:
    told.link.do(lambda h2: h2.send_headers(told.stream, [(":status", "nonsense")], end_stream=True))


def cuts(*, reset: bool) -> Handler:
    return lambda told: told.link.cut(reset=reset)


def turns_away(link: Any) -> None:
    link.goaway(0)
    link.deaf = True


def leaves(told: Told) -> None:
    told.link.goaway(told.stream)
    told.link.cut()


def pings(told: Told) -> None:
    for number in range(5):
        told.link.do(lambda h2, number=number: h2.ping(number.to_bytes(8, "big")))
    told.answer()


def informs(told: Told) -> None:
    told.link.do(lambda h2: h2.send_headers(told.stream, [(":status", "103"), ("link", "</a>")]))
    told.answer()


def trailers(told: Told) -> None:
    told.headers()
    told.data(b"ok")
    told.link.do(lambda h2: h2.send_headers(told.stream, [("x-sum", "1")], end_stream=True))


def late_settings(pod: Pod) -> None:
    """It answers before it says its settings."""
    pod.mute = True

    def handler(told: Told) -> None:
        told.link.do(lambda h2: h2.initiate_connection())
        told.answer()

    pod.handler = handler


GONE = Then(ANSWERED, BOTH)
"""Given to the first, which did not process it, and answered by the second."""

ROWS = (
    # A stream is reset
    *(
        Row(f"RST_STREAM {name}", resets(code), Then(LOST, FIRST, FIRST), Then(ANSWERED, BOTH, FIRST))
        for name, code in CODES.items()
        if name != "REFUSED_STREAM"
    ),
    Row("RST_STREAM REFUSED_STREAM", resets(CODES["REFUSED_STREAM"]), Then(ANSWERED, BOTH, FIRST)),
    Row(
        "RST_STREAM REFUSED_STREAM after a 1xx, which is not believed",
        resets(CODES["REFUSED_STREAM"], after=lambda told: told.headers(103)),
        Then(LOST, FIRST, FIRST),
        Then(ANSWERED, BOTH, FIRST),
    ),
    Row(
        "RST_STREAM REFUSED_STREAM after headers, which is not believed",
        handles(halves),
        Then(BROKEN, FIRST, FIRST),
        halfway=reset(CODES["REFUSED_STREAM"]),
    ),
    Row("RST_STREAM CANCEL after headers", handles(halves), Then(BROKEN, FIRST, FIRST), halfway=reset(8)),
    Row("RST_STREAM NO_ERROR after the whole answer", resets(0, after=answer), Then(ANSWERED, FIRST)),
    Row("an early 413, whole, and RST_STREAM NO_ERROR", early(413), Then(TOLD, FIRST), ask={"body": BIG}),
    Row("an early 200, whole, and RST_STREAM NO_ERROR", early(200), Then(ANSWERED, FIRST), ask={"body": BIG}),
    # GOAWAY
    Row("GOAWAY, last stream before this one", healthy, GONE, warm=goes_away(before)),
    Row("GOAWAY, last stream none", healthy, GONE, warm=goes_away(lambda told: 0)),
    Row("GOAWAY from the first stream on", goes_away(before), Then(ANSWERED, BOTH, FIRST)),
    Row("GOAWAY ENHANCE_YOUR_CALM, last stream before this one", goes_away(before, 11), Then(ANSWERED, BOTH, FIRST)),
    Row("GOAWAY INTERNAL_ERROR, last stream before this one", goes_away(before, 2), Then(ANSWERED, BOTH, FIRST)),
    Row("GOAWAY, this stream the last, which is answered", goes_away(mine, answers=True), Then(ANSWERED, FIRST)),
    Row(
        "GOAWAY, last stream any, this one answered", goes_away(lambda told: LAST, answers=True), Then(ANSWERED, FIRST)
    ),
    Row("GOAWAY, this stream the last, and then cut", healthy, Then(LOST, FIRST), GONE, warm=goes_away(mine)),
    Row("GOAWAY, last stream any, and then cut", healthy, Then(LOST, FIRST), GONE, warm=goes_away(lambda told: LAST)),
    Row(
        "GOAWAY INTERNAL_ERROR, this stream the last, and then cut",
        goes_away(mine, 2),
        Then(LOST, FIRST, FIRST),
        Then(ANSWERED, BOTH, FIRST),
    ),
    Row(
        "GOAWAY to an idle connection",
        healthy,
        Then(ANSWERED, FIRST),
        warm=for_all_links(lambda link: link.goaway(LAST)),
    ),
    Row("GOAWAY as soon as connected", connected(turns_away), Then(ANSWERED, SECOND, FIRST), most=3),
    # Limits and settings
    Row(
        "no streams allowed any more",
        healthy,
        Then(ANSWERED, FIRST),
        warm=for_all_links(allows_none),
    ),
    Row("one stream at a time", allows(1), Then(ANSWERED, FIRST)),
    Row("SETTINGS after the first answer", late_settings, Then(ANSWERED, FIRST)),
    Row("the window taken back in the midst of a body", shrinks, Then(ANSWERED, FIRST), ask={"body": BIG}),
    Row(
        "the window never opened",
        shut,
        Then(LATE, NOWHERE, FIRST),
        Then(ANSWERED, SECOND, FIRST),
        ask={"body": BIG, "timeout": PATIENCE},
        slow=True,
    ),
    Row(
        "the window never opened, with a deadline",
        shut,
        Then(LATE, NOWHERE, FIRST),
        ask={"body": BIG, "deadline": PATIENCE},
        slow=True,
    ),
    # Silence and noise
    Row(
        "hang, with a timeout for each read",
        handles(nothing),
        Then(LATE, FIRST, FIRST),
        Then(ANSWERED, BOTH, FIRST),
        ask={"timeout": PATIENCE},
        slow=True,
    ),
    Row("hang, with a deadline", handles(nothing), Then(LATE, FIRST, FIRST), ask={"deadline": PATIENCE}, slow=True),
    Row(
        "hang halfway, with a timeout for each read",
        handles(halves),
        Then(LATE, FIRST, FIRST),
        ask={"timeout": PATIENCE},
        slow=True,
    ),
    Row("unsolicited PINGs", handles(pings), Then(ANSWERED, FIRST)),
    Row("103 before the answer", handles(informs), Then(ANSWERED, FIRST)),
    Row("trailers", handles(trailers), Then(ANSWERED, FIRST)),
    # What is not HTTP/2
    Row("garbage", handles(garbage), Then(LOST, FIRST, FIRST), Then(ANSWERED, BOTH, FIRST)),
    Row("a status that is none", handles(bad_status), Then(LOST, FIRST, FIRST), Then(ANSWERED, BOTH, FIRST)),
    Row("a body shorter than it says", handles(halves), Then(BROKEN, FIRST, FIRST), halfway=ends),
    # The connection ends
    Row("cut before headers", handles(cuts(reset=False)), Then(LOST, FIRST, FIRST), Then(ANSWERED, BOTH, FIRST)),
    Row("reset before headers", handles(cuts(reset=True)), Then(LOST, FIRST, FIRST), Then(ANSWERED, BOTH, FIRST)),
    Row("idle connection cut", healthy, Then(ANSWERED, FIRST), warm=for_all_links(lambda link: link.cut()), gone=True),
    Row(
        "idle connection reset",
        healthy,
        Then(ANSWERED, FIRST),
        warm=for_all_links(lambda link: link.cut(reset=True)),
        gone=True,
    ),
    Row("cut halfway", handles(halves), Then(BROKEN, FIRST, FIRST), halfway=cuts(reset=False)),
    Row("reset halfway", handles(halves), Then(BROKEN, FIRST, FIRST), halfway=cuts(reset=True)),
    Row("GOAWAY halfway, and then cut", healthy, Then(BROKEN, FIRST), warm=handles(halves), halfway=leaves),
)
