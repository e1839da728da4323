"""Proxies that want a login, and impersonation through them: what is on the wire, and what is told."""

import base64
import contextlib
import json
import socket
import ssl
import threading

import pytest
import trustme

from kubelb.discovery.kube.access import Access, CredentialsError
from kubelb.discovery.kube.diagnose import refused, said
from kubelb.discovery.kube.kubeconfig import Kubeconfig
from kubelb.discovery.kube.steps import Reply

from .build import piece, row
from .feeding import Reader
from .server import Server, slice_list, status
from .test_kubeconfig_files import config

SECRET = "hunter2-not-to-be-seen"
LOGIN, ENCODED = f"me@corp:p@ss:w/rd%é{SECRET}", f"me%40corp:p%40ss%3Aw%2Frd%25%C3%A9{SECRET}"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def idle_watch(conn, request):
    if request.watch:
        conn.stream()
        conn.idle()
    conn.reply(slice_list(piece("a", [row("10.0.0.1")])))


class Tunnel:
    """A proxy for CONNECT that lets in who has the login, and tells what it was shown."""

    def __init__(self, port, login=None, refusal=407):
        self.heads, self._port, self._login, self._refusal = [], port, login, refusal
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            self.heads.append(head.decode())
            wanted = base64.b64encode((self._login or "").encode()).decode()
            if self._login is not None and wanted not in self.heads[-1]:
                client.sendall(f"HTTP/1.1 {self._refusal} {SECRET}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            with socket.create_connection(("127.0.0.1", self._port)) as upstream:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
                back.start()
                pump(client, upstream)
                back.join(5)


def pump(a, b):
    with contextlib.suppress(OSError):
        while data := a.recv(65536):
            b.sendall(data)
    for each in (a, b):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "api.test").configure_cert(context)
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return context, str(path)


@pytest.mark.parametrize("way", ["proxy-url", "HTTPS_PROXY"])
def test_an_encoded_login_is_decoded(made, tmp_path, monkeypatch, secured, way):
    """What is special in a URL stands encoded in it; the proxy compares with what it means, in UTF-8."""
    context, ca_file = secured
    with Server(idle_watch, context) as server, Tunnel(server.port, LOGIN) as proxy:
        cluster = {"server": f"https://api.test:{server.port}", "certificate-authority": ca_file}
        url = f"http://{ENCODED}@{proxy.place}"
        if way == "proxy-url":
            cluster["proxy-url"] = url
        else:
            monkeypatch.setenv(way, url)
        feed = Reader(made, None, kubeconfig=config(tmp_path, cluster))
        feed.ips("10.0.0.1", timeout=20)
        assert proxy.heads[0].startswith(f"CONNECT api.test:{server.port} ")
        assert not feed.events


@pytest.mark.parametrize(
    ("login", "status_", "words"),
    [
        ("", 407, "the proxy asks for a login, and none was given (HTTP 407)"),
        (f"you:{SECRET}@", 407, "the proxy does not accept the login that it was given (HTTP 407)"),
        ("", 403, "the proxy refused the tunnel (HTTP 403)"),
    ],
)
def test_a_proxy_that_refuses_the_tunnel(made, secured, login, status_, words):
    """407 is told as such, with the cure and without the login; any other status as the proxy's, not the server's."""
    context, ca_file = secured
    with Server(idle_watch, context) as server, Tunnel(server.port, LOGIN, status_) as proxy:
        access = Access(f"https://api.test:{server.port}", ca_file=ca_file, proxy=f"http://{login}{proxy.place}")
        feed = Reader(made, access)
        feed.until(lambda _: feed.events, timeout=20)
        health = feed.health
        assert f"connecting to api.test:{server.port} through the proxy {proxy.place}: {words}" in health.error
        assert ("%-encoded" if status_ == 407 else "NO_PROXY") in health.cure
        assert "Kubernetes API server" not in health.cure
        assert SECRET not in repr((feed.events, health))


