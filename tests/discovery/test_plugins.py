"""Exec plugins: run once for all, again when it is time, and never in a storm. Time is the test's own."""

import json
import os
import random
import ssl
import sys
import threading
from itertools import pairwise

import pytest
import trustme

from kubelb.discovery.kube import plugin as plugins
from kubelb.discovery.kube.access import CredentialsError
from kubelb.discovery.kube.command import Command, run
from kubelb.discovery.kube.kubeconfig import Kubeconfig
from kubelb.discovery.kube.plugin import Plugin, PluginCredentials

from .build import piece, row
from .feeding import Reader
from .server import Server, slice_list, status
from .test_kubeconfig_files import config

V1 = "client.authentication.k8s.io/v1"
SECRET = "hunter2-not-to-be-seen"


@pytest.fixture(autouse=True)
def _own_plugins(monkeypatch):
    monkeypatch.setattr(plugins, "_plugins", {})


def program(folder, body, name="plugin"):
    """A plugin that counts its runs in a file; `n` is the number of this one, `out(**status)` what it prints."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport json, os, pathlib, sys, time\n"
        f"p = pathlib.Path({str(folder)!r}, {name!r} + '.runs')\n"
        "with p.open('a') as f: f.write('x')\n"
        "n = p.stat().st_size\n"
        f"def out(**status): print(json.dumps({{'apiVersion': {V1!r}, 'kind': 'ExecCredential', 'status': status}}))\n"
        f"{body}\n"
    )
    path.chmod(0o755)
    return str(path)


def runs(folder, name="plugin"):
    path = folder / f"{name}.runs"
    return path.stat().st_size if path.exists() else 0


def user(command, **more):
    return {"exec": {"apiVersion": V1, "command": command, "interactiveMode": "Never"} | more}


def idle_watch(conn, request):
    if request.watch:
        conn.stream()
        conn.idle()
    conn.reply(slice_list(piece("a", [row("10.0.0.1")])))


# -- once for all


def test_eight_load_balancers_run_it_once(made, tmp_path):
    """Several users of one kubeconfig, for different services, at the same time: one run, one credential."""
    command = program(tmp_path, "time.sleep(0.3)\nout(token=f'run-{n}')")
    with Server(idle_watch) as server:
        path = config(tmp_path, {"server": server.url}, user(command))
        feeds = [Reader(made, None, f"svc{number}.prod:http", kubeconfig=path) for number in range(8)]
        for feed in feeds:
            feed.until(lambda _, feed=feed: feed.health.synced, timeout=20)
        assert runs(tmp_path) == 1
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer run-1"}


def test_one_run_at_a_time(tmp_path):
    """Those who come while it runs wait for it and take what it gave."""
    command = program(tmp_path, "time.sleep(0.2)\nout(token=f'run-{n}')")
    plugin, given = Plugin(Command(command)), []
    threads = [threading.Thread(target=lambda: given.append(plugin.get().token)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given == ["Bearer run-1"] * 6


def test_other_arguments_are_another_plugin(tmp_path):
    """What it is run with decides what it gives: arguments, variables, the cluster it is told of."""
    command = program(tmp_path, "out(token='-'.join([*sys.argv[1:], os.environ.get('WHO', ''), str(n)]))")
    args, env = {"args": ["a"]}, {"env": [{"name": "WHO", "value": "me"}]}
    tokens = []
    for number, more in enumerate(({}, args, args, env, args | env, {"provideClusterInfo": True})):
        path = config(tmp_path, user=user(command, **more), name=f"config-{number}")
        tokens.append(Kubeconfig(path).open().credentials.header()[0])
    assert tokens[1] == tokens[2]
    assert len(set(tokens)) == runs(tmp_path) == 5


def test_what_it_is_told(tmp_path):
    """KUBERNETES_EXEC_INFO as client-go fills it: the cluster, its CA, proxy and extension, if asked for."""
    command = program(
        tmp_path, f"open({str(tmp_path / 'info')!r}, 'w').write(os.environ['KUBERNETES_EXEC_INFO'])\nout(token='t')"
    )
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    cluster = {
        "server": "https://api.test/base",
        "certificate-authority": "ca.pem",
        "tls-server-name": "two.test",
        "proxy-url": "http://proxy.test",
        "extensions": [
            {"name": "other", "extension": 1},
            {"name": "client.authentication.k8s.io/exec", "extension": {"a": 1}},
        ],
    }
    Kubeconfig(config(tmp_path, cluster, user(command, provideClusterInfo=True))).open().credentials.header()
    info = json.loads((tmp_path / "info").read_text())
    assert (info["kind"], info["apiVersion"], info["spec"]["interactive"]) == ("ExecCredential", V1, False)
    told = info["spec"]["cluster"]
    assert len(told.pop("certificate-authority-data")) > 100
    assert told == {
        "server": "https://api.test/base",
        "tls-server-name": "two.test",
        "proxy-url": "http://proxy.test",
        "config": {"a": 1},
    }
    Kubeconfig(config(tmp_path, cluster, user(command))).open().credentials.header()
    assert json.loads((tmp_path / "info").read_text())["spec"] == {"interactive": False}


def test_a_plugin_beside_the_kubeconfig(tmp_path, monkeypatch):
    """A command with a slash is relative to its file, one without is looked for on our own PATH."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "out(token='beside')")
    path = config(tmp_path, user=user("./bin/plugin"))
    assert Kubeconfig(path).open().credentials.header()[0] == "Bearer beside"
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    path = config(tmp_path, user=user("plugin", env=[{"name": "PATH", "value": "/nowhere"}]))
    assert Kubeconfig(path).open().credentials.header()[0] == "Bearer beside"


