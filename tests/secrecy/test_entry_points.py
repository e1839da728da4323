"""A secret and control characters planted in everything that kubelb is given or told: nothing shows either.

Kind: text that came from outside, or a value that was given in the wrong place, is repeated in an error, a log line, an
event, health, a repr, a metric or on a terminal.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.discovery.nameserver import Nameserver
from tests.discovery.server import Server, event, slice_list, status
from tests.runtime.kit import until
from typer.testing import CliRunner

import kubelb
from kubelb.cli.app import app
from kubelb.core.events import Emit
from kubelb.discovery.base import Discovery
from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.kubeconfig import Kubeconfig
from kubelb.discovery.kube.source import KubeDiscovery
from kubelb.errors import LoadBalancerError, TargetError
from kubelb.service import service_of
from kubelb.target import parse_nameserver, parse_target
from kubelb.testing import LocalCluster

from .evidence import FORGED, PASSWORD, SECRET, Evidence, Watched, logged

TARGET = "kube:///reviews.prod:http"
BAD = f"denied; Authorization: Bearer {SECRET} is no good, nor {SECRET[:22]}{FORGED} [bold]x[/bold] [/nothing]"


@pytest.fixture
def evidence() -> Evidence:
    return Evidence()


class Token:
    """Credentials with the planted secret."""

    def __init__(self, secret: str = SECRET) -> None:
        self.secret = secret

    def header(self, *, fresh: bool = False) -> tuple[str, str]:
        return f"Bearer {self.secret}", ""


class Reading(Watched):
    """Reads slices with an Access of the test's own."""

    def __init__(self, evidence: Evidence, url: str, **options: Any) -> None:
        self.access = Access(url, "the test", credentials=Token())
        super().__init__(evidence, TARGET, **options)
        service_of(self).placing.source = self._source  # type: ignore[method-assign,assignment]

    def _source(self, emit: Emit, _: object) -> Discovery:
        return KubeDiscovery(self.target, access=self.access, emit=emit)


def gather(evidence: Evidence, lb: kubelb.LoadBalancer, *, timeout: float = 10.0) -> None:
    """Wait for a failure to be told, and take all that the load balancer says."""
    try:
        lb.wait_ready(0.0)
    except LoadBalancerError as error:
        evidence.error(error)
    until(lambda: lb.health().error or lb.endpoints(), timeout)
    try:
        lb.wait_ready(0.05)
    except LoadBalancerError as error:
        evidence.error(error)
    try:
        lb.call(lambda attempt: attempt.endpoint, deadline=0.05)
    except LoadBalancerError as error:
        evidence.error(error)
    evidence.balancer(lb)


def slice_with(**fields: Any) -> dict[str, Any]:
    """A slice with one endpoint, whose every name is planted."""
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": BAD,
            "namespace": "prod",
            "resourceVersion": "7",
            "labels": {"kubernetes.io/service-name": "reviews"},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["127.0.0.1"],
                "nodeName": BAD,
                "zone": BAD,
                "hostname": BAD,
                "targetRef": {"kind": BAD, "name": BAD, "namespace": BAD, "uid": BAD},
            }
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    } | fields


