"""TLS: verified against the service's name, whatever address is dialled; no connection is shared between names."""

import ssl
import threading

import pytest
import trustme
from tests.adapters.conftest import in_flight, state
from tests.adapters.raw import RawServer, serve
from tests.adapters.world import World

REVIEWS, RATINGS = "reviews.prod", "ratings.prod"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def contexts(authority: trustme.CA, *names: str) -> dict[str, ssl.SSLContext]:
    found = {}
    for name in names:
        found[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(found[name])
    return found


def by_name(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """One ip:port with a certificate for each name, chosen by SNI; the first one serves unknown names."""
    known = contexts(authority, *names)
    first = known[names[0]]

    def choose(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = known.get(name or "", first)

    first.sni_callback = choose
    return first


@pytest.fixture
def two_services(authority: trustme.CA):
    """reviews.prod and ratings.prod on one ip:port."""
    server = RawServer(serve, tls=by_name(authority, REVIEWS, RATINGS))
    yield server
    server.close()


def test_two_services_on_one_address(world: World, two_services, balance, trusting) -> None:
    """Each name is verified on a connection of its own, also after the other's was kept alive."""
    one, other = balance(two_services), balance(two_services)
    reviews = world.client(one, tls={"verify": trusting})
    ratings = world.client(other, tls={"verify": trusting})
    for _ in range(2):
        assert world.get(reviews, f"https://{REVIEWS}/").status_code == 200
        assert world.get(ratings, f"https://{RATINGS}/").status_code == 200


def test_a_wrong_certificate_is_refused(world: World, authority, balance, trusting) -> None:
    """A server with another service's certificate gets nothing: never sent, also beside a connection kept alive."""
    server = RawServer(serve, tls=contexts(authority, REVIEWS)[REVIEWS])
    try:
        lb = balance(server)
        client = world.client(lb, tls={"verify": trusting})
        assert world.get(client, f"https://{REVIEWS}/").status_code == 200
        delivered = server.delivered
        with pytest.raises(world.httpx.ConnectError, match="certificate") as caught:
            world.request(client, "POST", f"https://{RATINGS}/", content=b"secret")
        assert len(caught.value.__notes__) == 2
        assert server.delivered == delivered
        assert world.get(client, f"https://{REVIEWS}/").status_code == 200
        assert in_flight(lb) == 0
    finally:
        server.close()


def test_another_name_than_the_urls(world: World, authority, balance, trusting) -> None:
    """`server_hostname` is what is sent as SNI and verified."""
    name = "reviews.prod.svc.cluster.local"
    server = RawServer(serve, tls=contexts(authority, name)[name])
    try:
        client = world.client(balance(server), tls={"verify": trusting, "server_hostname": name})
        assert world.get(client, f"https://{REVIEWS}/").status_code == 200
    finally:
        server.close()


def test_unknown_authority(world: World, two_services, balance) -> None:
    """A CA that nobody trusts is an error, unless verification was switched off."""
    strict = world.client(balance(two_services))
    with pytest.raises(world.httpx.ConnectError, match="certificate"):
        world.get(strict, f"https://{REVIEWS}/")
    lax = world.client(balance(two_services), tls={"verify": False})
    assert world.get(lax, f"https://{REVIEWS}/").status_code == 200


def test_files(world: World, authority, two_services, balance, tmp_path) -> None:
    """`verify` takes a CA file; one that is not there is named."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    client = world.client(balance(two_services), tls={"verify": str(path)})
    assert world.get(client, f"https://{REVIEWS}/").status_code == 200
    with pytest.raises(FileNotFoundError, match=r"none\.pem.*no such CA file"):
        world.transport(balance(two_services), verify=str(tmp_path / "none.pem"))


def test_client_certificate(world: World, authority, balance, trusting, tmp_path) -> None:
    """A server that asks for a certificate is shown the client's, and its key stays out of every repr."""
    context = contexts(authority, REVIEWS)[REVIEWS]
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    server = RawServer(serve, tls=context)
    path = tmp_path / "client.pem"
    authority.issue_cert("client.prod").private_key_and_cert_chain_pem.write_to_path(str(path))
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    try:
        lb = balance(server)
        client = world.client(lb, tls={"verify": str(ca), "cert": str(path)})
        assert world.get(client, f"https://{REVIEWS}/").status_code == 200
        transport = world.transport(lb, cert=str(path))
        assert "PRIVATE" not in repr(transport)
        assert str(path) not in repr(transport)
        without = world.client(lb, tls={"verify": trusting})
        with pytest.raises(world.httpx.HTTPError):
            world.get(without, f"https://{REVIEWS}/")
        assert state(lb, server).in_flight == 0
    finally:
        server.close()


def test_one_context_serves_all_endpoints(sync_world: World, authority, balance, trusting, monkeypatch) -> None:
    """A context costs 30 ms and is made once, when the first https request comes, by one of many threads."""
    made = []
    from kubelb.adapters import tls

    monkeypatch.setattr(tls, "client_context", lambda *options: made.append(options) or trusting)
    servers = [RawServer(serve, tls=contexts(authority, REVIEWS)[REVIEWS]) for _ in range(3)]
    try:
        client = sync_world.client(balance(*servers, policy="round_robin"))
        assert made == []
        threads = [threading.Thread(target=client.get, args=(f"https://{REVIEWS}/",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
    finally:
        for server in servers:
            server.close()
