"""Who we are and whom we trust: mounted files, kubeconfigs, rotation, proxies; and no secret in any text."""

import base64
import contextlib
import json
import os
import socket
import ssl
import stat
import sys
import threading

import pytest
import trustme
import yaml

from kubelb.core.events import Skipped
from kubelb.discovery.kube.access import Access, CredentialsError
from kubelb.discovery.kube.incluster import InCluster
from kubelb.discovery.kube.kubeconfig import Kubeconfig
from kubelb.discovery.kube.locate import locate
from kubelb.discovery.kube.proxy import environment_proxy, exempt
from kubelb.discovery.kube.token import TokenFile

from .build import piece, row
from .feeding import Reader
from .server import Server, slice_list, status

SECRET = "hunter2-not-to-be-seen"


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "api.test").configure_cert(context)
    return context


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HTTPS_PROXY", "HTTP_PROXY",
                 "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "NODE_NAME", "KUBELB_ZONE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def idle_watch(conn, request):
    if request.watch:
        conn.stream()
        conn.idle()
    conn.reply(slice_list(piece("a", [row("10.0.0.1")])))


def guarded(token):
    """A server that lets in who has the token; `token` is a list of the one that is good now."""

    def handle(conn, request):
        if request.headers.get("authorization") != f"Bearer {token[0]}":
            conn.reply(status(401, "Unauthorized", "Unauthorized"), status=401)
        else:
            idle_watch(conn, request)

    return handle


def mount(folder, authority, token=SECRET):
    (folder / "token").write_text(token)
    (folder / "namespace").write_text("prod\n")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    return str(folder)


# -- a token file


def test_token_is_stripped_and_kept(tmp_path):
    """The newline is cut off; an empty or missing file keeps the old token, with a warning that is no secret."""
    clock, file = [0.0], tmp_path / "token"
    token = TokenFile(str(file), clock=lambda: clock[0])
    with pytest.raises(CredentialsError, match="No such file"):
        token.header()
    file.write_text(f"{SECRET}\n")
    assert token.header() == (f"Bearer {SECRET}", "")
    clock[0] = 12.0
    for spoil in (lambda: file.write_text(""), file.unlink, lambda: file.write_bytes(b"\xff\xfe bad")):
        spoil()
        header, warning = token.header(fresh=True)
        assert header == f"Bearer {SECRET}"
        assert "12 s ago stays in use" in warning
        assert SECRET not in warning + repr(token)


def test_token_is_read_again(tmp_path):
    """When the file's mtime moves, and after a minute even if it does not."""
    clock, file = [0.0], tmp_path / "token"
    file.write_text("one")
    os.utime(file, ns=(1, 1))
    token = TokenFile(str(file), clock=lambda: clock[0])
    assert token.header()[0] == "Bearer one"
    file.write_text("two")
    assert token.header()[0] == "Bearer two"
    os.utime(file, ns=(1, 1))
    token.header()
    file.write_text("six")
    os.utime(file, ns=(1, 1))
    clock[0] = 59.0
    assert token.header()[0] == "Bearer two"
    clock[0] = 60.0
    assert token.header()[0] == "Bearer six"
    file.write_text("ten")
    os.utime(file, ns=(1, 1))
    assert token.header(fresh=True)[0] == "Bearer ten"


@pytest.mark.parametrize("text", [f"{SECRET}\n{SECRET}", f"{SECRET} x", "caf\u00e9" + SECRET])
def test_what_no_header_can_hold(tmp_path, text):
    """A token with a newline or a space in it is refused here, where the text of the refusal is ours."""
    (tmp_path / "token").write_text(text)
    with pytest.raises(CredentialsError) as caught:
        TokenFile(str(tmp_path / "token")).header()
    assert SECRET not in str(caught.value)


# -- in a pod


def test_in_cluster(made, tmp_path, monkeypatch, authority, context):
    """Mounted files are found and used; the Authorization header is on the wire of list and watch."""
    folder = mount(tmp_path, authority, f"{SECRET}\n")
    with Server(guarded([SECRET]), context) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        pod = InCluster.detect(folder)
        feed = Reader(made, pod)
        feed.ips("10.0.0.1")
        feed.until(lambda _: len(server.requests) == 2)
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {SECRET}"}
        assert pod.namespace() == "prod"
        assert SECRET not in repr((pod, pod.open(), feed.source, feed.health, feed.events))


