"""Each extra alone, with the lowest dependencies that pyproject.toml allows: `python -m tests.extras [PYTHON]`.

`pip install kubelb[httpx]` brings httpx and what kubelb itself needs, nothing of the other extras. So each gets an
environment with that alone, in which the program `use_EXTRA.py` does on loopback what the extra is for; a bound that is
not true, or a package that only another extra brings, breaks it. `base` is kubelb without any. `make matrix` runs this.

`make package` does the same with the wheel, as a user installs it on that day: with the newest dependencies.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GUARD = str(ROOT / "tests" / "guard")
BASE = "base"
TOGETHER = ["all"]
"""Extras that are others together: the tests of the matrix run with the lowest of those."""


def main(python: str = sys.executable, wheel: Path | None = None) -> int:
    print(f"\n==> each extra alone, with the {'newest' if wheel else 'lowest'} dependencies: {python}", flush=True)
    with ThreadPoolExecutor(2) as pool:
        runs = dict(zip(extras(), pool.map(lambda extra: run(extra, python, wheel), extras()), strict=True))
    for extra, (code, said) in runs.items():
        print(f"{extra:12} {said if code else said.splitlines()[-1]}", flush=True)
    failed = [extra for extra, (code, _) in runs.items() if code]
    print(f"failed: {', '.join(failed)}" if failed else f"{len(runs)} extras, each alone: all work")
    return 1 if failed else 0


def extras() -> list[str]:
    """Return their names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [BASE, *(name for name in project["optional-dependencies"] if name not in TOGETHER)]


def run(extra: str, path: str, wheel: Path | None = None) -> tuple[int, str]:
    """Make the environment and use it; returns the exit code and what was said."""
    folder = ROOT / ".venvs" / f"{'wheel' if wheel else 'extra'}-{extra}"
    python = folder / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    options = "" if extra == BASE else f"[{extra}]"
    wanted = (
        [f"{wheel.resolve()}{options}"] if wheel else ["--resolution", "lowest-direct", "--editable", f".{options}"]
    )
    steps = [
        [*uv, "venv", "--quiet", "--no-python-downloads", "--python", path, str(folder)],
        [*uv, "pip", "install", "--quiet", "--python", str(python), *wanted],
        [str(python), "-W", "error", str(HERE / f"use_{extra}.py")],
    ]
    said = ""
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run installed is not what this extra brings
    with tempfile.NamedTemporaryFile("r") as dialled:
        environment = {**os.environ, "PYTHONPATH": GUARD, "KUBELB_TESTS_OFF_LOOPBACK": dialled.name}
        for step in steps:
            env = environment if step is steps[-1] else None
            done = subprocess.run(step, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
            said = done.stdout
            if done.returncode:
                return done.returncode, f"{' '.join(step)}\n{said}{done.stderr}"
        if strangers := dialled.read():
            return 1, f"{' '.join(steps[-1])} dialled beyond loopback: {strangers}"
    return 0, said


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
