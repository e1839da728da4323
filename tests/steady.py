"""Runs pytest, and looks again at the few that failed: some tests of many processes need more of a machine than it has.

Thousands of tests run three at a time, beside the build of a control plane. Where at most `FEW` of them fail, each is
run `TIMES` times more, alone: one that fails again fails the run. The others are named at its end as unsteady, for a
race that shows once in ten thousand is a fault all the same, of the test or of what it tests.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FEW = 5
"""More than that is no accident."""
TIMES = 3


def run(command: list[str], *, together: list[str], where: tuple[str, ...] = ()) -> int:
    """Run `command`, a pytest, with the options `together` that spread it, on the tests of `where`, or on all.

    Return its exit code, 0 if all is well.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = ["-o", f"cache_dir={folder}"]
        code = subprocess.run([*command, *cache, *together, *where], check=False).returncode
        failed = last_failed(Path(folder))
        if code != 1 or not failed or len(failed) > FEW:
            return code
        for turn in range(TIMES):
            print(f"\nagain, alone, {turn + 1} of {TIMES}: {' '.join(failed)}", flush=True)
            if (code := subprocess.run([*command, *cache, *failed], check=False).returncode) != 0:
                return code
    for test in failed:
        print(f"UNSTEADY: {test} failed among others, and passed {TIMES} times alone", flush=True)
    return 0


def last_failed(folder: Path) -> list[str]:
    """Return the names of the tests that failed, as pytest's cache has them."""
    try:
        return sorted(json.loads((folder / "v/cache/lastfailed").read_text(encoding="utf-8")))
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(run([sys.executable, "-m", "pytest", *sys.argv[1:]], together=["-n", "3", "--dist", "worksteal"]))