def test_in_cluster_ipv6(tmp_path, authority):
    """An IPv6 API server is bracketed."""
    assert InCluster("fd00::1", "443", mount(tmp_path, authority)).open().server == "https://[fd00::1]:443"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_in_cluster_without(made, tmp_path, authority, missing):
    """A file that is missing from the start is named in health, with what to check."""
    folder = mount(tmp_path, authority)
    (tmp_path / missing).unlink()
    feed = Reader(made, InCluster("127.0.0.1", "1", folder))
    feed.until(lambda _: feed.events)
    assert feed.events[0].kind == "credentials"
    assert missing in feed.health.error
    assert "mounted" in feed.health.cure


@pytest.mark.slow
def test_rotation_and_401(made, tmp_path, authority, context):
    """A token that became bad is read again at once, without waiting a minute or for an mtime."""
    folder, good = mount(tmp_path, authority, "old"), ["old"]
    with Server(guarded(good), context) as server:
        feed = Reader(made, InCluster("127.0.0.1", str(server.port), folder))
        feed.ips("10.0.0.1")
        feed.until(lambda _: len(server.requests) == 2)
        before = os.stat(tmp_path / "token").st_mtime_ns
        (tmp_path / "token").write_text("new")
        os.utime(tmp_path / "token", ns=(before, before))
        good[0] = "new"
        feed.source.resync_now()
        feed.until(lambda _: server.requests[-1].watch and server.requests[-1].headers["authorization"] == "Bearer new")
        assert [request.headers["authorization"] for request in server.requests[2:4]] == ["Bearer old", "Bearer new"]


@pytest.mark.slow
def test_emptied_token_warns(made, tmp_path, authority, context):
    """An emptied file is told as an event, and the watch goes on with what was there."""
    folder = mount(tmp_path, authority)
    with Server(guarded([SECRET]), context) as server:
        feed = Reader(made, InCluster("127.0.0.1", str(server.port), folder))
        feed.ips("10.0.0.1")
        feed.until(lambda _: len(server.requests) == 2)
        (tmp_path / "token").write_text("")
        feed.source.resync_now()
        feed.until(lambda _: len(server.requests) == 4)
        assert isinstance(feed.events[0], Skipped)
        assert "is empty" in feed.events[0].reason
        assert SECRET not in repr(feed.events)


# -- certificates


def test_wrong_ca(made, context):
    """A certificate of another CA is named as such, with where the CA is from."""
    with trustme.CA().cert_pem.tempfile() as other, Server(idle_watch, context) as server:
        feed = Reader(made, Access(server.url, ca_file=other))
        feed.until(lambda _: feed.events)
        assert feed.events[0].kind == "unreachable"
        assert "certificate is not valid" in feed.health.error
        assert "CA" in feed.health.cure


def test_rotated_ca(tmp_path, authority):
    """The CA file is looked at for each connection; another file of the same name is another context."""
    access = InCluster("127.0.0.1", "1", mount(tmp_path, authority)).open()
    first = access.ssl_context()
    assert access.ssl_context() is first
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    os.utime(tmp_path / "ca.crt", ns=(5, 5))
    assert access.ssl_context() is not first


def test_unreadable_ca(made, tmp_path):
    """A CA file with nonsense in it is a credentials problem and no crash."""
    (tmp_path / "ca").write_text("nonsense")
    feed = Reader(made, Access("https://127.0.0.1:1", ca_file=str(tmp_path / "ca")))
    feed.until(lambda _: feed.events)
    assert feed.events[0].kind == "credentials"


def test_server_name(made, authority):
    """`tls-server-name` is what the certificate must name and what SNI says."""
    context, names = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    authority.issue_cert("api.test").configure_cert(context)
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    with authority.cert_pem.tempfile() as ca_file, Server(idle_watch, context) as server:
        refused = Reader(made, Access(server.url, ca_file=ca_file))
        refused.until(lambda _: refused.events)
        Reader(made, Access(server.url, ca_file=ca_file, server_name="api.test")).ips("10.0.0.1")
        assert names[-1] == "api.test"


