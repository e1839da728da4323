"""What tools see that look at connections: the Service while they work, and where they lead when they are made."""

import http.client
import ssl
import sys
from typing import Any

import pytest
import requests
import trustme
import urllib3
from tests.adapters.raw import RawServer
from tests.adapters_requests.conftest import URL


class Watching:
    """What a tool sees that hooks the methods of http.client, as tracing, debugging and recording do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, str, str, int]] = []
        for owner, name in (
            (http.client.HTTPConnection, "putrequest"),
            (http.client.HTTPConnection, "endheaders"),
            (http.client.HTTPConnection, "getresponse"),
            (urllib3.connection.HTTPConnection, "request"),
        ):
            monkeypatch.setattr(owner, name, self.around(owner, name))

    def around(self, owner, name):
        method = getattr(owner, name)

        def hooked(connection, *args, **options):
            self.seen.append((name, connection.default_port, connection.host, connection.port))
            return method(connection, *args, **options)

        return hooked


def test_what_hooks_a_connection_sees_the_service(session, service, balance, monkeypatch):
    """Its host and port are the URL's, whatever the connection was used for before: no span or log has the pod's."""
    svc = service(2)
    client = session(balance(*svc, policy="round_robin"))
    watching = Watching(monkeypatch)
    urls = (URL, URL, "http://reviews.prod.svc:8080/x", "http://[::1]/", "http://reviews.prod:80/", URL)
    for url in urls:
        watching.seen.clear()
        response = client.get(url)
        parts = urllib3.util.parse_url(url)
        expected = parts.host.strip("[]"), parts.port or 80
        assert {seen[2:] for seen in watching.seen} == {expected}
        assert [seen[0] for seen in watching.seen] == ["request", "putrequest", "endheaders", "getresponse"]
        assert response.status_code == 200
    assert [backend.requests for backend in svc] == [3, 3]
    assert sum(backend.connections for backend in svc) == 2


def test_what_hooks_a_connection_sees_the_service_with_tls(session, balance, monkeypatch):
    """Nor does that change what the certificate is checked against: a name, and no address."""
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority = trustme.CA()
    authority.issue_cert("reviews.prod").configure_cert(context)
    authority.configure_trust(trusting)
    names = []
    context.sni_callback = lambda sock, name, context: names.append(name)
    server = RawServer(tls=context)
    client = session(balance(server), verify=trusting)
    watching = Watching(monkeypatch)
    assert client.get("https://reviews.prod/").text == "ok"
    assert {seen[1:] for seen in watching.seen} == {(443, "reviews.prod", 443)}
    with pytest.raises(requests.exceptions.SSLError, match=r"certificate is not valid for 'other\.prod'"):
        client.get("https://other.prod/")
    assert set(names) == {"reviews.prod", "other.prod"}
    client.close()
    server.close()


def test_an_error_of_connecting_names_the_address(session, balance):
    """There it helps: which of the pods could not be reached."""
    with pytest.raises(requests.ConnectionError, match=r"host='127\.0\.0\.1', port=9\)") as caught:
        session(balance("127.0.0.1:9")).get(URL)
    assert "Connection refused" in str(caught.value)


def test_what_audits_connections_hears_the_address(session, service, balance):
    """It is told once a connection was made, and to where."""
    svc = service(1)
    heard: list[Any] = []
    listening = [True]

    def hook(event, args):
        if listening and event == "http.client.connect":
            heard.append(args[1:])

    sys.addaudithook(hook)  # for ever
    session(balance(*svc)).get(URL)
    listening.clear()
    host, _, port = svc[0].address.rpartition(":")
    assert (host, int(port)) in heard
