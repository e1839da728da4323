"""``kubelb doctor``: what it finds on a real API of slices, and what it says about each thing that is in the way."""

import json
import re
import socket
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.cli.test_main import run, run_without
from typer.testing import CliRunner

import kubelb
from kubelb.cli.app import app
from kubelb.cli.doctor import around
from kubelb.cli.doctor.around import Mesh, look_around, look_up
from kubelb.cli.doctor.command import run_command
from kubelb.cli.doctor.finding import Mark
from kubelb.testing import LocalCluster


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    for name in ("KUBECONFIG", "NODE_NAME", "KUBELB_ZONE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(around, "PATIENCE", 1.0)
    with LocalCluster() as cluster:
        cluster.service("reviews.prod", replicas=2)
        yield cluster


def doctor(cluster: LocalCluster, *arguments: str, kubeconfig: str | None = None) -> tuple[int, dict[str, dict]]:
    """Exit code, and what was found by the name of what was looked at."""
    given = ["doctor", *arguments, "--json", "--kubeconfig", kubeconfig or cluster.kubeconfig]
    done = CliRunner().invoke(app, given)
    findings = json.loads(done.stdout)["findings"]
    return done.exit_code, {finding["what"]: finding for finding in findings}


def test_all_is_well(cluster):
    """A tick for each, in order, and exit code 0; what is only worth knowing does not change that."""
    code, found = doctor(cluster, "reviews.prod:http")
    assert code == 0
    places = ["target", "configuration", "credentials", "permission", "slices", "port", "endpoints", "zone", "network"]
    assert list(found) == [*places, "DNS", "mesh"]
    assert {name for name in places if found[name]["mark"] != "ok"} == {"zone"}
    assert cluster.url in found["configuration"]["text"]
    assert re.search(r"may list and watch endpointslices\S* in prod", found["permission"]["text"])
    assert "2 endpoints" in found["slices"]["text"]
    assert re.fullmatch(r"http is \d+ on the endpoints", found["port"]["text"])
    assert found["network"]["text"] == "2 of 2 endpoints accept a connection"
    assert cluster.token not in json.dumps(found)


def test_lines_for_people(cluster):
    """The same as lines, with each cure below what it cures; no colours where nobody sees them."""
    done = CliRunner().invoke(app, ["doctor", "reviews.prod:htp", "--kubeconfig", cluster.kubeconfig])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("✘")]
    assert re.match(r"✘ port +no endpoint of Service reviews in namespace prod has the port 'htp'.*http:\d+", lines[at])
    assert lines[at + 1].strip().startswith("cure: name one that there is")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("target", "what", "said"),
    [
        ("nobody.prod:http", "slices", "there is no Service nobody in namespace prod"),
        ("reviews.elsewhere:http", "slices", "there is no Service reviews in namespace elsewhere"),
        ("reviews.prod:80", "port", "has the port 80"),
    ],
)
def test_a_name_that_is_not_there(cluster, target, what, said):
    """The step where the way ends is the last one that is told."""
    code, found = doctor(cluster, target)
    assert code == 1
    assert found[what]["mark"] == "bad"
    assert said in found[what]["text"]
    assert "endpoints" not in found
    assert "network" not in found


def test_a_permission_that_is_missing(cluster):
    """Which verb, where, and the Role that gives it; nothing is listed where that is forbidden."""
    cluster.api.forbid("list", "prod")
    code, found = doctor(cluster, "reviews.prod:http")
    assert code == 1
    assert found["permission"]["text"].startswith("may not list endpointslices")
    assert 'resources ["endpointslices"], verbs ["list", "watch"]' in found["permission"]["cure"]
    assert "slices" not in found
    cluster.api.allow()
    cluster.api.forbid("watch")
    code, found = doctor(cluster, "reviews.prod:http")
    assert code == 1
    assert found["permission"]["text"].startswith("may not watch")
    assert found["endpoints"]["mark"] == "ok"