ODD = slice_with(endpoints=[{"addresses": [BAD]}])
STATUSES = (400, 401, 403, 404, 409, 410, 422, 429, 500, 503)
ANSWERS = {
    **{f"status {code}": lambda conn, code=code: conn.reply(status(code, BAD, BAD), status=code) for code in STATUSES},
    "no JSON": lambda conn: conn.reply(None, 500, body=f"<html>{BAD}".encode()),
    "a list that is none": lambda conn: conn.reply({"kind": BAD, "metadata": {"resourceVersion": "1"}}),
    "a list of nonsense": lambda conn: conn.reply(None, body=f'{{"kind": "{SECRET}'.encode()),
    "a redirect": lambda conn: conn.reply(None, 302, [("Location", f"http://u:{PASSWORD}@h/{SECRET}")], body=b""),
    "retry-after": lambda conn: conn.reply(status(429, BAD, BAD), 429, [("Retry-After", f"{SECRET}")]),
    "no HTTP": lambda conn: conn.raw(f"SSH-2.0 {SECRET}\x1b[31m\r\n\r\n".encode()) or conn.close(),
    "odd items": lambda conn: conn.reply(slice_list({"metadata": {"name": [BAD]}}, ODD, slice_with(addressType=BAD))),
    "odd names": lambda conn: conn.reply(slice_list(slice_with())),
    "odd ports": lambda conn: conn.reply(slice_list(slice_with(ports=[{"name": BAD, "port": 1, "protocol": "TCP"}]))),
}
EVENTS = {
    "an error": event("ERROR", status(500, BAD, BAD)),
    "an error 403": event("ERROR", status(403, BAD, BAD)),
    "a type": event(BAD, slice_with()),
    "a kind": event("MODIFIED", slice_with(kind=BAD)),
    "a version": event("BOOKMARK", {"kind": "EndpointSlice", "metadata": {"resourceVersion": BAD}}),
    "an address": event("MODIFIED", ODD),
    "a field of another type": event("MODIFIED", slice_with(endpoints=BAD)),
    "no JSON": f"{SECRET}\x1b[31m\n".encode(),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_an_api_server_answers(answer: str, evidence: Evidence) -> None:
    """Status objects, pages of something in between, names of objects."""

    def handle(conn: Any, request: Any) -> None:
        if request.watch:
            conn.stream()
            conn.idle()
        ANSWERS[answer](conn)

    with Server(handle) as server, logged(evidence), Reading(evidence, server.url) as lb:
        gather(evidence, lb)
    assert evidence.events
    evidence.clean()


@pytest.mark.parametrize("said", EVENTS)
def test_what_a_watch_says(said: str, evidence: Evidence) -> None:
    """ERROR events, and events that make no sense, after a list that did."""

    def handle(conn: Any, request: Any) -> None:
        if request.watch:
            conn.stream(EVENTS[said])
            conn.idle()
        conn.reply(slice_list(slice_with(), version=100))

    with Server(handle) as server, logged(evidence), Reading(evidence, server.url) as lb:
        lb.wait_ready(10.0)
        until(lambda: len(server.requests) >= 2)
        gather(evidence, lb)
    evidence.clean()


@pytest.mark.parametrize(
    "url",
    [
        f"http://admin:{PASSWORD}@127.0.0.1:1",
        f"http://{PASSWORD}@127.0.0.1:1",
        f"https://admin:{PASSWORD}@127.0.0.1:99999",
        f"https://admin:{PASSWORD}@[::bad",
        f"admin:{PASSWORD}@127.0.0.1:1",
    ],
)
def test_userinfo_of_a_server(url: str, evidence: Evidence) -> None:
    """Kubernetes knows no such credentials; whatever becomes of the connection, none is shown."""
    evidence.add("repr(Access)", repr(Access(url, credentials=Token())))
    with logged(evidence), Reading(evidence, url) as lb:
        gather(evidence, lb)
    evidence.clean()


# -- kubeconfigs


def written(folder: Path, server: str, user: dict[str, Any], **cluster: Any) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server} | cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return str(path)


PLUGIN = f"import sys; print('token {SECRET}', file=sys.stderr); print('{{\"token\": \"{SECRET}\"'); sys.exit(3)"
PROXIES = [f"http://u:{PASSWORD}@127.0.0.1:1", f"socks5://u:{PASSWORD}@127.0.0.1:1", f"http://u:{PASSWORD}@[::bad"]
PROXIES += [f"u:{PASSWORD}@127.0.0.1:1", f"{PASSWORD}://127.0.0.1:1", f"http://u:{PASSWORD}@127.0.0.1:port"]


