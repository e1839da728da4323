"""`kubelb endpoints`: what is shown of a target, once and as it changes, and how it ends."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from kubelb import DiscoveryOptions, LoadBalancer
from kubelb.cli.app import app
from kubelb.cli.endpoints.command import first, run_command, watch
from kubelb.cli.endpoints.show import Look, Seen, heading
from kubelb.model import Health
from kubelb.testing import LocalCluster, Service


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def service(cluster: LocalCluster) -> Iterator[Service]:
    service = cluster.service("reviews.prod", replicas=3)
    yield service
    cluster.delete_service(service)


@pytest.fixture
def ask(cluster: LocalCluster) -> Callable[..., int]:
    """Runs the command in this process."""

    def run(target: str, **options: Any) -> int:
        given: dict[str, Any] = {
            "watching": False,
            "as_json": False,
            "kubeconfig": cluster.kubeconfig,
            "context": None,
            "node": None,
            "zone": None,
            "timeout": 5.0,
        }
        return run_command(target, **(given | options))

    return run


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not holds() and time.monotonic() < end:
        time.sleep(0.002)
    return holds()


def test_a_table(ask: Any, service: Service, capsys: Any) -> None:
    """A line for each endpoint, whole where there is no terminal; those that are not used say why."""
    service[1].not_ready()
    assert ask("reviews.prod:http") == 0
    head, names, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("reviews.prod:http: 1 not ready, 2 ready (endpointslices, heard of ")
    assert names.split() == ["ADDRESS", "STATE", "ZONE", "NODE", "POD", "WHY"]
    assert sorted(line.split()[0] for line in lines if line.strip()) == sorted(pod.address for pod in service)
    (parked,) = [line for line in lines if service[1].address in line]
    assert "not ready" in parked
    assert "its readiness probe fails" in parked
    assert "reviews-1" in parked


def test_json(ask: Any, service: Service, capsys: Any) -> None:
    """One object, with the names of the API."""
    assert ask("reviews.prod:http", as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["target"] == "reviews.prod:http"
    assert said["source"] == "endpointslices"
    assert said["synced"] is True
    assert said["problem"] == ""
    assert said["counts"] == {"ready": 3}
    assert {view["address"] for view in said["endpoints"]} == {pod.address for pod in service}
    assert said["endpoints"][0].keys() == {"address", "state", "zone", "node", "pod", "weight", "reasons"}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("target", "words"),
    [("reviews.prod:nope", "the ports there are, as name:number: http:"), ("ghosts.prod:http", "no Service ghosts")],
)
def test_nothing_to_send_to(ask: Any, service: Service, capsys: Any, target: str, words: str, as_json: bool) -> None:
    """The reason, and exit code 1."""
    assert ask(target, as_json=as_json) == 1
    out = capsys.readouterr().out
    assert words in (json.loads(out)["problem"] if as_json else out)


def test_no_api_server(ask: Any, capsys: Any, tmp_path: Any, cluster: LocalCluster) -> None:
    """What discovery is stuck on, once, and its cure."""
    from pathlib import Path

    config = tmp_path / "config"
    config.write_text(Path(cluster.kubeconfig).read_text().replace(cluster.url, "https://127.0.0.1:9"))
    assert ask("kube:///reviews.prod:http", kubeconfig=str(config), timeout=5.0) == 1
    out = capsys.readouterr().out
    assert out.count("connection refused") == 1
    assert "is the API server up" in out


def test_no_target(ask: Any, capsys: Any) -> None:
    """Exit code 2, and what to give."""
    assert ask("reviews.") == 2
    assert "give SVC.NS:PORT" in capsys.readouterr().err


def test_a_fixed_list(ask: Any, capsys: Any) -> None:
    """Any target will do."""
    assert ask("static:///127.0.0.1:80", kubeconfig=None) == 0
    assert "127.0.0.1:80" in capsys.readouterr().out


def test_another_nameserver(cluster: LocalCluster) -> None:
    """Names are asked for where the options say; a nameserver that is none is told."""
    service = cluster.service("named.prod", replicas=2, headless=True)
    name = "dns+srv:///_http._tcp.named.prod.svc.cluster.local"
    done = CliRunner().invoke(app, ["endpoints", name, "--nameserver", cluster.dns.address, "--json"])
    assert done.exit_code == 0, done.output
    assert {each["address"] for each in json.loads(done.stdout)["endpoints"]} == {pod.address for pod in service}
    done = CliRunner().invoke(app, ["endpoints", name, "--nameserver", "somewhere"])
    assert done.exit_code == 2
    assert "give IP or IP:PORT" in done.stderr


def test_watching_lines(cluster: LocalCluster, service: Service, capsys: Any) -> None:
    """Each change is a line, and no line comes without one."""
    lb = LoadBalancer("reviews.prod:http", discovery=DiscoveryOptions(kubeconfig=cluster.kubeconfig), telemetry=False)
    out: list[str] = []
    first_pod = service[0]

    def came(sign: str, words: str = "") -> bool:
        out.extend(capsys.readouterr().out.splitlines())
        return any(line.startswith(f"{sign} {first_pod.address}") and words in line for line in out)

    steps = iter(
        [
            (lambda: came("+", "ready"), first_pod.not_ready),
            (lambda: came("~", "not ready"), first_pod.kill),
            (lambda: came("-"), lambda: None),
        ]
    )
    step = [next(steps)]

    def goes_on() -> bool:
        seen, act = step[0]
        if seen():
            act()
            following = next(steps, None)
            if following is None:
                return False
            step[0] = following
        return True

    with lb:
        watch(lb, first(lb), as_json=False, goes_on=goes_on)
    assert sum(line.startswith("+") for line in out) == 3
    assert [line[0] for line in out if first_pod.address in line] == ["+", "~", "-"]


def test_watching_json(cluster: LocalCluster, service: Service, capsys: Any) -> None:
    """An object a line."""
    lb = LoadBalancer("reviews.prod:http", discovery=DiscoveryOptions(kubeconfig=cluster.kubeconfig), telemetry=False)
    rounds = iter([True, False])

    def goes_on() -> bool:
        going = next(rounds)
        if going:
            service.scale(4)
            assert until(lambda: len(lb.endpoints()) == 4)
        return going

    with lb:
        watch(lb, first(lb), as_json=True, goes_on=goes_on)
    sizes = [len(json.loads(line)["endpoints"]) for line in capsys.readouterr().out.splitlines()]
    assert sizes == [3, 4]


@pytest.mark.slow
def test_watching_on_a_terminal(cluster: LocalCluster, service: Service) -> None:
    """A table that renews itself; the addresses are whole, however narrow it is."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=50, highlight=False)
    lb = LoadBalancer("reviews.prod:http", discovery=DiscoveryOptions(kubeconfig=cluster.kubeconfig), telemetry=False)
    rounds = iter([True, False])
    with lb:
        watch(lb, first(lb), as_json=False, console=console, goes_on=lambda: next(rounds))
    for pod in service:
        assert screen.getvalue().count(pod.address) >= 2