def test_credentials_that_are_not_accepted(cluster):
    """401 names where they are from, and shows no secret."""
    kubeconfig = cluster.kubeconfig_for("a-stolen-secret")
    code, found = doctor(cluster, "reviews.prod:http", kubeconfig=kubeconfig)
    assert code == 1
    assert "does not accept the credentials" in found["credentials"]["text"]
    assert found["credentials"]["cure"]
    assert "permission" not in found
    assert "a-stolen-secret" not in json.dumps(found)


def test_who_may_not_ask_is_answered_by_the_list(cluster):
    """Where reviews are taken away (a hardened cluster) the list itself tells."""
    cluster.api.fail(403, verb="create")
    code, found = doctor(cluster, "reviews.prod:http")
    assert code == 0
    assert found["permission"]["mark"] == "note"
    assert found["endpoints"]["mark"] == "ok"


def test_no_api_server(cluster, tmp_path: Path):
    """Unreachable, or no configuration at all: the reason and the cure, and what can be looked at without it."""
    cluster.api.down()
    code, found = doctor(cluster, "reviews.prod:http")
    assert code == 1
    assert found["API server"]["mark"] == "bad"
    assert "is the API server up" in found["API server"]["cure"]
    assert list(found)[-2:] == ["DNS", "mesh"]
    code, found = doctor(cluster, "reviews.prod:http", kubeconfig=str(tmp_path / "nowhere"))
    assert code == 1
    assert "there is no kubeconfig at" in found["configuration"]["text"]


def test_pods_that_are_not_ready(cluster):
    """The reason, as a load balancer would tell it."""
    for backend in cluster.services[0]:
        backend.not_ready()
    code, found = doctor(cluster, "reviews.prod:http")
    assert code == 1
    assert "none of the 2 endpoints" in found["endpoints"]["text"]


def test_pods_that_cannot_be_reached(cluster):
    """One of two is worth knowing; where none can be reached it is most likely the place that one is in."""
    svc = cluster.services[0]
    svc[0].refuse()
    code, found = doctor(cluster, "reviews.prod:http")
    assert (code, found["network"]["mark"]) == (0, "note")
    assert "1 of 2 endpoints accept a connection" in found["network"]["text"]
    assert f"{svc[0].address}: Connection refused" in found["network"]["text"]
    svc[1].refuse()
    code, found = doctor(cluster, "reviews.prod:http")
    assert (code, found["network"]["mark"]) == (1, "bad")
    assert "nothing listens there" in found["network"]["cure"]


def test_the_own_zone(cluster, monkeypatch: pytest.MonkeyPatch):
    """Told, learnt from a slice, or unknown: that matters only where there are hints."""
    cluster.service("hinted.prod", replicas=2, zones=["zone-a", "zone-b"], hints="zone")
    _, found = doctor(cluster, "hinted.prod:http")
    assert "topology hints" in found["zone"]["text"]
    assert "KUBELB_ZONE" in found["zone"]["cure"]
    assert "NODE_NAME" in found["zone"]["cure"]
    monkeypatch.setenv("KUBELB_ZONE", "zone-b")
    _, found = doctor(cluster, "hinted.prod:http")
    assert (found["zone"]["mark"], found["zone"]["text"]) == ("ok", "zone-b")
    assert found["endpoints"]["text"] == "1 to be used, 1 not to be used now"


def test_a_sidecar_beside_us():
    """A mesh is known by what its proxy answers; who merely listens there is none."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/healthz/ready" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        found = look_around([Mesh("Istio", port, "/healthz/ready")])
        assert found.mark is Mark.NOTE
        assert "a sidecar of Istio" in found.text
        assert "STRICT" in found.cure
        assert look_around([Mesh("Linkerd", port, "/ready")]).mark is Mark.GOOD
        server.shutdown()
    assert look_around([Mesh("Istio", port, "/healthz/ready")]).mark is Mark.GOOD


def test_names():
    """By the system's resolver; a name that is nowhere is no obstacle."""
    assert look_up("localhost", "").mark is Mark.GOOD
    found = look_up("reviews.prod.svc.invalid", "ask elsewhere")
    assert found.mark is Mark.NOTE
    assert "does not resolve" in found.text
    assert found.cure == "ask elsewhere"


