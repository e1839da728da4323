"""Certificates that are renewed while a service runs: the next connection uses what is in the files by then."""

import logging
import shutil
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

from kubelb.adapters.requests import Adapter

URL = "https://reviews.prod/"


def once(peer: Peer) -> None:
    """Answers one request and hangs up, so that each request needs a connection."""
    peer.request()
    peer.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))


class RequestsWorld:
    """requests, by the verbs that are needed here."""

    def __init__(self) -> None:
        self._sessions: list[requests.Session] = []

    def client(self, lb: Any, *, tls: dict[str, Any]) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.mount("https://", Adapter(lb, **tls))
        self._sessions.append(session)
        return session

    def get(self, client: requests.Session, url: str) -> requests.Response:
        return client.get(url, timeout=5.0)

    def end(self) -> None:
        for session in self._sessions:
            session.close()


@pytest.fixture(params=[*worlds("sync", "async"), "requests"])
def any_world(request: pytest.FixtureRequest) -> Iterator[Any]:
    name, _, kind = request.param.partition("-")
    world = RequestsWorld() if not kind else World(name) if kind == "sync" else AioWorld(name)
    yield world
    world.end()


def replace(path: Path, content: bytes) -> None:
    """As a mounted Secret changes: another file under the same name, at once."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


@pytest.fixture
def server(raw: Any) -> Callable[..., Any]:
    """Makes servers with a certificate of an authority; they ask for one of `clients` where that is given."""

    def make(authority: trustme.CA, clients: trustme.CA | None = None) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # where a refused certificate fails the handshake itself
        authority.issue_cert("reviews.prod").configure_cert(context)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            clients.configure_trust(context)
        return raw(once, tls=context)

    return make


def test_a_new_authority_is_trusted_by_new_connections(
    any_world: Any, server: Any, balance: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the old one no longer; it is logged once for each change."""
    old, new = trustme.CA(), trustme.CA()
    file = tmp_path / "ca.pem"
    file.write_bytes(old.cert_pem.bytes())
    first, second = server(old), server(new)
    client = any_world.client(balance(first), tls={"verify": str(file)})
    other = any_world.client(balance(second), tls={"verify": str(file)})
    with caplog.at_level(logging.INFO, "kubelb"):
        assert any_world.get(client, URL).status_code == 200
        with pytest.raises(Exception, match=r"(?i)certificate"):
            any_world.get(other, URL)
        assert "read again" not in caplog.text
        replace(file, new.cert_pem.bytes())
        for _ in range(2):
            assert any_world.get(other, URL).status_code == 200
        with pytest.raises(Exception, match=r"(?i)certificate"):
            any_world.get(client, URL)
    lines = [line for line in caplog.messages if str(file) in line]
    assert len(lines) == 2  # one for each load balancer
    assert all("read again" in line for line in lines)


def test_a_new_client_certificate_is_shown(any_world: Any, server: Any, balance: Any, tmp_path: Path) -> None:
    """A certificate of the authority that the server asks for replaces one that it refuses."""
    authority, wrong, right = trustme.CA(), trustme.CA(), trustme.CA()
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "tls.crt", tmp_path / "tls.key"
    ca.write_bytes(authority.cert_pem.bytes())

    def issue(by: trustme.CA) -> tuple[bytes, bytes]:
        leaf = by.issue_cert("client.prod")
        return leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()

    for file, content in zip((cert, key), issue(wrong), strict=True):
        file.write_bytes(content)
    lb = balance(server(authority, right), retry=None, outliers=None)
    client = any_world.client(lb, tls={"verify": str(ca), "cert": (str(cert), str(key))})
    with pytest.raises(Exception):  # noqa: B017  # each client and each TLS version has another way to say so
        any_world.get(client, URL)
    for file, content in zip((cert, key), issue(right), strict=True):
        replace(file, content)
    assert any_world.get(client, URL).status_code == 200


def test_files_that_cannot_be_used_change_nothing(
    any_world: Any, server: Any, balance: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of a pair, nonsense, or nothing at all: what was read before goes on, and a line says why."""
    authority = trustme.CA()
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "tls.crt", tmp_path / "tls.key"
    ca.write_bytes(authority.cert_pem.bytes())
    leaves = [authority.issue_cert("client.prod") for _ in range(2)]
    cert.write_bytes(leaves[0].cert_chain_pems[0].bytes())
    key.write_bytes(leaves[0].private_key_pem.bytes())
    client = any_world.client(
        balance(server(authority, authority)), tls={"verify": str(ca), "cert": (str(cert), str(key))}
    )
    assert any_world.get(client, URL).status_code == 200
    replace(cert, leaves[1].cert_chain_pems[0].bytes())  # its key comes later
    assert any_world.get(client, URL).status_code == 200
    assert "cannot be used" in caplog.text
    replace(key, leaves[1].private_key_pem.bytes())
    shutil.copy(ca, tmp_path / "kept.pem")
    replace(ca, b"nonsense")
    assert any_world.get(client, URL).status_code == 200
    ca.unlink()
    assert any_world.get(client, URL).status_code == 200
    replace(ca, (tmp_path / "kept.pem").read_bytes())
    assert any_world.get(client, URL).status_code == 200
    assert "PRIVATE KEY" not in caplog.text
