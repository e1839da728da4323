"""Whose credentials a pod is shown: its own service's. Never a proxy's, nor another host's.

The kind: what a client adds or carries along by itself (redirects, the environment, netrc) and what must not get there.
"""

import base64
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from tests.adapters.conftest import worlds
from tests.adapters.raw import OK, Peer
from tests.adapters.world import AioWorld, World

from kubelb.adapters.requests import mount

USER, PASSWORD = "corp-user", "corp-password"
PROXY = f"http://{USER}:{PASSWORD}@127.0.0.1:9"
SECRET = base64.b64encode(f"{USER}:{PASSWORD}".encode())
OURS, OTHER = "reviews.prod", "ratings.prod"
MOVED = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nSet-Cookie: session=mine\r\nLocation: %b\r\n\r\n"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Pod:
    """Answers, redirects ``/to/...`` there, sets a cookie, and keeps the heads of what it was sent."""

    def __init__(self, raw: Callable[..., Any], **options: Any) -> None:
        self.heads: list[bytes] = []
        self.server = raw(self._serve, **options)
        self.address = self.server.address

    def _serve(self, peer: Peer) -> None:
        while True:
            head = peer.request()
            self.heads.append(head.lower())
            path = head.split(b" ")[1]
            if path.startswith(b"/to/"):
                place = path.removeprefix(b"/to/")
                peer.send(
                    b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nSet-Cookie: session=mine\r\nLocation: %b\r\n\r\n"
                    % place
                )
            else:
                peer.send(OK)

    def saw(self, name: bytes) -> list[bool]:
        return [b"\r\n%b:" % name in head for head in self.heads]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """For a server, and the file of its authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(OURS).configure_cert(context)
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def by_environment(name: str) -> Any:
    def set_it(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, PROXY)
        monkeypatch.setenv(name.lower(), PROXY)

    return set_it


def by_session(*keys: str) -> Any:
    def set_it(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
        session.trust_env = False
        session.proxies = dict.fromkeys(keys, PROXY)

    return set_it


@pytest.mark.parametrize(
    "proxied",
    [
        *(pytest.param(by_environment(name), id=name) for name in VARIABLES[:3]),
        pytest.param(by_session("http", "https"), id="session"),
        pytest.param(by_session("http://reviews.prod", "all"), id="session, by host"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxys_password_is_the_proxys_alone(
    session, raw, balance, tls, monkeypatch: pytest.MonkeyPatch, proxied: Any, scheme: str
) -> None:
    """requests writes it on each redirected request by itself; to a pod there is no proxy on the way."""
    context, ca = tls
    pod = Pod(raw, tls=context if scheme == "https" else None)
    mount(session, balance(pod), hosts=[OURS], verify=ca)
    proxied(session, monkeypatch)
    url = f"{scheme}://{OURS}"
    response = session.get(f"{url}/to//b", timeout=5.0)
    assert (response.status_code, len(response.history)) == (200, 1)
    assert session.post(f"{url}/to/{url}/c", data=b"x", timeout=5.0).status_code == 200
    assert session.get(f"{url}/d", timeout=5.0, proxies={scheme: PROXY}).status_code == 200
    assert pod.saw(b"proxy-authorization") == [False] * 5
    assert not any(SECRET.lower() in head or PASSWORD.encode() in head for head in pod.heads)


@pytest.mark.parametrize("name", ["Proxy-Authorization", "proxy-authorization", b"Proxy-Authorization"])
def test_requests_that_carry_it_by_hand(session, raw, balance, name: Any) -> None:
    """A session for the world outside may have it; no proxy is on the way to a pod, so no pod gets it."""
    pod = Pod(raw)
    mount(session, balance(pod), hosts=[OURS])
    response = session.get(f"http://{OURS}/", headers={name: "Basic secret", "X-Other": "1"}, timeout=5.0)
    assert response.status_code == 200
    assert pod.saw(b"proxy-authorization") == [False]
    assert pod.saw(b"x-other") == [True]


def test_another_services_credentials_with_requests(session, raw, balance) -> None:
    """As the bare client: Authorization and cookies stay with the host that they are for."""
    ours, other = Pod(raw), Pod(raw)
    for name, pod in ((OURS, ours), (OTHER, other)):
        mount(session, balance(pod), hosts=[name])
    for _ in range(2):
        response = session.get(f"http://{OURS}/to/http://{OTHER}/", auth=("me", "secret"), timeout=5.0)
        assert response.status_code == 200
    assert ours.saw(b"authorization") == [True, True]
    assert ours.saw(b"cookie") == [False, True]
    assert (other.saw(b"authorization"), other.saw(b"cookie")) == ([False] * 2, [False] * 2)


def test_what_a_host_outside_was_given(session, raw, balance) -> None:
    """A redirect from there brings neither its Authorization nor its cookie along."""
    pod, outside = Pod(raw), Pod(raw)
    mount(session, balance(pod), hosts=[OURS])
    response = session.get(f"http://{outside.address}/to/http://{OURS}/", auth=("me", "secret"), timeout=5.0)
    assert response.status_code == 200
    assert outside.saw(b"authorization") == [True]
    assert (pod.saw(b"authorization"), pod.saw(b"cookie")) == ([False], [False])


def test_netrc_is_read_by_the_services_name(
    session, raw, balance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has for that name is sent, as by the bare client; what it has for a pod's address or others is not."""
    file = tmp_path / "netrc"
    file.write_text(
        f"machine 127.0.0.1 login pod password wrong\nmachine {OTHER} login other password wrong\n"
        f"machine {OURS} login me password right\n"
    )
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    ours, third = Pod(raw), Pod(raw)
    mount(session, balance(ours), hosts=[OURS])
    mount(session, balance(third), hosts=["third.prod"])
    session.get(f"http://{OURS}/to/http://third.prod/", timeout=5.0)
    assert base64.b64encode(b"me:right").lower() in ours.heads[0]
    assert third.saw(b"authorization") == [False]