def test_client_certificate(made, tmp_path, authority, context):
    """A client certificate is presented."""
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    me = authority.issue_cert("me@test")
    me.private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    with authority.cert_pem.tempfile() as ca_file, Server(idle_watch, context) as server:
        Reader(made, Access(server.url, ca_file=ca_file, cert_file=str(tmp_path / "me.pem"))).ips("10.0.0.1")


def test_unverified(made, context):
    """insecure-skip-tls-verify means what it says."""
    with Server(idle_watch, context) as server:
        Reader(made, Access(server.url, verify=False)).ips("10.0.0.1")


# -- proxies


def test_https_through_a_proxy(made, authority, context):
    """CONNECT with the login of the proxy's URL; the proxy is named in failures, its password is not."""
    with authority.cert_pem.tempfile() as ca_file, Server(idle_watch, context) as server:
        heads, listener = [], socket.create_server(("127.0.0.1", 0))

        def pump(a, b):
            with contextlib.suppress(OSError):
                while data := a.recv(65536):
                    b.sendall(data)
            for each in (a, b):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        def serve():
            client, _ = listener.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            heads.append(head.decode())
            upstream = socket.create_connection(("127.0.0.1", server.port))
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            other = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            other.start()
            pump(client, upstream)
            other.join()
            client.close()
            upstream.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        proxy = f"http://me:{SECRET}@127.0.0.1:{listener.getsockname()[1]}"
        access = Access(f"https://api.test:{server.port}", ca_file=ca_file, proxy=proxy)
        feed = Reader(made, access)
        feed.ips("10.0.0.1")
        assert heads[0].startswith(f"CONNECT api.test:{server.port}")
        assert base64.b64encode(f"me:{SECRET}".encode()).decode() in heads[0]
        listener.close()
        server.drop_all()
        feed.until(lambda _: feed.events, timeout=10)
        assert f"through the proxy {proxy.rpartition('@')[2]}" in feed.health.error
        assert SECRET not in repr((access, feed.source, feed.health, feed.events))
        feed.source.stop()
        thread.join(5)


def test_proxy_of_no_known_kind(made):
    """A socks proxy is refused in words."""
    feed = Reader(made, Access("https://api.test:6443", proxy=f"socks5://me:{SECRET}@127.0.0.1:1"))
    feed.until(lambda _: feed.events)
    assert "socks5" in feed.health.cure
    assert SECRET not in repr(feed.events)


@pytest.mark.parametrize(
    ("server", "no_proxy", "expected"),
    [
        ("https://10.96.0.1:443", "10.96.0.0/12", True),
        ("https://10.96.0.1:443", "10.97.0.0/16", False),
        ("https://10.96.0.1:443", "10.96.0.1", True),
        ("https://10.96.0.1:443", "10.96.0.1:6443", False),
        ("https://api.example.com", "example.com", True),
        ("https://api.example.com", ".example.com", True),
        ("https://api.example.com", "*.example.com", True),
        ("https://example.com", ".example.com", False),
        ("https://api.example.com:6443", "api.example.com:6443", True),
        ("https://myexample.com", "example.com", False),
        ("https://api.example.com", "*", True),
        ("https://api.example.com", " , nonsense/7 ,", False),
        ("https://[fd00::1]:443", "fd00::/8", True),
        ("https://[fd00::1]:443", "[fd00:0::1]:443", True),
        ("https://localhost:1", "", True),
        ("https://127.0.0.1:1", "", True),
    ],
)
def test_no_proxy(server, no_proxy, expected):
    """NO_PROXY as Go programs read it, networks included."""
    assert exempt(server, no_proxy) is expected


def test_environment_proxy(monkeypatch):
    """HTTPS_PROXY in both spellings, with or without a scheme."""
    assert environment_proxy("https://api.test") is None
    monkeypatch.setenv("https_proxy", "proxy.test:3128")
    assert environment_proxy("https://api.test") == "http://proxy.test:3128"
    assert environment_proxy("http://api.test") is None
    assert environment_proxy("https://api.test:x") is None  # told of the server, before anything is dialled
    assert environment_proxy("https://[fd00::1:6443") is None
    monkeypatch.setenv("NO_PROXY", "api.test")
    assert environment_proxy("https://api.test") is None