def bad_config(what: str, folder: Path) -> str:
    token = {"token": SECRET}
    if what == "an exec plugin":
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", PLUGIN]}
        return written(folder, "http://127.0.0.1:1", {"exec": {**plugin, "interactiveMode": "Never"}})
    if what == "half written":
        (folder / "config").write_text(f"users:\n- name: u\n  user: {{token: {SECRET}\nclusters: [")
        return str(folder / "config")
    if what == "a cluster it has not":
        path = written(folder, "http://127.0.0.1:1", token)
        Path(path).write_text(Path(path).read_text().replace("cluster: c", "cluster: nope"))
        return path
    if what == "no token":
        return written(folder, "http://127.0.0.1:1", {"token": f"{SECRET}\n\x1b[31m x"})
    if what == "userinfo":
        return written(folder, f"http://admin:{PASSWORD}@127.0.0.1:1", token)
    return written(folder, "https://127.0.0.1:1", token, **{"proxy-url": what})


WRONG = ["an exec plugin", "half written", "a cluster it has not", "no token", "userinfo", *PROXIES]


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_what_a_kubeconfig_holds(what: str, evidence: Evidence, tmp_path: Path, capfd: Any) -> None:
    """In errors of ours and in what the package that reads it logs; the doctor and the table say as little."""
    path = bad_config(what, tmp_path)
    with logged(evidence), Watched(evidence, TARGET, kubeconfig=path) as lb:
        service_of(lb).feed()
        gather(evidence, lb, timeout=30.0)
        until(lambda: evidence.events, 30.0)
        gather(evidence, lb)
    for command in (["doctor", TARGET, "--kubeconfig", path], ["endpoints", TARGET, "--kubeconfig", path]):
        with logged(evidence):
            evidence.add(command[0], CliRunner().invoke(app, command).output.replace("\n", " | "))
    out, err = capfd.readouterr()
    evidence.add("stdout, stderr", (out + err).replace("\n", " | "))
    evidence.clean()


def test_the_content_of_a_kubeconfig_in_place_of_its_path(evidence: Evidence, tmp_path: Path, monkeypatch: Any) -> None:
    """As an argument, a dict, an environment variable, on the command line: refused, and not repeated."""
    content = Path(written(tmp_path, "http://127.0.0.1:1", {"token": SECRET})).read_text()
    for given in (
        content,
        json.dumps(yaml.safe_load(content)),
        yaml.safe_load(content),
        content.encode(),
        Path(content),
    ):
        with pytest.raises((TypeError, ValueError), match="kubeconfig=") as caught:
            kubelb.LoadBalancer(TARGET, discovery=kubelb.DiscoveryOptions(kubeconfig=given))
        evidence.add("the constructor", f"{caught.value!s} {caught.value!r} {caught.value.__context__!r}")
    for command in ("doctor", "endpoints"):
        done = CliRunner().invoke(app, [command, TARGET, "--kubeconfig", content])
        assert done.exit_code in {1, 2}
        evidence.add(command, done.output.replace("\n", " | "))
    monkeypatch.setenv("KUBECONFIG", content)
    evidence.add("repr(Kubeconfig)", repr(Kubeconfig(content)))
    with logged(evidence), Watched(evidence, TARGET) as lb:
        service_of(lb).feed()
        until(lambda: evidence.events)
        gather(evidence, lb)
        assert "the contents of a kubeconfig" in lb.health().error
    evidence.clean()


# -- targets, names, options