# -- again


class Fake:
    """A plugin whose runs are a function's, under a clock and dice of the test's."""

    def __init__(self, monkeypatch, answer):
        self.now, self.wall, self.runs, self.answer = 0.0, 1000.0, 0, answer
        monkeypatch.setattr(plugins, "run", self._run)
        monkeypatch.setattr(plugins, "wall", lambda: self.wall)
        self.plugin = Plugin(Command("fake"), clock=lambda: self.now, rng=random.Random(7))

    def _run(self, command, timeout):
        self.runs += 1
        result = self.answer(self.runs)
        if isinstance(result, Exception):
            raise result
        return result


def token(number, expires=None):
    return plugins.Credential(f"Bearer run-{number}", None, expires)


def test_a_plugin_that_fails_is_not_started_in_a_storm(monkeypatch):
    """Asked a hundred times a second for ten minutes it is run as a backoff allows: at most once in 30 s at the end."""
    fake, times = Fake(monkeypatch, lambda n: CredentialsError("no", "log in")), []
    while fake.now < 600:
        before = fake.runs
        with pytest.raises(CredentialsError, match="no"):
            fake.plugin.get()
        if fake.runs > before:
            times.append(fake.now)
        fake.now += 0.01
    gaps = [after - before for before, after in pairwise(times)]
    assert 0.8 <= gaps[0] < 1.7
    assert max(gaps) <= 60.1
    assert len(times) < 45
    assert len([each for each in times if each < 60]) <= 8


def test_a_plugin_that_mends_is_used_at_once_after_the_pause(monkeypatch):
    """The pause after a failure is the only one: what is given then has no pause before its next run."""
    fake = Fake(monkeypatch, lambda n: CredentialsError("no") if n < 3 else token(n, fake.wall + 5))
    for _ in range(2):
        with pytest.raises(CredentialsError):
            fake.plugin.get()
        fake.now += 4
    assert fake.plugin.get().token == "Bearer run-3"
    fake.wall += 6  # expired
    assert fake.plugin.get().token == "Bearer run-4"


def test_a_refused_credential_is_renewed_once_for_all(monkeypatch):
    """A 401 that eight streams get for one token costs one run, and so does the next; but not at once."""
    fake = Fake(monkeypatch, token)
    streams = [PluginCredentials(fake.plugin) for _ in range(8)]
    assert {each.header()[0] for each in streams} == {"Bearer run-1"}
    for each in streams:
        each.refuse()
        assert each.header()[0] == "Bearer run-2"
    assert fake.runs == 2
    for each in streams:  # a server that refuses all that is given
        each.refuse()
        assert each.header()[0] == "Bearer run-2"
    assert fake.runs == 2
    fake.now += 2.0
    assert streams[0].header()[0] == "Bearer run-3"


def test_a_refusal_of_what_is_gone_is_of_no_account(monkeypatch):
    """A stream that comes late with a 401 for the token before is given the one that is here."""
    fake = Fake(monkeypatch, token)
    early, late = PluginCredentials(fake.plugin), PluginCredentials(fake.plugin)
    early.header()
    late.header()
    early.refuse()
    early.header()
    fake.now += 100
    late.refuse()
    assert late.header()[0] == "Bearer run-2"
    assert fake.runs == 2


