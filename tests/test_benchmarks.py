"""`make bench` and `make smoke`: they run to their end, and say at the end which gates fell short.

The kind of fault: one gate that is missed hides every figure after it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MET = "from _gates import Gates; gates = Gates(); gates.at_most('calls', 1.5, 2); print('a figure'); {more}; {end}"
END = "raise SystemExit(gates.close())"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Benchmarks that take no time, and what those share."""
    for name in ("__main__.py", "_gates.py"):
        shutil.copy(BENCHMARKS / name, tmp_path)
    files = {
        "broken": MET.format(more="1 / 0", end=END),
        "forgetful": "print('no gate at all')",
        "good": MET.format(more="gates.at_least('rate', 1.0, 1.0)", end=END),
        "late": "import time; time.sleep(600)",
        "missed": MET.format(more="gates.at_most('errors', 3, 0); gates.at_least('speed', 0.5, 1.5)", end=END),
        "lucky": "from pathlib import Path; met = Path('lucky'); again = met.exists(); met.touch(); "
        + MET.format(more="gates.at_most('errors', 0 if again else 1, 0)", end=END),
        "short": "import sys; assert sys.argv[1:] == ['--smoke']; " + MET.format(more="pass", end=END),
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text("\n".join(text.split("; ")), encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str, patience: float = 60.0) -> tuple[int, list[list[str]], str]:
    """Run `python benchmarks`; returns the exit code, the rows of its table of gates, and all that it says."""
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); import __main__, runpy; "
    program += "run = runpy.run_path({!r})['main']; from pathlib import Path; sys.exit(run(Path({!r}), {!r}, {!r}))"
    code = program.format(str(folder / "__main__.py"), str(folder), list(arguments), patience)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=55, check=False)
    rows = [line.split() for line in done.stdout.splitlines() if line.endswith(("  met", "  MISSED"))]
    return done.returncode, rows, done.stdout + done.stderr


def test_all_gates_stand_at_the_end(folder: Path):
    """Each benchmark runs whatever became of the ones before; one that breaks off or holds nothing is a miss."""
    code, rows, said = run(folder, "broken", "forgetful", "good", "missed", "short")
    assert code == 1
    assert [(row[0], row[-4:-2], row[-1]) for row in rows if row[-1] == "met"] == [
        ("good", ["calls", "1.5"], "met"),
        ("good", ["rate", "1"], "met"),
        ("missed", ["calls", "1.5"], "met"),
    ]
    missed = {(row[0], *row[1:-1]) for row in rows if row[-1] == "MISSED"}
    end = ("came", "to", "its", "end:", "exit", "code")
    assert missed == {
        ("broken", *end, "1", "<=0"),
        ("forgetful", *end, "1", "<=0"),
        ("missed", "errors", "3", "<=0"),
        ("missed", "speed", "0.5", ">=1.5"),
        ("short", *end, "1", "<=0"),
    }
    assert "gates: 8, missed: 5" in said
    assert said.count("a figure") == 3
    assert "MISSED errors: 3, at most 0" in said


def test_one_that_hangs_is_ended(folder: Path):
    """And told as a miss."""
    code, rows, said = run(folder, "late", patience=0.5)
    assert (code, rows) == (1, [["late", "came", "to", "its", "end:", "exit", "code", "124", "<=0", "MISSED"]])
    assert "ended after 0.5 s" in said


def test_some_in_short(folder: Path):
    """By name, with what makes them short; the exit code is 0 where all is met, and each one's time is told."""
    code, rows, said = run(folder, "--smoke", "short")
    assert (code, [row[0] for row in rows]) == (0, ["short"])
    assert "gates: 1, missed: 0" in said
    assert {line.split()[0] for line in said.splitlines() if len(line.split()) == 3} >= {"short", "all"}


def test_a_gate_that_is_missed_in_short_is_measured_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The last run counts; one that misses every time is a miss. A whole run is not repeated."""
    monkeypatch.chdir(tmp_path)
    code, rows, said = run(folder, "lucky")
    assert (code, "again" in said) == (1, False)
    (tmp_path / "lucky").unlink()
    code, rows, said = run(folder, "--smoke", "lucky")
    assert (code, said.count("== lucky, again")) == (0, 1)
    assert [row[-1] for row in rows] == ["met", "met"]
    code, _, said = run(folder, "--smoke", "missed")
    assert (code, said.count("== missed, again")) == (1, 2)


def test_an_unknown_name_is_told(folder: Path):
    """With those that there are."""
    code, _, said = run(folder, "shrot")
    assert code == 2
    assert "there is no benchmark shrot; there are broken, forgetful, good, late, lucky, missed, short" in said


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_each_benchmark_holds_its_gates_in_the_shared_way(file: Path):
    """Or the runner would not hear of them."""
    text = file.read_text(encoding="utf-8")
    assert "gates.close()" in text
    assert "MISSED" not in text
    assert '"--smoke"' in text
