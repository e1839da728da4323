"""`make test` and `make envtest`: what they do, what they leave out, and that they say so."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import everything
from tests.envtest import build

CHECK = [*everything.BUILD, "--check"]


class Machine:
    """A machine on which `make test` runs: what is there, and how each command ends."""

    def __init__(
        self, *, built: bool = True, go: bool = True, unit: int = 0, building: int = 0, inside: int = 0
    ) -> None:
        self.codes = {tuple(CHECK): 0 if built else 1, tuple(everything.UNIT): unit}
        self.codes |= {tuple(everything.BUILD): building, tuple(everything.INTEGRATION): inside}
        self.go = go
        self.ran: list[str] = []

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, self.codes[tuple(command)])

    def tests(self, command: list[str], *, together: list[str], where: tuple[str, ...] = ()) -> int:
        self.ran.append("unit" if command == everything.UNIT else "integration")
        assert where == (() if command == everything.UNIT else ("tests/integration",))
        assert together == (everything.TOGETHER if command == everything.UNIT else [])
        return self.codes[tuple(command)]

    def start(self, command: list[str], *, stdout: Any, **_: Any) -> Any:
        self.ran.append("build")
        stdout.write("envtest: building etcd\n")
        stdout.flush()
        return type("Build", (), {"poll": lambda _: self.codes[tuple(command)]})()


@pytest.fixture
def make_test(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `make test` on such a machine, with CI set or not; returns the exit code."""

    def run(machine: Machine, ci: str) -> int:
        monkeypatch.setattr(everything.subprocess, "run", machine.run)
        monkeypatch.setattr(everything.steady, "run", machine.tests)
        monkeypatch.setattr(everything.subprocess, "Popen", machine.start)
        monkeypatch.setattr(everything.shutil, "which", lambda _: "/usr/bin/go" if machine.go else None)
        monkeypatch.setenv("CI", ci)
        monkeypatch.chdir(everything.ROOT)
        return everything.main()

    return run


@pytest.mark.parametrize(
    ("machine", "ran", "said"),
    [
        (Machine(built=False, go=False), ["unit"], "no `go` to build it (install Go 1.26 or later)"),
        (Machine(built=False, building=1), ["build", "unit"], "building the control plane failed with exit code 1"),
        (Machine(inside=everything.NO_NAMESPACE), ["unit", "integration"], "no network namespace"),
    ],
    ids=["no go", "the build fails", "no namespace"],
)
def test_what_is_skipped_is_said_and_fails_in_ci(make_test: Any, capsys: Any, machine: Machine, ran: Any, said: str):
    """One line that names the cure; with CI set the exit code is 1, without it 0."""
    assert make_test(machine, "") == 0
    assert machine.ran == ran
    assert f"SKIPPED: integration tests: {said}" in capsys.readouterr().out.replace("no control plane, and ", "")
    assert make_test(machine, "true") == 1
    assert "a skip is a failure" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("machine", "code", "ran"),
    [
        (Machine(), 0, ["unit", "integration"]),
        (Machine(built=False), 0, ["build", "unit", "integration"]),
        (Machine(unit=1), 1, ["unit", "integration"]),
        (Machine(inside=2), 2, ["unit", "integration"]),
    ],
    ids=["all is there", "it is built beside the unit tests", "a unit test fails", "an integration test fails"],
)
def test_what_is_not_skipped_decides(make_test: Any, capsys: Any, machine: Machine, code: int, ran: list[str]):
    """Both kinds of tests run whatever the other's end, and any failure is one; a build is told and shown."""
    assert make_test(machine, "true") == code
    assert machine.ran == ran
    out = capsys.readouterr().out
    assert "SKIPPED" not in out
    assert ("about 10 minutes, once" in out) == ("envtest: building etcd" in out) == ("build" in ran)


def test_kubebuilder_assets_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """For each binary that is found there and can be run; the others are the cache's, or missing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    etcd, apiserver, manager, coredns = build.BINARIES
    cached = build.cache_dir()
    cached.mkdir(parents=True)
    for folder, names, mode in (
        (tmp_path, (etcd.name,), 0o755),
        (tmp_path, (apiserver.name,), 0o644),
        (cached, (etcd.name, apiserver.name, manager.name), 0o755),
    ):
        for name in names:
            (folder / name).touch(mode)
    assert build.locate(etcd) == tmp_path / etcd.name
    assert build.locate(apiserver) == cached / apiserver.name
    assert build.locate(manager) == cached / manager.name
    assert build.locate(coredns) is None
    monkeypatch.delenv("KUBEBUILDER_ASSETS")
    assert build.locate(etcd) == cached / etcd.name


def test_what_is_missing_is_told(tmp_path: Path):
    """`--check` names each binary; without `go` a build says what to install, in one line."""
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "tests/envtest/build.py", *arguments]
        return subprocess.run(
            command, env=environment, cwd=everything.ROOT, capture_output=True, text=True, timeout=30, check=False
        )

    done = run("--check")
    assert done.returncode == 1
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [[b.name, "missing"] for b in build.BINARIES]
    done = run()
    assert done.returncode == 1
    assert done.stderr.startswith("envtest: there is no `go` on the PATH; install Go 1.26 or later, or set KUBEB")
    assert done.stderr.count("\n") == 1