@pytest.mark.parametrize(
    "text",
    [
        f"dns://u:{PASSWORD}@10.0.0.1/reviews.prod:80",
        f"dns+srv://u:{PASSWORD}@10.0.0.1:53/_http._tcp.reviews.prod",
        f"dns:///u:{PASSWORD}@reviews.prod:80",
        f"static:///u:{PASSWORD}@10.0.0.1:80",
        f"static:///10.0.0.1:80,http://u:{PASSWORD}@10.0.0.1:80",
        f"http://u:{PASSWORD}@reviews.prod:80",
        f"https://reviews.prod/?token={PASSWORD}",
        f"kube://u:{PASSWORD}@/reviews.prod:http",
        f"u:{PASSWORD}@reviews.prod:http",
        f"{PASSWORD}#x@reviews.prod:http",
        f"http://u:{PASSWORD} x@reviews.prod:80",
        f"reviews.prod:http{FORGED}",
    ],
)
def test_a_target_with_a_password(text: str, evidence: Evidence) -> None:
    """Refused in words that do not repeat it, by every way in which a target is given."""
    for way in (
        lambda: parse_target(text),
        lambda: kubelb.LoadBalancer(text),
        lambda: parse_nameserver(text),
        lambda: kubelb.LoadBalancer(TARGET, discovery=kubelb.DiscoveryOptions(nameserver=text)),
        lambda: kubelb.LoadBalancer(TARGET, discovery=kubelb.DiscoveryOptions(seed=[text])),
        lambda: kubelb.LoadBalancer(TARGET, discovery=kubelb.DiscoveryOptions(seed=text)),
        lambda: kubelb.LoadBalancer(TARGET, discovery=kubelb.DiscoveryOptions(cluster_domain=text)),
    ):
        with pytest.raises(TargetError) as caught:
            way()
        error: BaseException | None = caught.value
        while error is not None:
            evidence.add("the error", f"{error!s} {error!r}")
            error = error.__cause__ or error.__context__
    for command in (["doctor", text], ["endpoints", text], ["endpoints", TARGET, "--nameserver", text]):
        evidence.add(command[0], CliRunner().invoke(app, command).output.replace("\n", " | "))
    evidence.clean()


def test_options_of_adapters(evidence: Evidence, tmp_path: Path) -> None:
    """Keys, certificates, hosts, hints, metadata: what is refused may be a secret in the wrong place."""
    import grpc
    import httpx
    import requests

    from kubelb.adapters.grpc import TlsFiles, aio
    from kubelb.adapters.httpx import Transport
    from kubelb.adapters.requests import Adapter

    here = __file__
    pem = f"-----BEGIN PRIVATE KEY-----\n{PASSWORD}\n"
    url = f"http://u:{PASSWORD}@other.host/?q={PASSWORD}"
    lb = kubelb.LoadBalancer("static:///127.0.0.1:1")

    def asked(**given: Any) -> Any:
        return httpx.Client(transport=Transport(lb, hosts=["r.p"])).get("http://r.p/", **given)

    for way in (
        lambda: Transport(lb, cert=("a", "b", PASSWORD, "c")),
        lambda: Transport(lb, cert=("/nope", "/nope2", PASSWORD)),
        lambda: Transport(lb, cert=(here, here, PASSWORD)),
        lambda: Transport(lb, cert=(pem.encode(), b"x")),
        lambda: Transport(lb, cert=f"\n{PASSWORD}\n"),
        lambda: Transport(lb, verify=pem),
        lambda: Transport(lb, verify=PASSWORD.encode()),
        lambda: Adapter(lb, cert=(pem, pem)),
        lambda: TlsFiles(cert=pem),
        lambda: TlsFiles(key=f"{{{PASSWORD}"),
        lambda: Transport(lb, hosts=f"http://u:{PASSWORD}@h"),
        lambda: Transport(lb, server_hostname=f"https://u:{PASSWORD}@h"),
        lambda: httpx.Client(transport=Transport(lb, hosts=["reviews.prod"])).get(url),
        lambda: Adapter(lb).send(requests.Request("GET", url.replace("http", "ftp")).prepare()),
        lambda: kubelb.hints(key=[PASSWORD]),
        lambda: lb.call(lambda attempt: 1, key=[PASSWORD]),
        lambda: asked(extensions={"kubelb": PASSWORD}),
        lambda: asked(extensions={"kubelb": {"key": [PASSWORD]}}),
        lambda: asked(extensions={"kubelb": {"deadline": {"x": PASSWORD}}}),
        lambda: aio.insecure_channel(lb, options={"token": PASSWORD}),
        lambda: kubelb.LoadBalancer(TARGET, telemetry={"token": PASSWORD}),
    ):
        with pytest.raises(Exception) as caught:
            way()
        assert not isinstance(caught.value, AssertionError)
        evidence.add("the error", f"{caught.value!s} {caught.value!r}".replace("\n", " | "))
    assert grpc is not None
    with kubelb.hints(key=PASSWORD):
        from kubelb.runtime.hinting import current

        evidence.add("repr of hints", repr(current()))
    lb.close()
    evidence.clean()


