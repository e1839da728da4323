"""The second look at tests that failed among others: it forgives an accident, tells of it, and nothing else."""

import sys
from pathlib import Path

import pytest
from tests import steady

TESTS = """
from pathlib import Path

def test_unlucky():
    met = Path("met")
    first = not met.exists()
    met.touch()
    assert not first

def test_broken():
    assert Path("mended").exists()

def test_well():
    pass
"""


@pytest.mark.slow
def test_what_failed_is_run_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three times; a test that fails again fails the run, one that does not is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # ten times as quick to start
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path)]
    assert steady.run(command, together=[]) == 1
    assert "UNSTEADY" not in capfd.readouterr().out
    (tmp_path / "met").unlink()
    (tmp_path / "mended").touch()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "test_broken_too.py").write_text("def test_it():\n    assert 0\n", encoding="utf-8")
    assert steady.run(command, together=[], where=("test_some.py",)) == 0
    said = capfd.readouterr().out
    assert said.count("UNSTEADY: test_some.py::test_unlucky") == said.count("UNSTEADY") == 1
    assert steady.run(command, together=[], where=("test_some.py",)) == 0
    assert capfd.readouterr().out.count("passed") == 1


def test_many_failures_are_no_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not run again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # ten times as quick to start
    many = "".join(f"def test_{n}():\n    assert 0\n" for n in range(steady.FEW + 1))
    (tmp_path / "test_many.py").write_text(many, encoding="utf-8")
    runs: list[list[str]] = []
    once = steady.subprocess.run

    def run(command: list[str], **options: bool) -> object:
        runs.append(command)
        return once(command, **options)

    monkeypatch.setattr(steady.subprocess, "run", run)
    assert steady.run([sys.executable, "-m", "pytest", "-q", "--rootdir", "."], together=[]) == 1
    assert len(runs) == 1