# -- kubeconfigs


def kubeconfig(folder, server, authority, user, **cluster):
    """Write one and return its path."""
    ca = base64.b64encode(authority.cert_pem.bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": ca} | cluster}],
        "users": [{"name": "u", "user": user}, {"name": "other", "user": {"token": "other"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
            {"name": "there", "context": {"cluster": "c", "user": "other"}},
        ],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_kubeconfig_token(made, tmp_path, authority, context):
    """A token of a kubeconfig is on the wire; another context is another user."""
    with Server(idle_watch, context) as server:
        path = kubeconfig(tmp_path, server.url, authority, {"token": SECRET})
        feed = Reader(made, None, kubeconfig=path)
        feed.ips("10.0.0.1", timeout=20)
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
        assert SECRET not in repr((feed.source, feed.source._key, feed.events, Kubeconfig(path).open()))
        other = Reader(made, None, kubeconfig=path, context="there")
        other.ips("10.0.0.1", timeout=20)
        assert server.requests[-1].headers["authorization"] == "Bearer other"


def test_kubeconfig_token_file(tmp_path, authority):
    """`tokenFile` is read again when it changes; a relative one stands beside the kubeconfig."""
    (tmp_path / "tok").write_text("one\n")
    credentials = (
        Kubeconfig(kubeconfig(tmp_path, "https://api.test", authority, {"tokenFile": "tok"})).open().credentials
    )
    assert credentials.header()[0] == "Bearer one"
    (tmp_path / "tok").write_text("two")
    os.utime(tmp_path / "tok", ns=(7, 7))
    assert credentials.header()[0] == "Bearer two"


def exec_plugin(folder, expires="2099-01-01T00:00:00Z"):
    """A plugin that gives a new token each time it is run."""
    plugin = folder / "plugin"
    plugin.write_text(
        f"#!{sys.executable}\nimport json, pathlib\nEXPIRES = {expires!r}\n"
        f"p = pathlib.Path({str(folder / 'count')!r})\n"
        "n = int(p.read_text()) + 1 if p.exists() else 1\np.write_text(str(n))\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',"
        " 'status': {'token': f'run-{n}', 'expirationTimestamp': EXPIRES}}))\n"
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    }


@pytest.mark.slow
def test_exec_plugin_runs_again_on_401(made, tmp_path, authority, context):
    """A 401 runs the plugin anew although its token has not expired."""
    good = ["run-1"]
    with Server(guarded(good), context) as server:
        feed = Reader(made, None, kubeconfig=kubeconfig(tmp_path, server.url, authority, exec_plugin(tmp_path)))
        feed.ips("10.0.0.1", timeout=20)
        good[0] = "run-2"
        feed.source.resync_now()
        feed.until(lambda _: server.requests[-1].watch and len(server.requests) >= 5, timeout=20)
        assert server.requests[-1].headers["authorization"] == "Bearer run-2"


def test_exec_plugin_runs_again_when_its_token_expires(tmp_path, authority):
    """A token that is over is not used for another request; one that is not is."""
    for expires, given in (("2000-01-01T00:00:00Z", 3), ("2099-01-01T00:00:00Z", 1)):
        folder = tmp_path / expires[:4]
        folder.mkdir()
        path = kubeconfig(folder, "https://127.0.0.1:1", authority, exec_plugin(folder, expires))
        credentials = Kubeconfig(path).open().credentials
        assert len({credentials.header()[0] for _ in range(3)}) == given


def test_exec_plugin_that_fails(made, tmp_path, authority):
    """A plugin that gives nothing is named, instead of a request without credentials."""
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}
    feed = Reader(made, None, kubeconfig=kubeconfig(tmp_path, "https://127.0.0.1:1", authority, user))
    feed.until(lambda _: feed.events, timeout=20)
    assert feed.events[0].kind == "credentials"
    assert "no-such-plugin" in feed.health.error


def test_kubeconfig_cluster_settings(tmp_path, authority, monkeypatch):
    """`proxy-url` wins over the environment; tls-server-name and the CA are taken."""
    monkeypatch.setenv("HTTPS_PROXY", "http://other.test:1")
    extra = {"proxy-url": "http://proxy.test:3128", "tls-server-name": "api.test"}
    access = Kubeconfig(kubeconfig(tmp_path, "https://10.0.0.1:6443/", authority, {"token": "t"}, **extra)).open()
    assert (access.server, access.proxy, access.server_name) == (
        "https://10.0.0.1:6443",
        "http://proxy.test:3128",
        "api.test",
    )
    assert access.verify
    assert access.ssl_context() is not None
    plain = Kubeconfig(kubeconfig(tmp_path, "https://10.0.0.1:6443", authority, {"token": "t"})).open()
    assert plain.proxy == "http://other.test:1"


@pytest.mark.parametrize("text", ["", "{", "a: [", f"users: [{SECRET}", "current-context: nowhere"])
def test_kubeconfigs_that_make_no_sense(tmp_path, text):
    """Nonsense is a credentials problem whose text quotes nothing of it."""
    (tmp_path / "config").write_text(text)
    with pytest.raises(CredentialsError) as caught:
        Kubeconfig(str(tmp_path / "config")).open()
    assert SECRET not in str(caught.value)


def test_a_file_that_is_no_kubeconfig(tmp_path):
    """Some text, or broken YAML: the kind of error alone would leave everybody guessing; its content is never told."""
    for text, kind in (("some text", "TypeError"), ("{", "ParserError")):
        (tmp_path / "config").write_text(text)
        with pytest.raises(CredentialsError, match=f"cannot be used: {kind} while it was read: is it one") as raised:
            Kubeconfig(str(tmp_path / "config")).open()
        assert text not in str(raised.value)


def test_without_the_package(made, tmp_path, authority, monkeypatch):
    """A missing package is told with the pip command, as a failure and not as a crash, and is an ImportError."""
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", authority, {"token": "t"})
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    feed = Reader(made, None, kubeconfig=path)
    feed.until(lambda _: feed.events)
    assert feed.events[0].kind == "missing-extra"
    assert "pip install 'kubelb[kubernetes]'" in feed.health.cure
    with pytest.raises(ImportError, match=r"not installed: pip install 'kubelb\[kubernetes\]'"):
        Kubeconfig(path).open()


# -- which way in


def test_precedence(tmp_path, authority, monkeypatch):
    """What is given, $KUBECONFIG as it is at that moment, the pod, ~/.kube/config."""
    monkeypatch.setattr("kubelb.discovery.kube.incluster.MOUNT", "unused")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate() == Kubeconfig(str(tmp_path / ".kube/config"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    folder = mount(tmp_path, authority)
    pod = InCluster("10.96.0.1", "443", folder)
    monkeypatch.setattr(InCluster, "detect", classmethod(lambda cls: pod))
    assert locate() == pod
    assert locate(context="c") == Kubeconfig(str(tmp_path / ".kube/config"), "c")
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    assert locate() == Kubeconfig("/a:/b")
    assert locate("/c", "x") == Kubeconfig("/c", "x")
    access = Access("http://127.0.0.1:1")
    assert locate("/c", access=access).open() is access


def test_nowhere(made, tmp_path):
    """No kubeconfig and no pod: said so, with what to do."""
    feed = Reader(made, None, kubeconfig=str(tmp_path / "none"))
    feed.until(lambda _: feed.events)
    assert "there is no kubeconfig" in feed.health.error
    assert "KUBECONFIG" in feed.health.cure


def test_secrets_in_no_repr(tmp_path, authority):
    """No secret is in the repr of anything on the way."""
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", authority, {"username": "me", "password": SECRET})
    access = Kubeconfig(path).open()
    assert access.credentials.header()[0].startswith("Basic ")
    texts = repr((access, access.credentials, Kubeconfig(path), Access("http://x", proxy=f"http://u:{SECRET}@p")))
    assert SECRET not in texts
    assert base64.b64encode(f"me:{SECRET}".encode()).decode() not in texts
    assert json.dumps(SECRET) not in texts