def test_a_proxy_for_plain_http_that_wants_a_login(made):
    """Without a tunnel its 407 comes as an answer; it is the proxy's all the same."""

    def handle(conn, request):
        conn.reply({}, status=407)

    with Server(handle) as proxy:
        feed = Reader(made, Access("http://api.test", proxy=f"http://you:{SECRET}@127.0.0.1:{proxy.port}"))
        feed.until(lambda _: feed.events, timeout=20)
        assert "a proxy on the way asks for a login" in feed.health.error
        assert "HTTPS_PROXY" in feed.health.cure
        assert base64.b64encode(f"you:{SECRET}".encode()).decode() in proxy.requests[0].headers["proxy-authorization"]


def test_a_proxy_that_is_away(made, tmp_path):
    """What is to be looked at is the proxy, and where it was given."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{bound.getsockname()[1]}"
        path = config(tmp_path, {"proxy-url": f"http://me:{SECRET}@{place}"})
        feed = Reader(made, None, kubeconfig=path)
        feed.until(lambda _: feed.events, timeout=20)
        assert "connection refused" in feed.health.error
        cure = f"is the proxy up, and is {place} right? It is from proxy-url in {path}, or from HTTPS_PROXY"
        assert feed.health.cure == cure
        assert SECRET not in repr((feed.events, feed.health))


HOSTLESS = ("http:/proxy.test:3128", "http://", "http://:3128", "http:///x", "https://@:1", f"http://me:{SECRET}@")
MISPLACED = [f"http://{login}@proxy.test:1" for sign in "/?#" for login in (f"{SECRET}{sign}x", f"me:1{sign}{SECRET}")]


@pytest.mark.parametrize("way", ["proxy-url", "HTTPS_PROXY"])
@pytest.mark.parametrize(
    "proxy", [*HOSTLESS, *MISPLACED, "http://proxy.test:bad", "http://proxy.test:0", "http://[::1"]
)
def test_a_proxy_without_a_host_is_not_taken_for_none(made, tmp_path, monkeypatch, way, proxy):
    """The kind: what is dialled then is the server itself, or half a password, and is shown the proxy's login."""
    dialled = []
    monkeypatch.setattr("kubelb.discovery.kube.connection.dial", lambda *args, **_: dialled.append(args))
    cluster = {"server": "https://10.1.2.3:6443"}  # not on loopback, which no proxy of the environment is for
    if way == "proxy-url":
        cluster["proxy-url"] = proxy
    else:
        monkeypatch.setenv(way, proxy)
    feed = Reader(made, None, kubeconfig=config(tmp_path, cluster))
    feed.until(lambda _: feed.events, timeout=20)
    assert "from proxy-url or HTTPS_PROXY, cannot be used: " in feed.health.error
    if proxy in HOSTLESS:
        assert feed.health.error.endswith("it names no host")
    assert feed.health.cure == "give http://HOST:PORT"
    assert SECRET[:6] not in repr((feed.events, feed.health))
    assert not dialled


@pytest.mark.parametrize("sign", ["/", "?", "#"])
@pytest.mark.parametrize("scheme", ["https://", ""])
def test_a_login_in_the_server_is_not_told(tmp_path, scheme, sign):
    """The kind: a password that is not encoded ends at its '#', and what is left of it is taken for the host."""
    first, second = (f"me:{SECRET}{sign}x", f"{SECRET}{sign}x"), (f"me:x{sign}{SECRET}", f"me:1{sign}{SECRET}")
    for login in (*first, *second, f"{sign}{SECRET}"):
        try:
            access = Kubeconfig(config(tmp_path, {"server": f"{scheme}{login}@127.0.0.1:1"})).open()
        except CredentialsError as error:
            assert SECRET[:6] not in f"{error} {error.cure}", login
            assert error.cure.startswith("give https://HOST:PORT"), login
        else:
            assert SECRET[:6] not in access.server or sign == "/"  # HOST/PATH, by all signs


@pytest.mark.parametrize(
    "server", ["http:/api.test:6443", "HTTPS:/api.test", "https://:6443", "https://me@:6443", ":6443"]
)
def test_a_server_without_a_host(tmp_path, server):
    """The same kind: an empty name is this machine to the system, and a hole in every message."""
    path = config(tmp_path, {"server": server})
    with pytest.raises(CredentialsError, match=r"the server of .* has no host$") as raised:
        Kubeconfig(path).open()
    assert raised.value.cure == "give https://HOST:PORT"