def test_troubles_are_told_once_and_their_end_too() -> None:
    """Discovery's, with the cure."""
    seen = Seen()
    well = Health("endpointslices", synced=True)
    ill = Health("endpointslices", synced=True, error="403", cure="a Role")
    assert seen.lines(Look("a.b", well, (), "")) == []
    assert seen.lines(Look("a.b", ill, (), "")) == ["! discovery: 403", "! cure: a Role"]
    assert seen.lines(Look("a.b", ill, (), "")) == []
    lower = Health("dns-srv", synced=True, fallback="forbidden: 403")
    assert seen.lines(Look("a.b", lower, (), "")) == ["! fallback: forbidden: 403"]
    assert seen.lines(Look("a.b", well, (), "")) == ["! all is well again"]
    assert seen.lines(Look("a.b", well, (), "")) == []


def test_the_heading_tells_of_age() -> None:
    """And that it is beyond what was allowed."""
    health = Health("endpointslices", synced=True, stale=True, age=75.4, counts={"ready": 2})
    assert heading(Look("a.b", health, (), "")) == "a.b: 2 ready (endpointslices, heard of 75 s ago, stale)"


@pytest.mark.slow
def test_ctrl_c(cluster: LocalCluster, service: Service) -> None:
    """Ends a watch, with 130 and without a word."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asked = "endpoints", "reviews.prod:http", "-w", "--nameserver", cluster.dns.address
        command = [sys.executable, "-m", "kubelb", *asked]
        environment = {**os.environ, "KUBECONFIG": cluster.kubeconfig}
        watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)
    assert watching.stdout is not None
    came = 0
    while came < 3:  # a machine without a free core may make it tell of a slow server in between
        line = watching.stdout.readline()
        assert line, watching.communicate()
        came += line.startswith("+ 127.")
    watching.send_signal(signal.SIGINT)
    rest, error = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert all(line[0] in "~!" for line in rest.splitlines())
    assert error == ""
