"""httpx-ws: a web socket is one request, open for as long as it lives, on one pod."""

import asyncio
import socketserver
import threading
from collections.abc import Iterator

import httpx
import pytest
from httpx_ws import WebSocketDisconnect, WebSocketUpgradeError, aconnect_ws, connect_ws
from tests.companions.pods import in_flight
from wsproto import ConnectionType, WSConnection, events

import kubelb
from kubelb.adapters.httpx import async_mounts, mounts
from kubelb.service import service_of

URL = "ws://chat.prod/room"


class Pod(socketserver.ThreadingTCPServer):
    """Answers each text with its own number before it; "end" with the end of the web socket."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, number: int) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.number = number
        self.refuses = False
        self.opened = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def kill(self) -> None:
        self.shutdown()
        self.server_close()


class Talk(socketserver.BaseRequestHandler):
    server: Pod

    def handle(self) -> None:
        connection = WSConnection(ConnectionType.SERVER)
        while data := self.request.recv(65536):
            connection.receive_data(data)
            for event in connection.events():
                answer = self.answer(event)
                if answer is not None:
                    self.request.sendall(connection.send(answer))
                if isinstance(answer, events.CloseConnection | events.RejectConnection):
                    return

    def answer(self, event: events.Event) -> events.Event | None:
        if isinstance(event, events.Request):
            assert event.host == "chat.prod"
            self.server.opened += 1
            return events.RejectConnection(status_code=403) if self.server.refuses else events.AcceptConnection()
        if isinstance(event, events.TextMessage):
            end = event.data == "end"
            return events.CloseConnection(1000) if end else events.TextMessage(f"{self.server.number} {event.data}")
        return event.response() if isinstance(event, events.CloseConnection) else None


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    pods = [Pod(number) for number in range(3)]
    yield pods
    for pod in pods:
        pod.kill()


@pytest.fixture
def lb(pods: list[Pod]) -> Iterator[kubelb.LoadBalancer]:
    target = "static:///" + ",".join(f"127.0.0.1:{pod.server_address[1]}" for pod in pods)
    with kubelb.LoadBalancer(target, policy="round_robin") as lb:
        yield lb


@pytest.mark.parametrize("url", [URL, URL.replace("ws", "http", 1)])
def test_web_sockets(pods, lb, url):
    """Each on a pod of its own, in flight while it is open; a dead pod is not noticed."""
    with httpx.Client(mounts=mounts(lb, hosts=["chat.prod"])) as client:
        with connect_ws(url, client) as one, connect_ws(url, client) as two:
            assert in_flight(lb) == 2
            for session in (one, two, one, two):
                session.send_text("hello")
            heard = [(one.receive_text(), one.receive_text()), (two.receive_text(), two.receive_text())]
            assert {len({*pair}) for pair in heard} == {1}
            assert heard[0] != heard[1]
        assert in_flight(lb) == 0
        pods[0].kill()
        for _ in range(4):
            with connect_ws(url, client) as session:
                session.send_text("hello")
                assert session.receive_text() in {"1 hello", "2 hello"}
        assert in_flight(lb) == 0


def test_ends(pods, lb):
    """Closed by the pod, refused by it, and left in the middle by an error: none is a failure, none stays in flight."""
    with httpx.Client(mounts=mounts(lb, hosts=["chat.prod"])) as client:
        with connect_ws(URL, client) as session:
            session.send_text("end")
            with pytest.raises(WebSocketDisconnect):
                session.receive_text()
        for pod in pods:
            pod.refuses = True
        with pytest.raises(WebSocketUpgradeError), connect_ws(URL, client):
            pass
        for pod in pods:
            pod.refuses = False
        with pytest.raises(ZeroDivisionError), connect_ws(URL, client):
            raise ZeroDivisionError
        assert sum(pod.opened for pod in pods) == 3
    assert in_flight(lb) == 0
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


def test_asyncio(pods, lb):
    """The same for asyncio, many at once."""

    async def talk(client: httpx.AsyncClient) -> str:
        async with aconnect_ws(URL, client) as session:
            await session.send_text("hello")
            return await session.receive_text()

    async def main() -> None:
        async with httpx.AsyncClient(mounts=async_mounts(lb, hosts=["chat.prod"])) as client:
            heard = await asyncio.gather(*(talk(client) for _ in range(9)))
            assert sorted(heard) == sorted(f"{number} hello" for number in range(3) for _ in range(3))
            assert in_flight(lb) == 0
            pods[0].kill()
            assert {await talk(client) for _ in range(4)} == {"1 hello", "2 hello"}
            async with aconnect_ws(URL, client) as session:
                await session.send_text("end")
                with pytest.raises(WebSocketDisconnect):
                    await session.receive_text()
        assert in_flight(lb) == 0

    asyncio.run(main())