def test_a_token_is_used_until_it_expires(monkeypatch):
    """As client-go does: to the second that the plugin said, by the clock on the wall."""
    fake = Fake(monkeypatch, lambda n: token(n, fake.wall + 60))
    for wall, number in ((1000, 1), (1059.9, 1), (1060.1, 2)):
        fake.wall = wall
        assert fake.plugin.get().token == f"Bearer run-{number}"


@pytest.mark.slow
def test_a_token_that_the_server_refuses_is_renewed(made, tmp_path):
    """A 401 on the wire, for two watches: one run more."""
    command, good = program(tmp_path, "out(token=f'run-{n}')"), ["run-1"]

    def handle(conn, request):
        if request.headers.get("authorization") != f"Bearer {good[0]}":
            conn.reply(status(401, "Unauthorized", "Unauthorized"), status=401)
        else:
            idle_watch(conn, request)

    with Server(handle) as server:
        path = config(tmp_path, {"server": server.url}, user(command))
        feeds = [Reader(made, None, f"svc.prod-{number}:http", kubeconfig=path) for number in range(2)]
        for feed in feeds:
            feed.until(lambda _, feed=feed: feed.health.synced, timeout=20)
        good[0] = "run-2"
        count = len(server.requests)
        for feed in feeds:
            feed.source.resync_now()

        def renewed(_):
            watches = [request for request in server.requests[count:] if request.watch]
            return sum(request.headers["authorization"] == "Bearer run-2" for request in watches) == 2

        feeds[0].until(renewed, timeout=20)
        assert runs(tmp_path) == 2


def tls_server(authority, clients, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    authority.issue_cert("127.0.0.1").configure_cert(context)
    clients.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
def renewing(tmp_path):
    """An authority, and a plugin whose first certificate is a stranger's and whose second is of the authority."""
    authority, stranger = trustme.CA(), trustme.CA()
    for number, issuer in ((1, stranger), (2, authority)):
        me = issuer.issue_cert("me@test")
        me.cert_chain_pems[0].write_to_path(tmp_path / f"{number}.pem")
        me.private_key_pem.write_to_path(tmp_path / f"{number}.key")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    command = program(
        tmp_path,
        f"read = lambda e: open({str(tmp_path)!r} + f'/{{min(n, 2)}}.' + e).read()\n"
        "out(clientCertificateData=read('pem'), clientKeyData=read('key'))",
    )
    return authority, command


def test_a_certificate_that_is_answered_by_a_reset_is_renewed(made, tmp_path, renewing):
    """In TLS 1.3 the alert may be lost: the server closes with the request unread, and the connection is reset."""
    authority, command = renewing

    def handle(conn, request):
        if runs(tmp_path) < 2:
            conn.reset()
        idle_watch(conn, request)

    context = tls_server(authority, authority, ssl.TLSVersion.TLSv1_3)
    context.verify_mode = ssl.CERT_NONE
    with Server(handle, context) as server:
        path = config(tmp_path, {"server": server.url, "certificate-authority": "ca.pem"}, user(command))
        feed = Reader(made, None, kubeconfig=path)
        feed.ips("10.0.0.1", timeout=20)
        assert runs(tmp_path) == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_certificate_that_the_handshake_refuses_is_renewed(made, tmp_path, renewing, version):
    """A plugin's first certificate is of an authority that the server does not know; its second is good."""
    authority, command = renewing
    with Server(idle_watch, tls_server(authority, authority, version)) as server:
        path = config(tmp_path, {"server": server.url, "certificate-authority": "ca.pem"}, user(command))
        feed = Reader(made, None, kubeconfig=path)
        feed.ips("10.0.0.1", timeout=20)
        assert runs(tmp_path) == 2
        assert all("authorization" not in request.headers for request in server.requests)


def test_a_client_certificate_that_is_refused_is_told(made, tmp_path):
    """One that stands in a file: what is to be looked at is the certificate, not whether the server is healthy."""
    authority, me = trustme.CA(), trustme.CA().issue_cert("me@test")
    me.private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    with Server(idle_watch, tls_server(authority, authority, ssl.TLSVersion.TLSv1_2)) as server:
        cluster = {"server": server.url, "certificate-authority": "ca.pem"}
        path = config(tmp_path, cluster, {"client-certificate": "me.pem", "client-key": "me.pem"})
        feed = Reader(made, None, kubeconfig=path)
        feed.until(lambda _: feed.events, timeout=20)
        assert "TLS failed" in feed.health.error
        assert f"accept the client certificate of {path}?" in feed.health.cure


def test_a_certificate_that_expires_is_replaced(tmp_path):
    """The context of the next connection holds the next certificate."""
    authority = trustme.CA()
    me = authority.issue_cert("me@test")
    (tmp_path / "pem").write_bytes(me.cert_chain_pems[0].bytes())
    (tmp_path / "key").write_bytes(me.private_key_pem.bytes())
    command = program(
        tmp_path,
        f"read = lambda e: open({str(tmp_path)!r} + '/' + e).read()\n"
        "out(clientCertificateData=read('pem') + ' ' * n, clientKeyData=read('key'), "
        "expirationTimestamp='2000-01-01T00:00:00Z' if n == 1 else '2099-01-01T00:00:00.123456789Z')",
    )
    access = Kubeconfig(config(tmp_path, user=user(command))).open()
    contexts = []
    for _ in range(3):
        access.credentials.header()
        contexts.append(access.ssl_context())
    assert contexts[0] is not contexts[1]
    assert contexts[1] is contexts[2]


# -- what goes wrong


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"print('{SECRET}'); sys.exit(3)", "failed with exit code 3"),
        (f"print('{SECRET}')", "no JSON"),
        ("print('[]')", "no ExecCredential"),
        (f"print(json.dumps({{'kind': 'Secret', 'token': '{SECRET}'}}))", "no ExecCredential"),
        (
            f"print(json.dumps({{'kind': 'ExecCredential', 'apiVersion': '{V1}beta1', 'status': {{}}}}))",
            "v1beta1, where",
        ),
        (f"print(json.dumps({{'kind': 'ExecCredential', 'apiVersion': '{V1}'}}))", "no status"),
        ("out()", "neither a token nor a certificate"),
        (f"out(token=['{SECRET}'])", "more than texts"),
        (f"out(clientCertificateData='{SECRET}')", "without a key"),
        (f"out(token='{SECRET} {SECRET}')", "no token"),
        (f"out(token='{SECRET}', expirationTimestamp='soon')", "no RFC 3339 time"),
        (f"out(token='{SECRET}', expirationTimestamp='2099-01-01T00:00:00')", "no RFC 3339 time"),
        ("time.sleep(60)", "gave nothing within 0.5 s"),
    ],
    ids=range(13),
)
def test_what_it_says_is_never_repeated(tmp_path, capfd, body, words):
    """Whatever it prints instead of a credential: it is told what was wrong, by the plugin's name."""
    command = program(tmp_path, f"print({SECRET!r}, file=sys.stderr)\n{body}")
    with pytest.raises(CredentialsError, match=words) as raised:
        run(Command(command, interactive="Never"), 0.5 if "sleep" in body else 30)
    assert "plugin" in str(raised.value)
    assert SECRET not in f"{raised.value} {raised.value.cure}" + "".join(capfd.readouterr())


