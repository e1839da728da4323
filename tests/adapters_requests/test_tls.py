"""TLS: verified against the service's name, whatever address is dialled; no connection is shared between names."""

import ssl
import threading

import pytest
import requests
import trustme
from tests.adapters.raw import RawServer, serve
from tests.adapters_requests.conftest import in_flight, state

from kubelb.adapters.requests import Adapter

REVIEWS, RATINGS = "reviews.prod", "ratings.prod"
URL = f"https://{REVIEWS}/"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="module")
def mine(authority, tmp_path_factory) -> str:
    """A client certificate with its key."""
    path = tmp_path_factory.mktemp("tls") / "client.pem"
    authority.issue_cert("client.prod").private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def server_context(authority, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def tls(authority, raw):
    """Makes TLS servers with certificates for these names, chosen by SNI; the first one serves unknown names."""

    def make(*names: str, **options) -> RawServer:
        known = {name: server_context(authority, name) for name in names}
        first = known[names[0]]

        def choose(connection, name, _context) -> None:
            connection.context = known.get(name or "", first)

        first.sni_callback = choose
        return raw(*options.pop("scripts", (serve,)), tls=first)

    return make


def test_two_services_on_one_address(session, tls, balance, ca):
    """Each name is verified on a connection of its own, also after the other's was kept alive."""
    server = tls(REVIEWS, RATINGS)
    client = session(balance(server), verify=ca)
    for _ in range(2):
        assert client.get(URL).status_code == 200
        assert client.get(f"https://{RATINGS}/").status_code == 200
        assert client.get(f"https://{RATINGS.upper()}.:8443/").status_code == 200
    assert server.accepted == 2


def test_a_wrong_certificate_is_refused(session, tls, balance, ca):
    """A server with another service's certificate gets nothing: never sent, also beside a connection kept alive."""
    server = tls(REVIEWS)
    lb = balance(server)
    client = session(lb, verify=ca)
    assert client.get(URL).status_code == 200
    with pytest.raises(requests.exceptions.SSLError, match="certificate") as caught:
        client.post(f"https://{RATINGS}/", data=b"secret")
    assert len(caught.value.__notes__) == 2
    assert server.delivered == 1
    assert client.get(URL).status_code == 200
    assert in_flight(lb) == 0


def test_another_name_than_the_urls(session, tls, balance, ca):
    """`server_hostname` is what is sent as SNI and verified; Host stays the URL's."""
    client = session(balance(tls("reviews.internal")), verify=ca, server_hostname="reviews.internal")
    assert client.get(URL).status_code == 200


def test_the_sessions_own_verify(session, tls, balance, ca):
    """A path, False, a path for one call, and the environment's bundle are honoured as without an adapter."""
    client = session(balance(tls(REVIEWS)))
    with pytest.raises(requests.exceptions.SSLError, match="certificate"):
        client.get(URL)
    assert client.get(URL, verify=ca).status_code == 200
    with pytest.raises(requests.exceptions.SSLError, match="certificate"):
        client.get(URL)  # not on the connection that was verified by other means
    client.verify = ca
    assert client.get(URL).status_code == 200
    client.verify = False
    with pytest.warns(match="Unverified HTTPS"):
        assert client.get(URL).status_code == 200


def test_the_environments_bundle(session, tls, balance, ca, monkeypatch):
    """REQUESTS_CA_BUNDLE stands in for the default, and the adapter's own `verify` for both."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca)
    server = tls(REVIEWS)
    assert session(balance(server)).get(URL).status_code == 200
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    assert session(balance(server), verify=ca).get(URL).status_code == 200


def test_files_that_are_not_there(session, balance, tmp_path):
    """They are named, when the adapter is made or when the call is."""
    gone = str(tmp_path / "none.pem")
    lb = balance("127.0.0.1:9")
    for options in ({"verify": gone}, {"cert": gone}):
        with pytest.raises(FileNotFoundError, match=r"none\.pem.*no such"):
            Adapter(lb, **options)
        with pytest.raises(FileNotFoundError, match=r"none\.pem.*no such"):
            session(lb).get(URL, **options)
    assert in_flight(lb) == 0


@pytest.mark.parametrize("whose", ["adapter", "session", "call", "list"])
def test_client_certificate(session, authority, balance, raw, ca, mine, whose):
    """A server that asks for a certificate is shown the client's; without one the call fails."""
    context = server_context(authority, REVIEWS)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    server = raw(tls=context)
    lb = balance(server)
    client = session(lb, verify=ca, cert=mine if whose == "adapter" else None)
    options = {"cert": [mine, mine]} if whose == "list" else {"cert": mine} if whose == "call" else {}
    if whose == "session":
        client.cert = (mine, mine)
    assert client.get(URL, **options).status_code == 200
    assert mine not in repr(client.get_adapter(URL))
    with pytest.raises(requests.ConnectionError):
        session(lb, verify=ca).get(URL)
    assert state(lb, server).in_flight == 0


def test_a_context_of_the_users_own(session, tls, balance, authority, mine):
    """It is used as it is: a certificate of one call is not loaded into what all calls share."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    client = session(balance(tls(REVIEWS)), verify=context)
    assert client.get(URL).status_code == 200
    with pytest.raises(ValueError, match="SSLContext"):
        client.get(URL, cert=mine)


def test_one_context_serves_all_endpoints(session, tls, balance, ca, monkeypatch):
    """A context costs 30 ms and is made once, when the first request that wants it comes, by one of many threads."""
    from kubelb.adapters import tls as module

    made = []
    make = module.client_context
    monkeypatch.setattr(module, "client_context", lambda *options: made.append(options) or make(*options))
    client = session(balance(*(tls(REVIEWS) for _ in range(3)), policy="round_robin"))
    assert made == []
    threads = [threading.Thread(target=client.get, args=(URL,), kwargs={"verify": ca}) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_streams_and_retries_over_tls(session, tls, balance, ca):
    """What holds for plain connections holds here: bodies, resets, and a response that closes."""

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")

    def reset(peer):
        peer.request()
        peer.reset()

    bad, good = tls(REVIEWS, scripts=(reset,)), tls(REVIEWS, scripts=(script,))
    lb = balance(bad, good, policy="round_robin")
    client = session(lb, verify=ca)
    for _ in range(2):
        assert client.get(URL).text == "until the end"
        response = client.get(URL, stream=True)
        assert in_flight(lb) == 1
        assert response.content == b"until the end"
        assert in_flight(lb) == 0