@pytest.mark.parametrize("kind", ["httpx", "requests"])
def test_what_requests_carry(kind: str, evidence: Evidence) -> None:
    """Credentials, cookies and the query of a request to dead pods: in no error, note, log line or event."""
    import httpx
    import requests

    from kubelb.adapters.httpx import Transport
    from kubelb.adapters.requests import mount

    url = f"http://reviews.prod/a?token={SECRET}"
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"s={SECRET}"}
    with logged(evidence), Watched(evidence, "static:///127.0.0.1:1,127.0.0.2:1") as lb:
        if kind == "httpx":
            client = httpx.Client(transport=Transport(lb, hosts=["reviews.prod"]))
            with client, pytest.raises(httpx.ConnectError) as caught:
                client.get(url, headers=headers)
        else:
            with requests.Session() as session:
                mount(session, lb, hosts=["reviews.prod"])
                with pytest.raises(requests.ConnectionError) as caught:
                    session.get(url, headers=headers, timeout=5)
        assert caught.value.__notes__
        evidence.error(caught.value)
        evidence.balancer(lb)
    evidence.found = [found for found in evidence.found if not found[0].startswith("locals")]  # the request's own
    evidence.clean()


def test_names_from_a_nameserver(evidence: Evidence) -> None:
    """SRV targets, aliases and owners may be any bytes."""
    name = "_http._tcp.reviews.prod.svc.cluster.local."
    odd = r"\027[31m\010WARNING\032kubelb.prod.svc.cluster.local."

    def handle(asked: Any) -> bytes:
        return asked.answer(f"{name} 1 SRV 0 1 80 {odd}") if asked.kind == "SRV" else asked.missing()

    with Nameserver(handle) as server, logged(evidence):
        lb = Watched(evidence, f"dns+srv://127.0.0.1:{server.address[1]}/{name.rstrip('.')}")
        service_of(lb).feed()
        until(lambda: evidence.events)
        gather(evidence, lb)
        lb.close()
    evidence.clean()


def test_a_terminal(evidence: Evidence) -> None:
    """What a cluster calls its pods, zones and nodes is no markup for the table, and no escape for the terminal."""
    with LocalCluster() as cluster:
        cluster.service("reviews.prod:http", replicas=0)
        hand = slice_with()
        hand["metadata"]["name"] = "by-hand"
        for name in ("nodeName", "zone"):
            hand["endpoints"][0][name] = f"[red]{name}[/nothing]{FORGED}"
        hand["endpoints"][0]["targetRef"]["name"] = "[link=x]pod[/bold]"
        cluster.apply_slice(hand)
        options = ["--kubeconfig", cluster.kubeconfig, "--timeout", "30"]
        for command in (["endpoints", TARGET, *options], ["endpoints", TARGET, "--json", *options]):
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, done.output
            evidence.add(" ".join(command[:3]), done.output.replace("\n", " | "))
        assert "[red]nodeName[/nothing]" in evidence.found[0][1]
        assert "[link=x]pod[/bold]" in evidence.found[0][1]
        done = CliRunner().invoke(app, ["doctor", TARGET, "--kubeconfig", cluster.kubeconfig])
        evidence.add("doctor", done.output.replace("\n", " | "))
    evidence.clean()


def test_the_log_of_other_threads_is_not_held_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While a kubeconfig is read, only what the reading package logs in that thread is left out."""
    from threading import Thread

    from kubelb.discovery.kube.provider import _package_is_quiet

    root = logging.getLogger()
    filters = list(root.filters)
    with caplog.at_level(logging.INFO), _package_is_quiet():
        logging.info("of the package")  # noqa: LOG015 - as it does
        thread = Thread(target=lambda: logging.info("of another"))  # noqa: LOG015
        thread.start()
        thread.join()
    assert caplog.messages == ["of another"]
    assert root.filters == filters