def test_names_matter_where_slices_cannot_be_read(cluster):
    """Not while they can be, nor for a target that is slices alone; else they are what kubelb falls back on."""
    domain = "--cluster-domain=elsewhere.invalid"
    _, found = doctor(cluster, "reviews.prod:http", domain)
    assert found["DNS"]["cure"] == "not needed while EndpointSlices can be read"
    cluster.api.forbid("list", "prod")
    _, found = doctor(cluster, "reviews.prod:http", domain)
    assert "falls back on DNS" in found["DNS"]["cure"]
    _, found = doctor(cluster, "kube:///reviews.prod:http", domain)
    assert found["DNS"]["cure"].startswith("not needed")


def crossed(found: dict[str, dict]) -> dict:
    (finding,) = [finding for finding in found.values() if finding["mark"] == "bad"]
    return finding


def test_every_cross_has_its_cure(cluster):
    """Once: a reason that ends with it, or is without one, helps nobody who has never seen it."""
    cluster.service("pods.prod:http", replicas=1, headless=True)
    target = cluster.dns.target("pods.prod", "http")

    def ends(name: str) -> dict:
        code, found = doctor(cluster, name)
        assert code == 1
        assert crossed(found)["cure"]
        assert crossed(found)["cure"] not in crossed(found)["text"]
        return crossed(found)

    cure = ends("nobody.prod:http")["cure"]
    assert cure.startswith("check both names (kubectl get services,endpointslices -n ")
    cluster.services[1][0].not_ready()
    assert ends("pods.prod:http")["cure"] == "see its pods' readiness"
    cluster.services[1][0].ready()
    cluster.service("empty.prod", replicas=0)
    assert "kubectl get" in ends("empty.prod:http")["cure"]
    cluster.api.fail(500)
    assert "readyz" in ends("pods.prod:http")["cure"]
    cluster.api.heal()
    assert "kubectl get" in ends(cluster.dns.target("nobody.prod", "http"))["cure"]
    cluster.dns.fail("SERVFAIL")
    assert "serve this name" in ends(target)["cure"]
    cluster.dns.heal()
    cluster.dns.freeze()
    assert "is the nameserver up" in ends(target)["cure"]
    cluster.dns.heal()
    cluster.dns.down()
    assert "NetworkPolicy" in ends(target)["cure"]


def test_a_domain_that_is_none(cluster):
    """A wrong call."""
    done = run("doctor", "--cluster-domain", ".local", "dns:///reviews.prod.svc.cluster.local:80")
    assert done.returncode == 2
    assert "cluster_domain='.local': give" in done.stderr


def test_a_fixed_list(cluster):
    """Nothing to discover: the network is all there is to ask."""
    addresses = ",".join(backend.address for backend in cluster.services[0])
    code, found = doctor(cluster, f"static:///{addresses}")
    assert code == 0
    assert list(found) == ["target", "network", "mesh"]


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch):
    """`>&-`: the exit code is all that is wanted."""
    monkeypatch.setattr(sys, "stdout", None)
    assert run_command("static:///127.0.0.1:1", kubeconfig=None, context=None, cluster_domain="x", as_json=False) == 1


def test_no_target():
    """A wrong call: exit code 2, and the words of `TargetError`."""
    done = run("doctor", "Reviews")
    assert done.returncode == 2
    assert "'Reviews' is no Service name" in done.stderr


def test_without_the_kubernetes_package(cluster):
    """A missing extra is a finding like any other, with its pip command."""
    done = run_without(["kubernetes"], "doctor", "reviews.prod:http", "--kubeconfig", cluster.kubeconfig)
    assert done.returncode == 1
    assert "pip install 'kubelb[kubernetes]'" in done.stdout


