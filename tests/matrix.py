"""`make matrix`: the unit tests on each CPython from 3.11 to 3.13, and with the lowest direct dependencies.

An interpreter counts when it runs and says so itself: pyenv's shims, for one, are files that may run nothing. With CI
set, fewer than three are a failure.

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

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ((3, 11), (3, 12), (3, 13))
ASK = "import sys; print(sys.implementation.name, *sys.version_info[:2], sys.executable)"
UNIT = ["-m", "pytest", "-q", "--ignore=tests/integration"]
TOGETHER = ["-n", "3", "--dist", "worksteal"]
ALL = ["-m", "not heavy"]
QUICK = ["-m", "not slow"]


def main() -> int:
    os.chdir(ROOT)
    found = {version: path for version in VERSIONS if (path := interpreter(version))}
    missing = [".".join(map(str, version)) for version in VERSIONS if version not in found]
    if missing:
        print(f"no CPython {', '.join(missing)} here")
        if os.environ.get("CI"):
            print("with CI set, that is a failure")
            return 1
    newest = [(f"{major}.{minor}", path, "highest") for (major, minor), path in found.items()]
    runs = [*newest, (f"{newest[0][0]}-lowest", newest[0][1], "lowest-direct")]
    which = ALL
    if "--rest" in sys.argv:
        own = f"{sys.version_info[0]}.{sys.version_info[1]}"
        runs = [each for each in runs if each[0] != own]
        print(f"without CPython {own} and the newest dependencies, which `make test` runs")
        which = QUICK
    failed = [each[0] for each in runs if not run(*each, which)]
    print(f"failed: {', '.join(failed)}" if failed else f"passed on {', '.join(name for name, *_ in runs)}")
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


def run(name: str, path: str, resolution: str, which: list[str]) -> bool:
    """Make an environment with these dependencies and run the unit tests in it, all of them or `which`."""
    print(f"\n==> CPython {name}: {path}, dependencies {resolution} {' '.join(which)}", flush=True)
    folder = ROOT / ".venvs" / name
    python = folder / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    set_up = [
        [*uv, "venv", "--quiet", "--allow-existing", "--no-python-downloads", "--python", path, str(folder)],
        [
            *[*uv, "pip", "install", "--quiet", "--python", str(python), "--resolution", resolution],
            *["--editable", ".[all]", "--group", "test"],
        ],
    ]
    if any(subprocess.run(step, check=False).returncode for step in set_up):
        return False
    return steady.run([str(python), *UNIT, *which], together=TOGETHER) == 0


if __name__ == "__main__":
    sys.exit(main())
