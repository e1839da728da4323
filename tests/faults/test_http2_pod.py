"""The pod that the other tests of HTTP/2 speak to: it holds a client to nothing that the client has not heard of."""

import contextlib
import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import pytest
from tests.faults.http2_pod import FIRST_WINDOW, MOST_STREAMS, Pod, Told
from tests.waiting import until

FIELDS = [(":method", "POST"), (":authority", "x"), (":scheme", "http"), (":path", "/"), ("x-ask", "it")]
WINDOW = 65535


class Late:
    """A client that reads when it is told to."""

    def __init__(self, pod: Pod) -> None:
        host, _, port = pod.address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=20.0)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()

    def open(self, *, end: bool) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, FIELDS, end_stream=end)
        self.write()
        return stream

    def write(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def hear(self, kind: type) -> None:
        """Read until something of this kind has come; what that has to be answered with is not written yet."""
        while True:
            head = self.read(9)  # frame by frame, so it takes no more than there is need for
            frame = head + self.read(int.from_bytes(head[:3], "big"))
            if any(isinstance(event, kind) for event in self.h2.receive_data(frame)):
                return

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (more := self.sock.recv(size - len(data))):
                raise EOFError
            data += more
        return data


@pytest.fixture
def client(pod: Pod) -> Iterator[Late]:
    made = Late(pod)
    with contextlib.closing(made.sock):
        yield made


def test_a_limit_of_streams_holds_from_its_own_ack_on(pod: Pod, client: Late) -> None:
    """A client that acknowledges the first SETTINGS late, and has heard of no others, may open streams."""
    client.open(end=True)
    client.hear(h2.events.StreamEnded)
    (link,) = pod.links
    link.settings(MOST_STREAMS, 0)
    client.write()  # the first ACK
    client.open(end=True)
    client.hear(h2.events.StreamEnded)
    assert pod.broken == []


def test_a_window_that_is_taken_back_holds_from_its_own_ack_on(pod: Pod, client: Late) -> None:
    """What was sent into the window as it was before is taken; afterwards it is held to be small, and then large."""

    def shrinks(told: Told) -> None:
        told.link.settings(FIRST_WINDOW, 10)
        told.link.settings(FIRST_WINDOW, WINDOW)

    pod.on_headers, pod.reads = shrinks, False
    stream = client.open(end=False)
    assert until(pod.all_told, 20.0)
    client.hear(h2.events.RemoteSettingsChanged)
    client.write()  # the first ACK
    for _ in range(4):
        client.h2.send_data(stream, b"x" * 16000)
    client.write()
    for window in (10, WINDOW):
        client.hear(h2.events.RemoteSettingsChanged)
        assert client.h2.remote_settings.initial_window_size == window
        client.write()
    client.h2.end_stream(stream)
    client.write()
    client.hear(h2.events.StreamEnded)
    assert pod.broken == []
