"""Every file in examples/ runs as it stands, says something, and warns of nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path) -> None:
    """A program of the docs ends well within ten seconds; pytest examples pass."""
    runner = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "def test_" in example.read_text() else []
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", *runner, str(example)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.strip()
