"""kubelb that is not installed but carried along: in a zipapp, in a folder, in a folder under another name.

The kind of fault: the code asks the environment about itself. `importlib.metadata.version("kubelb")` raises in a
program that has no metadata of a distribution, and a name in a string finds no part of a package that has another name.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipapp
from importlib.metadata import version
from pathlib import Path

import pytest

import kubelb

SOURCE = Path(kubelb.__file__).parent
PROGRAM = Path(__file__).parent / "away_program.py"
IMPORT = re.compile(r"^(\s*)from kubelb\b", re.MULTILINE)
PLAIN_IMPORT = re.compile(r"^(\s*)import kubelb$", re.MULTILINE)
WARNINGS = ["-W", "error", "-W", "ignore::DeprecationWarning"]  # since 3.12 a fork beside threads is one
VENDORED = "app._vendor"


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that is installed here, but kubelb and what tells of it."""
    folder = tmp_path_factory.mktemp("dependencies")
    for place in dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")):
        for entry in Path(place).iterdir():
            if "kubelb" not in entry.name and entry.suffix != ".pth":
                (folder / entry.name).symlink_to(entry)
    return folder


def copied(folder: Path) -> Path:
    """Copy kubelb into the folder; returns the folder."""
    shutil.copytree(SOURCE, folder / "kubelb", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def renamed(text: str) -> str:
    """Rewrite imports, as vendoring tools do: nothing else."""
    return PLAIN_IMPORT.sub(rf"\1from {VENDORED} import kubelb", IMPORT.sub(rf"\1from {VENDORED}.kubelb", text))


def in_zipapp(folder: Path) -> tuple[Path, list[str]]:
    """A program and kubelb in one file, which Python runs as it is."""
    shutil.copy(PROGRAM, copied(folder / "in") / "__main__.py")
    zipapp.create_archive(folder / "in", folder / "app.pyz")
    return folder / "app.pyz", []


def in_folder(folder: Path) -> tuple[Path, list[str]]:
    """A copy in the program's own folder for such things, which it puts first on the path."""
    return PROGRAM, [str(copied(folder / "app" / "_vendor"))]


def under_another_name(folder: Path) -> tuple[Path, list[str]]:
    """A copy that is part of the program's own package."""
    copied(folder / "app" / "_vendor")
    for file in (folder / "app").rglob("*.py"):
        file.write_text(renamed(file.read_text(encoding="utf-8")), encoding="utf-8")
    program = folder / "program.py"
    program.write_text(renamed(PROGRAM.read_text(encoding="utf-8")), encoding="utf-8")
    return program, [str(folder)]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("carried", [in_zipapp, in_folder, under_another_name])
def test_it_works_where_it_is_not_installed(carried, dependencies: Path, tmp_path: Path):
    """Telemetry, adapters, the CLI and forks: with the version of the code, from no copy but its own."""
    program, places = carried(tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-S", *WARNINGS, str(program), *places, str(dependencies)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["file"].startswith(str(tmp_path))
    assert seen["listed"] is None
    assert seen["version"] == kubelb.__version__
    assert seen["answers"] == ["ok", "ok"]
    assert seen["scopes"] == [["kubelb", kubelb.__version__]]
    assert seen["child"] == 2
    assert seen["said"] == [0, f"kubelb {kubelb.__version__}"]
    assert bool(seen["strangers"]) == (carried is not under_another_name)


def test_the_version_is_told_once():
    """The code's own is that of the distribution, which is built by it: what is released says what it is."""
    text = (SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    config = tomllib.loads(text)
    assert config["project"]["dynamic"] == ["version"]
    assert config["tool"]["hatch"]["version"] == {"path": "src/kubelb/itself.py"}
    assert version("kubelb") == kubelb.__version__
    telling = [path for path in SOURCE.rglob("*.py") if f'"{kubelb.__version__}"' in path.read_text(encoding="utf-8")]
    assert telling == [SOURCE / "itself.py"]
    assert f'"{kubelb.__version__}"' not in text