# -- impersonation on the wire

AS = {
    "token": "mine",
    "as": "jané",
    "as-uid": "42",
    "as-groups": ["admins", "ops"],
    "as-user-extra": {"example.com/Scopes": ["view", "edit"], "100%": ["x"]},
}
SENT = [
    ("Impersonate-Extra-100%25", "x"),
    ("Impersonate-Extra-example.com%2FScopes", "view"),
    ("Impersonate-Extra-example.com%2FScopes", "edit"),
    ("Impersonate-Group", "admins"),
    ("Impersonate-Group", "ops"),
    ("Impersonate-Uid", "42"),
    ("Impersonate-User", "jané"),
]


@pytest.mark.parametrize("through", ["directly", "through a proxy"])
def test_impersonation_is_on_the_wire(made, tmp_path, through):
    """As client-go writes it: one header a group, keys escaped, UTF-8; also where a proxy is given absolute URLs."""
    lines = []

    def serve(listener):
        with contextlib.suppress(OSError):
            while True:
                sock = listener.accept()[0]
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(4096)
                lines.append([line for line in head.decode().split("\r\n") if line.startswith("Impersonate")])
                sock.sendall(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                sock.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        place = f"http://127.0.0.1:{listener.getsockname()[1]}"
        cluster = {"server": place} if through == "directly" else {"server": "http://api.test", "proxy-url": place}
        feed = Reader(made, None, kubeconfig=config(tmp_path, cluster, AS))
        feed.until(lambda _: lines, timeout=20)
        feed.source.stop()
        listener.shutdown(socket.SHUT_RDWR)
    assert sorted(lines[0]) == sorted(f"{name}: {value}" for name, value in SENT)


def test_as_without_a_name(made, tmp_path):
    """Groups of nobody: an error, as in client-go, instead of requests in one's own name."""
    path = config(tmp_path, user={"token": SECRET, "as-groups": ["admins"]})
    feed = Reader(made, None, kubeconfig=path)
    feed.until(lambda _: feed.events, timeout=20)
    assert feed.events[0].kind == "credentials"
    assert f"user 'u' of {path} asks for a uid, groups or user-extra" in feed.health.error
    assert "give as:" in feed.health.cure
    assert SECRET not in repr((feed.events, feed.health))


def test_no_header_is_smuggled(tmp_path):
    """A line feed in a name would be a header of its own."""
    with pytest.raises(CredentialsError, match="control character in what is to be sent as Impersonate-Group"):
        Kubeconfig(config(tmp_path, user={"as": "jane", "as-groups": ["a\r\nAuthorization: Basic x"]})).open()


# -- what a 403 may mean


def forbidden(message, reason="Forbidden"):
    body = json.dumps(status(403, reason, message)).encode()
    return refused(Reply(403, body), "list", "prd"), said(body, "list", "prd")


def test_a_403_may_be_a_typo():
    """RBAC refuses a namespace that does not exist in the same words: its name is asked for, then the Role."""
    for trouble in forbidden('User "me" cannot list resource "endpointslices" in the namespace "prd"'):
        assert trouble.cure.startswith(
            "if prd is the right namespace, give the ServiceAccount, by a RoleBinding, a Role"
        )
        assert trouble.cure.endswith("one that does not exist is refused in the same way")
        assert 'verbs ["list", "watch"]' in trouble.cure
    for trouble in forbidden("the firewall says no", reason=""):
        assert "right namespace" not in trouble.cure
        assert 'verbs ["list", "watch"]' in trouble.cure


def test_a_403_of_somebody_else():
    """One that may not impersonate needs another role, and one that is anonymous needs a login."""
    for trouble in forbidden(
        'users "jane" is forbidden: User "me" cannot impersonate resource "users" in API group ""'
    ):
        assert '"impersonate"' in trouble.cure
        assert "endpointslices" not in trouble.cure
    for trouble in forbidden('User "system:anonymous" cannot list resource "endpointslices"'):
        assert "no credentials were sent" in trouble.cure
