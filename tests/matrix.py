"""`make matrix`: the unit tests on each CPython from 3.11 on, and with the lowest dependencies; each extra alone.

An interpreter counts when it runs and says so itself: pyenv's shims, for one, are files that may run nothing. With CI
set, 3.11 to 3.13 must be there; later ones are tried where they are, and where the tests' dependencies can be had.

`--rest` is for CI, which has an hour: it leaves out what `make test` runs (this interpreter, newest dependencies), and
the slow tests of the others. Those that are heavy (servers in processes of their own, the soak) are run by `make test`
alone: their time goes into what the interpreter has no part in.
"""

import glob
import os
import subprocess
import sys
from pathlib import Path

import steady
from extras import __main__ as extras

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = ((3, 11), (3, 12), (3, 13))
VERSIONS = (*REQUIRED, (3, 14), (3, 15))
ASK = "import sys; print(sys.implementation.name, *sys.version_info[:2], sys.executable)"
UNIT = ["-m", "pytest", "-q", "--ignore=tests/integration"]
TOGETHER = ["-n", "3", "--dist", "worksteal"]
ALL = ["-m", "not heavy"]
QUICK = ["-m", "not slow"]


def main() -> int:
    os.chdir(ROOT)
    found = {version: path for version in VERSIONS if (path := interpreter(version))}
    if missing := [f"{major}.{minor}" for major, minor in VERSIONS if (major, minor) not in found]:
        print(f"no CPython {', '.join(missing)} here")
    if os.environ.get("CI") and not found.keys() >= set(REQUIRED):
        print("with CI set, that is a failure: 3.11 to 3.13 are required")
        return 1
    newest = [(f"{major}.{minor}", path, "highest") for (major, minor), path in found.items()]
    runs = [*newest, (f"{newest[0][0]}-lowest", newest[0][1], "lowest-direct")]
    which = ALL
    if "--rest" in sys.argv:
        own = f"{sys.version_info[0]}.{sys.version_info[1]}"
        runs = [each for each in runs if each[0] != own]
        print(f"without CPython {own} and the newest dependencies, which `make test` runs")
        which = QUICK
    optional = {f"{major}.{minor}" for major, minor in VERSIONS if (major, minor) not in REQUIRED}
    made = {each[0]: set_up(*each) for each in runs}
    tried = [name for name in made if made[name] or name not in optional]
    failed = [name for name in tried if not (made[name] and run(name, which))]
    failed += ["extras"] if extras.main(newest[0][1]) else []
    print(f"failed: {', '.join(failed)}" if failed else f"passed on {', '.join(tried)}")
    return 1 if failed else 0


def interpreter(version: tuple[int, int]) -> str | None:
    """Return the path of a CPython of this version that runs."""
    name = f"python{version[0]}.{version[1]}"
    places = [str(Path(folder) / name) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    places += sorted(glob.glob(str(Path.home() / f".pyenv/versions/{version[0]}.{version[1]}.*/bin/{name}")))
    places.append(sys.executable)
    for place in places:
        try:
            answer = subprocess.run([place, "-c", ASK], capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        kind, major, minor, path = answer.stdout.split(maxsplit=3)
        if kind == "cpython" and (int(major), int(minor)) == version:
            return path.strip()
    return None


def set_up(name: str, path: str, resolution: str) -> bool:
    """Make an environment with these dependencies."""
    print(f"\n==> CPython {name}: {path}, dependencies {resolution}", flush=True)
    folder = ROOT / ".venvs" / name
    uv = [sys.executable, "-m", "uv"]
    steps = [
        [*uv, "venv", "--quiet", "--allow-existing", "--no-python-downloads", "--python", path, str(folder)],
        [
            *[*uv, "pip", "install", "--quiet", "--python", str(python_in(name)), "--resolution", resolution],
            *["--editable", ".[all]", "--group", "test"],
        ],
    ]
    if any(subprocess.run(step, check=False).returncode for step in steps):
        print(f"CPython {name}: the tests' dependencies cannot be installed", flush=True)
        return False
    return True


def python_in(name: str) -> Path:
    """Return the interpreter of an environment."""
    return ROOT / ".venvs" / name / "bin" / "python"


def run(name: str, which: list[str]) -> bool:
    """Run the unit tests in its environment, all of them or `which`."""
    print(f"\n==> CPython {name}: {' '.join(which)}", flush=True)
    return steady.run([str(python_in(name)), *UNIT, *which], together=TOGETHER) == 0


if __name__ == "__main__":
    sys.exit(main())