def test_one_that_is_not_there(tmp_path):
    """Its name, and the hint that the kubeconfig has for this case, without what would move a terminal's cursor."""
    path = config(tmp_path, user=user("no-such-plugin", installHint="get it\nfrom \x1b[31mhere"))
    with pytest.raises(CredentialsError, match="'no-such-plugin' is not there") as raised:
        Kubeconfig(path).open().credentials.header()
    assert raised.value.cure.endswith("install 'no-such-plugin' on the PATH: get it from here")


def test_one_that_needs_a_terminal(tmp_path):
    """interactiveMode Always, and no terminal: refused without a run, as by client-go."""
    command = program(tmp_path, "out(token='t')")
    access = Kubeconfig(config(tmp_path, user=user(command, interactiveMode="Always"))).open()
    with pytest.raises(CredentialsError, match="no terminal"):
        access.credentials.header()
    assert runs(tmp_path) == 0


def test_a_fork_keeps_what_was_given(monkeypatch):
    """A child has no thread that would ever let go of the lock; the credential is as good there."""
    fake = Fake(monkeypatch, token)
    monkeypatch.setattr(plugins, "_plugins", {fake.plugin.command: fake.plugin})
    fake.plugin.get()
    fake.plugin._lock.acquire()
    plugins._lock.acquire()
    plugins.after_fork_in_child()
    assert plugins.plugin_for(Command("fake")).get().token == "Bearer run-1"


def test_no_secret_is_in_a_repr(tmp_path):
    """A token, a certificate, arguments and variables of a plugin are in nobody's text."""
    command = program(tmp_path, f"out(token={SECRET!r})")
    more = {"args": [f"--password={SECRET}"], "env": [{"name": "PASSWORD", "value": SECRET}]}
    credentials = Kubeconfig(config(tmp_path, user=user(command, **more))).open().credentials
    credentials.header()
    plugin = credentials._plugin
    assert SECRET not in repr((credentials, plugin, plugin.command, plugin.get()))