@pytest.fixture(params=worlds("sync", "async"))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    name, kind = request.param.split("-")
    world = World(name) if kind == "sync" else AioWorld(name)
    yield world
    world.end()


@pytest.mark.parametrize("how", ["option", "environment"])
def test_httpx_with_a_proxy_for_the_world_outside(
    world: World, raw, balance, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its password stays with it, at first and on redirects."""
    pod = Pod(raw)
    options: dict[str, Any] = {"proxy": PROXY} if how == "option" else {}
    if how == "environment":
        for name in VARIABLES[:3]:
            monkeypatch.setenv(name, PROXY)
    mounts = {f"all://{OURS}": world.transport(balance(pod))}
    client = world.client(None, mounts=mounts, follow_redirects=True, **options)
    assert world.get(client, f"http://{OURS}/to//b").status_code == 200
    assert pod.saw(b"proxy-authorization") == [False, False]
    assert not any(SECRET.lower() in head for head in pod.heads)


def test_httpx_carries_it_to_no_pod(world: World, raw, balance) -> None:
    """Set by hand, for one request or for all of a client; a redirect from outside would bring it along."""
    pod, outside = Pod(raw), Pod(raw)
    mounts = {f"all://{OURS}": world.transport(balance(pod))}
    headers = {"Proxy-Authorization": "Basic secret", "X-Other": "1"}
    client = world.client(None, mounts=mounts, follow_redirects=True, trust_env=False, headers=headers)
    assert world.get(client, f"http://{OURS}/").status_code == 200
    assert world.get(client, f"http://{outside.address}/to/http://{OURS}/").status_code == 200
    assert outside.saw(b"proxy-authorization") == [True]
    assert pod.saw(b"proxy-authorization") == [False, False]
    assert pod.saw(b"x-other") == [True, True]


def test_another_services_credentials_with_httpx(world: World, raw, balance) -> None:
    """As the bare client: Authorization and cookies stay with the host that they are for."""
    ours, other = Pod(raw), Pod(raw)
    mounts = {f"all://{name}": world.transport(balance(pod)) for name, pod in ((OURS, ours), (OTHER, other))}
    client = world.client(None, mounts=mounts, follow_redirects=True)
    for _ in range(2):
        response = world.get(client, f"http://{OURS}/to/http://{OTHER}/", auth=("me", "secret"))
        assert response.status_code == 200
    assert ours.saw(b"authorization") == [True, True]
    assert ours.saw(b"cookie") == [False, True]
    assert (other.saw(b"authorization"), other.saw(b"cookie")) == ([False] * 2, [False] * 2)
