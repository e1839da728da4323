"""The command line from outside: names, versions, wrong calls, missing extras."""

import subprocess
import sys

import pytest

import kubelb

BLOCK = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
sys.argv = ["kubelb", *{arguments!r}]
from kubelb.cli import main
main()
"""


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kubelb", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, **options)


def run_without(packages: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK.format(blocked=packages, arguments=arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_version():
    """`--version` prints one line."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"kubelb {kubelb.__version__}\n")


def test_help_names_the_commands():
    """Help lists the commands, and the demo's help its options."""
    done = run("--help")
    assert done.returncode == 0
    for command in ("demo", "doctor", "endpoints"):
        assert command in done.stdout
    done = run("demo", "--help", env={"NO_COLOR": "1", "COLUMNS": "100"})
    assert done.returncode == 0
    for option in ("--seconds", "--rate", "--seed", "--plain", "--json"):
        assert option in done.stdout


def test_unknown_command():
    """A command that does not exist is a wrong call: exit code 2, no traceback."""
    done = run("demmo")
    assert done.returncode == 2
    assert "demmo" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seconds", "4"),
        ("--seconds", "61"),
        ("--seconds", "nan"),
        ("--seconds", "inf"),
        ("--rate", "0"),
        ("--rate", "1e6"),
        ("--rate", "nan"),
        ("--seed", "-1"),
        ("--seed", "x"),
    ],
)
@pytest.mark.slow
def test_options_out_of_range(option: str, value: str):
    """A number that makes no sense is refused by name, before anything starts."""
    done = run("demo", option, value)
    assert done.returncode == 2
    assert option in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("packages", "named"),
    [(["typer"], "typer"), (["rich"], "rich"), (["typer", "rich", "httpx"], "typer"), (["httpx", "httpcore"], "httpx")],
)
def test_a_missing_extra_is_one_line_with_its_cure(packages: list[str], named: str):
    """Without an extra the answer is the pip command, not a traceback."""
    done = run_without(packages, "demo")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert named in line
    assert "pip install 'kubelb[cli,httpx]'" in line


def test_version_needs_no_client():
    """Only the demo needs httpx."""
    assert run_without(["httpx", "httpcore"], "--version").returncode == 0


@pytest.mark.slow
def test_the_demo_needs_only_its_two_extras():
    """No kubernetes package, no certificates, no httpx2: `pip install 'kubelb[cli,httpx]'` is enough."""
    absent = ["kubernetes", "trustme", "cryptography", "httpx2", "httpcore2", "pytest"]
    done = run_without(absent, "demo", "--plain", "--seconds", "5", "--rate", "20")
    assert done.returncode == 0, done.stderr


def test_an_import_error_of_our_own_is_not_mistaken_for_a_missing_extra():
    """Only the packages of the extras are explained away; anything else stays a traceback."""
    from kubelb.cli import missing_package

    assert missing_package(ModuleNotFoundError("x", name="kubelb.nonsense")) is None
    assert missing_package(ImportError("cannot import name 'x' from 'httpx'", name="httpx")) is None
    outer = ImportError("needs httpx")
    outer.__cause__ = ModuleNotFoundError("x", name="httpx._client")
    assert missing_package(outer) == "httpx"