def test_a_dns_name(cluster):
    """Its endpoints and the way to them; a ClusterIP is worth a remark; what is not there has its reason."""
    cluster.service("pods.prod:http", replicas=2, headless=True)
    code, found = doctor(cluster, cluster.dns.target("pods.prod", "http"))
    assert code == 0
    assert list(found) == ["target", "DNS", "network", "mesh"]
    assert found["DNS"]["text"].endswith("_http._tcp.pods.prod.svc.cluster.local has 2 endpoints")
    _, found = doctor(cluster, cluster.dns.target("reviews.prod", "http"))
    assert (found["DNS"]["mark"], "make the Service headless" in found["DNS"]["cure"]) == ("note", True)
    code, found = doctor(cluster, cluster.dns.target("nobody.prod", 80))
    assert code == 1
    assert "DNS has no address for nobody.prod" in found["DNS"]["text"]


@pytest.mark.parametrize(
    "no_proxy", ["reviews.prod", "localhost, .svc,reviews.prod.svc.cluster.local", "http://*reviews.prod/"]
)
def test_what_the_environment_says(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    """A program that runs with it would send its requests elsewhere: each variable that does so, and the cure."""
    monkeypatch.setenv("NO_PROXY", no_proxy)
    monkeypatch.setenv("KUBELB_DISABLE", "1")
    monkeypatch.setenv("KUBELB_TARGETS", "reviews.prod=127.0.0.1:8080")
    code, found = doctor(cluster, "reviews.prod:http")
    assert code == 0
    assert found["proxies"]["cure"].startswith("mount by kubelb.adapters.httpx.mounts(lb)")
    assert found["off switch"]["cure"] == "unset KUBELB_DISABLE"
    assert "static:///127.0.0.1:8080" in found["targets"]["text"]
    monkeypatch.setenv("KUBELB_TARGETS", "reviews.prod")
    code, found = doctor(cluster, "reviews.prod:http")
    assert code == 1
    assert "give NAME=ADDRESS:PORT" in found["targets"]["text"]


@pytest.mark.parametrize("place", ["127.0.0.1", "localhost"])
def test_a_mapped_target_needs_no_namespace(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """The kind of fault: the doctor calls bad what a program with this environment is served by.

    The way to the other address is looked at; where a slip keeps the variable from being read, it is named.
    """
    monkeypatch.delenv("KUBELB_NAMESPACE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr("kubelb.discovery.dns.hosts.LOOPBACK", ("127.0.0.1",))
        monkeypatch.setenv("KUBELB_TARGETS", f"reviews={place}:{port}")
        code, found = doctor(cluster, "reviews:http", kubeconfig=str(tmp_path / "none"))
        assert code == 0
        assert list(found) == ["target", "targets", *(["DNS"] if place == "localhost" else []), "network", "mesh"]
        assert f"{place}:{port}" in found["targets"]["text"]
        assert "KUBELB_TARGETS" in found["target"]["text"]
        with kubelb.LoadBalancer(
            "reviews:http", discovery=kubelb.DiscoveryOptions(kubeconfig=str(tmp_path / "none")), ready_timeout=20.0
        ) as lb:
            assert lb.call(lambda attempt: attempt.endpoint.authority) == f"127.0.0.1:{port}"
    monkeypatch.setenv("KUBELB_TARGETS", "reviews")
    code, found = doctor(cluster, "reviews:http", kubeconfig=str(tmp_path / "none"))
    assert code == 1
    assert "give NAME=ADDRESS:PORT" in found["targets"]["text"]
    assert found["target"]["mark"] == "bad"


@pytest.mark.parametrize(
    "no_proxy", ["", "*", ".prod", "prod", ".svc.cluster.local,10.0.0.0/8", "other.prod", "*,reviews.prod"]
)
def test_an_environment_that_says_nothing(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    """Nothing is said of it."""
    monkeypatch.setenv("NO_PROXY", no_proxy)
    _, found = doctor(cluster, "reviews.prod:http")
    assert not found.keys() & {"proxies", "off switch", "targets"}
