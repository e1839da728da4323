"""Kubeconfigs are read as kubectl reads them, by 122 files on which client-go itself was asked; and what it never sees:
content in the place of a path, files that change while we run."""

import base64
import json
import os
import ssl
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import trustme
import yaml

from kubelb.discovery.kube.access import Access, CredentialsError
from kubelb.discovery.kube.allowance import Allowance
from kubelb.discovery.kube.connection import Handshakes
from kubelb.discovery.kube.kubeconfig import Kubeconfig
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.plugin import PluginCredentials
from kubelb.discovery.kube.proxy import login_of
from kubelb.discovery.kube.serverurl import server_url
from kubelb.discovery.kube.transport import way_of
from kubelb.discovery.options import DiscoveryOptions

from .build import piece, row
from .feeding import Reader
from .server import Server, slice_list

VECTORS = Path(__file__).parent.parent / "data" / "clientcmd.jsonl"
CASES = [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]
SECRET = "hunter2-not-to-be-seen"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("KUBE"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def pem():
    authority = trustme.CA()
    me = authority.issue_cert("me@test")
    texts = {
        "@CA@": authority.cert_pem.bytes().decode(),
        "@CERT@": me.cert_chain_pems[0].bytes().decode(),
        "@KEY@": me.private_key_pem.bytes().decode(),
    }
    return texts | {f"{name[:-1]}64@": base64.b64encode(text.encode()).decode() for name, text in texts.items()}


# -- client-go's own answers

STRICTER_THERE = {"a plugin without mode"}
"""What client-go refuses and we take, on purpose."""
STRICTER_HERE = {
    "server 'ftp://one.test'",
    "server 'ftp://one.test' with a CA",
    "proxy socks5://proxy.test:1080",
}
"""What we refuse and client-go takes."""


def opened(case, folder, pem):
    """The Access of a case, after all that may be wrong with it was asked for."""
    for name, text in case["files"].items():
        if text is not None:
            for word, content in pem.items():
                text = text.replace(word, content)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    paths = os.pathsep.join(str(folder / name) for name in case["order"])
    access = Kubeconfig(paths, case["context"] or None).open()
    way_of(access)(access, access.ssl_context(), Lifeline(), Handshakes(5.0), Allowance(), (5.0, 70.0))
    return access


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_as_client_go_reads_it(tmp_path, pem, case):
    """Merging, contexts, servers, certificates, logins, impersonation, proxies: what client-go takes and refuses."""
    wanted = case["expect"]
    refused = ("error" in wanted or case["name"] in STRICTER_HERE) and case["name"] not in STRICTER_THERE
    try:
        access = opened(case, tmp_path, pem)
        plugin = isinstance(access.credentials, PluginCredentials)
        header = "" if plugin else access.credentials.header()[0]
    except CredentialsError as error:
        assert refused, error
        assert error.cure
        return
    assert not refused, wanted
    if "error" in wanted:
        return
    url = wanted["url"]
    if "with a CA" in case["name"] or "skips" in case["name"]:
        # clientcmd asks for the scheme before it knows of the CA; rest.DefaultServerURL, asked after it, says https.
        url = url if "://" in case["name"] else url.replace("http:", "https:")
    assert access.server == url.rstrip("/")
    assert access.ca_data == (
        wanted["caData"].replace("@CA@", pem["@CA@"]).encode() if "caData" in wanted else None
    ) or ("with a CA" in case["name"])
    for ours, theirs in ((access.ca_file, "caFile"), (access.cert_file, "certFile")):
        assert (os.path.normpath(ours) if ours else None) == (
            wanted[theirs].replace("DIR", str(tmp_path)) if theirs in wanted else None
        )
    assert bool(access.server_name) == ("serverName" in wanted)
    assert access.verify is (not wanted.get("insecure") and "skips" not in case["name"])
    sent = sorted(f"{name}: {value.encode('latin-1').decode()}" for name, value in access.impersonate)
    assert [each.lower() for each in sent] == sorted(each.lower() for each in wanted.get("impersonate", []))
    if url.startswith("https:") and wanted["url"].startswith("https:"):
        scheme, _, login = header.partition(" ")
        if "user" in wanted:
            expected = f"{wanted['user']}:{wanted.get('password', '')}"
            assert (scheme, base64.b64decode(login).decode()) == ("Basic", expected)
        else:
            in_file = {"a token in a file": "secret", "a token and a token in a file": "secret"}
            assert login == in_file.get(case["name"], wanted.get("token", "").strip())
        assert plugin == ("exec" in wanted and "token" not in wanted)
    if plugin:
        assert os.path.normpath(access.credentials._plugin.command.program) == wanted["exec"].replace(
            "DIR", str(tmp_path)
        )
    if "proxy" in wanted:
        parts = urlsplit(access.proxy)
        assert f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" == wanted["proxy"]
        login = login_of(access.proxy)
        assert (base64.b64decode(login.removeprefix("Basic ")).decode() if login else ":") == wanted["login"]


def test_no_refusal_shows_what_a_file_holds(tmp_path, pem):
    """A refusal names the file, the user and the key at fault, and nothing of the values, which may be secret."""
    quoted = 0
    for number, case in enumerate(CASES):
        if "error" not in case["expect"]:
            continue
        files = dict(case["files"])
        for name, text in files.items():
            files[name] = text and text.replace('"tok"', f'"{SECRET}"').replace("12345", "98765432198765")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            (tmp_path / str(number)).mkdir()
            try:
                opened({**case, "files": files}, tmp_path / str(number), pem)
            except CredentialsError as error:
                quoted += 1
                text = f"{error} {error.cure}"
                assert SECRET not in text
                assert "98765432198765" not in text
                assert "BEGIN" not in text
    assert quoted > 25


def test_the_servers_of_any_origin_are_read_alike():
    """A scheme in capitals is the same scheme: the CA counts, and a slash at the end is none."""
    assert Access("HTTPS://api.test/").server == "https://api.test"
    assert Access("HTTPS://api.test").ssl_context() is not None
    with pytest.raises(CredentialsError) as raised:
        server_url(f"me:{SECRET}@api.test/base", tls=True, origin="a file")
    assert SECRET not in f"{raised.value}{raised.value.cure}"


# -- content where a path belongs

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\n-----END PRIVATE KEY-----\n"
ENCODED = base64.b64encode(PEM.encode()).decode()
YAML = f"apiVersion: v1\nkind: Config\nusers:\n- name: u\n  user: {{token: {SECRET}}}\n"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9eyJhbGciOi.c2lnbmF0dXJl"


def config(folder, cluster=None, user=None, name="config"):
    """Write a kubeconfig of one context and return its path."""
    text = {
        "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"} | (cluster or {})}],
        "users": [{"name": "u", "user": user if user is not None else {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path = folder / name
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("content", [PEM, ENCODED, ENCODED[:2000].rstrip("="), "-----BEGIN X-----", JWT], ids=range(5))
@pytest.mark.parametrize("key", ["certificate-authority", "client-certificate", "client-key", "tokenFile"])
def test_content_in_the_place_of_a_path_in_a_kubeconfig(tmp_path, key, content):
    """PEM, the same in base64, a token: told as what it is, with the key that is meant, and not shown."""
    part = {key: content}
    path = config(tmp_path, part) if key.startswith("certificate-a") else config(tmp_path, user=part)
    with pytest.raises(CredentialsError) as raised:
        Kubeconfig(path).open()
    text = f"{raised.value} {raised.value.cure}"
    assert f"{key} in" in text
    assert "holds what stands in a file" in text
    assert content[:24].strip() not in text


@pytest.mark.parametrize(
    "content",
    [
        YAML,
        YAML.replace("\n", "\r"),
        base64.b64encode(YAML.encode()).decode(),
        "apiVersion: v1",
        json.dumps({"users": []}),
        base64.urlsafe_b64encode(json.dumps({"token": SECRET}, indent=1).encode()).decode(),
    ],
    ids=range(6),
)
def test_content_in_the_place_of_the_kubeconfig(tmp_path, monkeypatch, content):
    """As kubeconfig=, and in $KUBECONFIG, where a colon in it must not make a list of files of it."""
    with pytest.raises(ValueError, match="give the path of the file") as refused:
        DiscoveryOptions(kubeconfig=content)
    with pytest.raises(CredentialsError, match="the contents of a kubeconfig were given") as raised:
        Kubeconfig(content).open()
    assert content[:20] not in f"{raised.value}{raised.value.cure}{refused.value}"


def test_a_process_that_changes_its_folder(made, tmp_path, monkeypatch):
    """A relative path is that of the moment when it was read first."""
    with Server(authorized) as server:
        config(tmp_path, {"server": server.url}, {"token": "one"})
        monkeypatch.chdir(tmp_path)
        feed = Reader(made, None, kubeconfig="config")
        feed.ips("10.0.0.1", timeout=20)
        monkeypatch.chdir("/")
        touched(tmp_path / "config", lambda: config(tmp_path, {"server": server.url}, {"token": "two"}))
        feed.source.resync_now()
        feed.until(lambda _: "Bearer two" in seen(server, "authorization"), timeout=20)
        assert not feed.events


def test_a_list_of_files_may_be_longer_than_a_path(tmp_path):
    """Sixty files of a hundred letters each are no content; and a file may have a colon in its name."""
    path = config(tmp_path, name="a:b")
    assert Kubeconfig(path).open().server == "https://127.0.0.1:1"
    many = os.pathsep.join(str(tmp_path / f"{number:0100}") for number in range(60))
    assert Kubeconfig(f"{many}{os.pathsep}{config(tmp_path)}").open().server == "https://127.0.0.1:1"


def test_a_data_key_that_holds_pem(tmp_path):
    """PEM where base64 of it belongs, the same mistake the other way round."""
    with pytest.raises(CredentialsError, match=r"client-key-data in user 'u' of .* is no base64") as raised:
        Kubeconfig(config(tmp_path, user={"client-certificate-data": ENCODED, "client-key-data": PEM})).open()
    assert "MII" not in f"{raised.value}{raised.value.cure}"


def test_an_encrypted_key_does_not_ask_on_the_terminal(tmp_path):
    """OpenSSL would ask for a password there, and the stream's thread would wait for ever."""
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    me = trustme.CA().issue_cert("me@test")
    key = load_pem_private_key(me.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode()))
    access = Access("https://api.test", "a file", cert_data=me.cert_chain_pems[0].bytes(), key_data=locked)
    with pytest.raises(CredentialsError, match="cannot be loaded: client key: it is encrypted"):
        access.ssl_context()


def test_which_file_cannot_be_used(tmp_path):
    """CA, certificate or key: which of them, where it is, and what is wrong with it."""
    authority = trustme.CA()
    me, other = authority.issue_cert("me@test"), authority.issue_cert("you@test")
    me.cert_chain_pems[0].write_to_path(tmp_path / "me.pem")
    other.private_key_pem.write_to_path(tmp_path / "you.key")
    (tmp_path / "text").write_text("some text")
    files = {name: str(tmp_path / name) for name in ("me.pem", "you.key", "text", "none")}
    for given, words in (
        ({"ca_file": files["none"]}, f"CA {files['none']}: No such file or directory"),
        ({"ca_file": files["text"]}, f"CA {files['text']}: it is no PEM file"),
        ({"cert_file": files["none"], "key_file": files["you.key"]}, f"client certificate {files['none']}: No such"),
        ({"cert_file": files["me.pem"], "key_file": files["none"]}, f"client key {files['none']}: No such"),
        ({"cert_file": files["me.pem"], "key_file": files["you.key"]}, "the key is that of another certificate"),
        ({"ca_data": b"nonsense"}, "CA: it is no PEM file"),
        ({"ca_file": "a\0b"}, "no path"),
    ):
        with pytest.raises(CredentialsError) as raised:
            Access("https://api.test", "a file", **given).ssl_context()
        assert words in str(raised.value)
        assert raised.value.cure


def test_no_key_is_left_on_the_disk(tmp_path, monkeypatch):
    """A key that stands in a kubeconfig is in a file for as long as it takes to load it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    me = trustme.CA().issue_cert("me@test")
    access = Access("https://api.test", cert_data=me.cert_chain_pems[0].bytes(), key_data=me.private_key_pem.bytes())
    assert access.ssl_context() is access.ssl_context()
    assert not list(tmp_path.iterdir())


# -- files that change


def authorized(conn, request):
    if request.watch:
        conn.stream()
        conn.idle()
    conn.reply(slice_list(piece("a", [row("10.0.0.1")])))


def seen(server, header):
    return [request.headers.get(header, "") for request in server.requests]


def touched(path, write):
    """Write, in such a way that a clock of coarse ticks cannot hide it."""
    before = os.stat(path).st_mtime_ns
    write()
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_a_kubeconfig_that_changes_is_read_again(made, tmp_path):
    """A new token is on the wire with the next request; a half-written file is told, and the old token goes on."""
    with Server(authorized) as server:
        path = config(tmp_path, {"server": server.url}, {"token": "one"})
        feed = Reader(made, None, kubeconfig=path)
        feed.ips("10.0.0.1", timeout=20)
        touched(path, lambda: config(tmp_path, {"server": server.url}, {"token": "two", "as": "jane"}))
        feed.source.resync_now()
        feed.until(lambda _: "Bearer two" in seen(server, "authorization"), timeout=20)
        assert server.requests[-1].headers["impersonate-user"] == "jane"
        touched(path, lambda: Path(path).write_text("users: ["))
        feed.source.resync_now()
        feed.until(
            lambda _: any("what was read before stays in use" in str(event) for event in feed.events), timeout=20
        )
        count = len(server.requests)
        feed.source.resync_now()
        feed.until(lambda _: len(server.requests) > count, timeout=20)
        assert seen(server, "authorization")[-1] == "Bearer two"


def test_another_current_context_does_not_move_a_process(made, tmp_path):
    """`kubectl config use-context` in a terminal says nothing to a process that runs: it stays with its cluster."""
    with Server(authorized) as server:
        path = config(tmp_path, {"server": server.url}, {"token": "one"})
        feed = Reader(made, None, kubeconfig=path)
        feed.ips("10.0.0.1", timeout=20)
        text = yaml.safe_load(Path(path).read_text())
        text["users"] = [{"name": "u", "user": {"token": "two"}}, {"name": "v", "user": {"token": "other"}}]
        text["contexts"].append({"name": "y", "context": {"cluster": "c", "user": "v"}})
        text["current-context"] = "y"
        touched(path, lambda: Path(path).write_text(yaml.safe_dump(text)))
        feed.source.resync_now()
        feed.until(lambda _: "Bearer two" in seen(server, "authorization"), timeout=20)
        assert "Bearer other" not in seen(server, "authorization")


def test_a_file_that_appears_is_read(made, tmp_path):
    """A file of $KUBECONFIG that was not there, and that now comes first."""
    with Server(authorized) as server:
        path = config(tmp_path, {"server": server.url}, {"token": "one"})
        feed = Reader(made, None, kubeconfig=os.pathsep.join([str(tmp_path / "first"), path]))
        feed.ips("10.0.0.1", timeout=20)
        config(tmp_path, {"server": server.url}, {"token": "two"}, name="first")
        feed.source.resync_now()
        feed.until(lambda _: "Bearer two" in seen(server, "authorization"), timeout=20)


def test_certificates_that_change_are_used_by_new_connections(made, tmp_path):
    """CA, client certificate and key are other files of the same names: the next connection shows the new one."""
    authority, shown = trustme.CA(), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def handle(conn, request):
        shown.append((conn.sock.getpeercert()["serialNumber"], request.watch))
        authorized(conn, request)

    def issue():
        me = authority.issue_cert("me@test")
        me.cert_chain_pems[0].write_to_path(tmp_path / "me.pem")
        me.private_key_pem.write_to_path(tmp_path / "me.key")

    issue()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Server(handle, context) as server:
        user = {"client-certificate": "me.pem", "client-key": "me.key"}
        cluster = {"server": server.url, "certificate-authority": "ca.pem"}
        feed = Reader(made, None, kubeconfig=config(tmp_path, cluster, user))
        feed.ips("10.0.0.1", timeout=20)
        first = shown[0][0]
        feed.until(lambda _: shown[-1][1], timeout=20)
        touched(tmp_path / "me.pem", issue)
        feed.source.resync_now()
        feed.until(lambda _: shown[-1][0] != first and shown[-1][1], timeout=20)
        other = trustme.CA()
        other.issue_cert("127.0.0.1").configure_cert(context)
        both = other.cert_pem.bytes() + authority.cert_pem.bytes()
        touched(tmp_path / "ca.pem", lambda: (tmp_path / "ca.pem").write_bytes(both))
        count = len(shown)
        feed.source.resync_now()
        feed.until(lambda _: len(shown) > count + 1, timeout=20)
        assert not any(event.kind == "unreachable" for event in feed.events if hasattr(event, "kind"))


def test_a_token_beside_a_token_file(tmp_path):
    """The file counts while it can be read; until then, what stands beside it."""
    access = Kubeconfig(config(tmp_path, user={"tokenFile": "tok", "token": "beside"})).open()
    header, warning = access.credentials.header()
    assert header == "Bearer beside"
    assert "that stands beside it stays in use" in warning
    (tmp_path / "tok").write_text("from-the-file\n")
    assert access.credentials.header() == ("Bearer from-the-file", "")


def test_what_is_not_a_kubeconfig_is_told_by_its_key(tmp_path):
    """A number for a text, a text for a list: the key, the user and the file, and how it should be."""
    for user, words in (
        ({"token": 12345678}, "token in user 'u' of"),
        ({"as": "jane", "as-groups": "admins"}, "as-groups in user 'u' of"),
        ({"exec": ["aws"]}, "exec in user 'u' of"),
    ):
        path = config(tmp_path, user=user)
        with pytest.raises(CredentialsError) as raised:
            Kubeconfig(path).open()
        assert words in str(raised.value)
        assert path in str(raised.value)
        assert "it should be" in raised.value.cure


def test_unquoting_is_done_once():
    """A password with a percent sign in it, encoded, is not decoded twice."""
    assert base64.b64decode(login_of("http://a:100%2525@p").removeprefix("Basic ")).decode() == "a:100%25"
    assert unquote("100%2525") == "100%25"
    assert base64.b64decode(login_of("http://j%C3%A9:%E2%82%AC@p").removeprefix("Basic ")).decode() == "jé:€"


# -- OIDC, which the kubernetes package knows


def jwt(expires):
    parts = ({"alg": "none"}, {"exp": expires, "sub": SECRET}, {})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def oidc(token):
    return {"auth-provider": {"name": "oidc", "config": {"id-token": token, "idp-issuer-url": "http://127.0.0.1:1"}}}


def test_oidc(tmp_path):
    """An id-token that is good is sent; one that cannot be refreshed is told without a word of the package's."""
    token = jwt(4_000_000_000)
    access = Kubeconfig(config(tmp_path, user=oidc(token))).open()
    assert access.credentials.header() == (f"Bearer {token}", "")
    assert token not in repr((access, access.credentials))
    with pytest.raises(CredentialsError, match=r"auth-provider of user 'u' of .* cannot be read: ") as raised:
        Kubeconfig(config(tmp_path, user=oidc(jwt(1)))).open()
    assert SECRET not in str(raised.value)
    with pytest.raises(CredentialsError, match="gave no credentials") as raised:
        Kubeconfig(config(tmp_path, user={"auth-provider": {"name": "azure"}})).open()


def test_oidc_without_the_package(tmp_path, monkeypatch):
    """It alone needs the package, which is named with the pip command."""
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with pytest.raises(ImportError, match=r"auth-provider of user 'u' .* pip install 'kubelb\[kubernetes\]'"):
        Kubeconfig(config(tmp_path, user=oidc("x"))).open()
    assert Kubeconfig(config(tmp_path)).open().credentials.header()[0] == "Bearer t"
