"""Everything that this machine can do: `make test`.

The unit tests at once; beside them, the first time and where Go is there, the build of the control plane; then the
integration tests. What is left out is said plainly at the end, with the cure; with CI set it is a failure.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import steady

ROOT = Path(__file__).resolve().parent.parent
BUILD = [sys.executable, "tests/envtest/build.py"]
UNIT = [sys.executable, "-m", "pytest", "--ignore=tests/integration"]
TOGETHER = ["-n", "3", "--dist", "worksteal"]
INSIDE = [sys.executable, "-m", "tests.integration.netns", "--"]
INTEGRATION = [*INSIDE, sys.executable, "-m", "pytest"]
NO_NAMESPACE = 77
"""Exit code of `tests.integration.netns` where user namespaces are forbidden."""


def main() -> int:
    os.chdir(ROOT)
    skipped: list[str] = []
    with tempfile.TemporaryFile("w+") as log:
        build = start_build(log, skipped)
        unit = steady.run(UNIT, together=TOGETHER)
        built = finish_build(build, log, skipped)
    integration = run_integration(skipped) if built else 0
    for reason in skipped:
        print(f"SKIPPED: {reason}")
    if unit or integration:
        return unit or integration
    if skipped and os.environ.get("CI"):
        print("with CI set, a skip is a failure")
        return 1
    return 0


def start_build(log, skipped: list[str]) -> subprocess.Popen | None:
    """Begin building the control plane if it is missing and can be built."""
    if subprocess.run([*BUILD, "--check"], check=False, stdout=subprocess.DEVNULL).returncode == 0:
        return None
    if shutil.which("go") is None:
        skipped.append("integration tests: no control plane, and no `go` to build it (install Go 1.26 or later)")
        return None
    print("building the control plane beside the unit tests: about 10 minutes, once", flush=True)
    return subprocess.Popen(BUILD, stdout=log, stderr=subprocess.STDOUT)


def finish_build(build: subprocess.Popen | None, log, skipped: list[str]) -> bool:
    """Wait for the build, showing what it says; returns whether there is a control plane now."""
    if build is None:
        return not skipped
    shown = 0
    while True:
        code = build.poll()
        log.seek(shown)
        print(log.read(), end="", flush=True)
        shown = log.tell()
        if code is not None:
            break
        time.sleep(2)
    if code:
        skipped.append(f"integration tests: building the control plane failed with exit code {code} (see above)")
    return code == 0


def run_integration(skipped: list[str]) -> int:
    code = steady.run(INTEGRATION, together=[], where=("tests/integration",))
    if code == NO_NAMESPACE:
        skipped.append("integration tests: no network namespace (see above)")
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
