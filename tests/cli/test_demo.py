"""`kubelb demo` from outside: what it prints, how it ends, what it leaves behind."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "kubelb", "demo"]
SHORT = ["--seconds", "6", "--rate", "40"]
ACTS = ["warm-up", "calm", "slow pod", "crash", "scale up", "restart", "calm again"]

pytestmark = pytest.mark.slow


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


STARTED: list[subprocess.Popen[bytes]] = []


def start(*arguments: str, **options) -> subprocess.Popen[bytes]:
    STARTED.append(subprocess.Popen([*COMMAND, *arguments], start_new_session=True, **options))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def a_demo_hears_ctrl_c_and_ends():
    """A shell's background jobs ignore SIGINT, and so do their children; a handler is not inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    while STARTED:
        demo = STARTED.pop()
        demo.kill()
        demo.wait()
        for stream in (demo.stdout, demo.stderr):
            if stream is not None:
                stream.close()


def test_plain_text_has_a_line_for_each_act_and_a_summary():
    """Without a terminal: acts in order, then the table, nothing of the environment in the way."""
    done = run(*SHORT, "--seed", "3", HTTP_PROXY="http://127.0.0.1:9", KUBECONFIG="/nowhere", NODE_NAME="elsewhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert "seed 3" in lines[0]
    for act, line in zip(ACTS, lines[1:], strict=False):
        assert re.match(rf" *\d+\.\d s  {act} ", line), line
    for words in ("before faults", "during faults", "afterwards", "plain httpx", "p50", "p99", "errors"):
        assert words in done.stdout
    table = [line for line in lines if re.match(r"(before|during|after|all)", line)]
    assert len(table) == 4
    assert len({len(line) for line in table}) == 1
    assert max(map(len, table)) <= 80


def test_json_is_the_only_line_on_stdout():
    """The object has the documented keys, and its parts add up."""
    done = run(*SHORT, "--seed", "5", "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    from kubelb.cli.demo import summary

    for key in found:
        assert re.search(rf"^ .*\b{key}\b", summary.__doc__, re.MULTILINE), f"{key} is not documented"
    assert found["ok"] is True
    assert (found["seed"], found["rate"]) == (5, 40)
    assert found["seconds"] == pytest.approx(6, abs=3)
    assert [act["name"] for act in found["acts"]] == ACTS
    assert set(found["sides"]) == {"kubelb", "plain httpx"}
    for side in found["sides"].values():
        assert set(side) == {"requests", "errors", "kinds", "phases"}
        assert set(side["phases"]) == {"warm-up", "before", "faults", "after"}
        assert side["requests"] == sum(phase["requests"] for phase in side["phases"].values())
        assert side["errors"] == sum(phase["errors"] for phase in side["phases"].values())
        assert side["errors"] == sum(side["kinds"].values())
        for phase in side["phases"].values():
            percentiles = [phase[name] for name in ("p50", "p95", "p99")]
            if phase["requests"]:
                assert 0 < percentiles[0] <= percentiles[1] <= percentiles[2]
            else:  # a stall of the machine may be as long as an act of this short demo
                assert percentiles == [None, None, None]
    one, other = found["sides"].values()
    assert one["requests"] == other["requests"] == pytest.approx(240, rel=0.5)
    assert "warm-up" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
@pytest.mark.parametrize("after", [1.5, 5.0])
def test_a_signal_ends_it_within_a_second(number: int, code: int, after: float, tmp_path: Path):
    """Ctrl-C and SIGTERM, in the calm and in the rolling restart: no traceback, no process, no file left."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    options = ["--plain", "--seconds", "7", "--rate", "40"]
    demo = start(*options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    first = demo.stdout.readline()
    assert first.startswith(b"kubelb demo")
    time.sleep(after)
    began = time.monotonic()
    os.kill(demo.pid, number)
    _, errors = demo.communicate(timeout=10)
    assert time.monotonic() - began < 2.5
    assert demo.returncode == code
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_it_has_begun():
    """Also while it imports: the exit code is that of Ctrl-C, and there is no traceback."""
    demo = start("--plain", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    os.kill(demo.pid, signal.SIGINT)
    _, errors = demo.communicate(timeout=10)
    assert demo.returncode in (130, -signal.SIGINT)  # the latter: before Python had run a line of ours
    if demo.returncode == 130:
        assert b"Traceback" not in errors


def test_a_closed_pipe_ends_it():
    """`kubelb demo | head -1` ends, without a traceback."""
    demo = start("--plain", *SHORT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    demo.stdout.readline()
    demo.stdout.close()
    assert demo.wait(timeout=20) != 0
    assert b"Traceback" not in demo.stderr.read()
    demo.stderr.close()


@pytest.mark.parametrize(
    ("columns", "lines", "environment"),
    [(100, 30, {}), (80, 24, {}), (100, 30, {"NO_COLOR": "1"}), (100, 30, {"PYTHONIOENCODING": "ascii"})],
)
def test_the_table_on_a_terminal(columns: int, lines: int, environment: dict[str, str]):
    """On a terminal the table renews itself in place, fits, and the summary follows."""
    text, code = on_terminal([*SHORT, "--seed", "3"], columns, lines, environment)
    assert code == 0, text
    assert "\x1b[?25l" in text  # the cursor hides
    assert "\x1b[?25h" in text  # and is back
    frames = text.split("kubelb demo: reviews.prod")
    assert len(frames) > 10
    picture = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r") for line in frames[8].splitlines()]
    assert len(picture) <= lines  # the last of them is what follows the last line break
    assert max(map(len, picture[1:])) <= columns
    assert any(line.startswith("reviews-0") for line in picture)
    for word in ("state", "kubelb sees", "in flight", "latency", "requests", "errors", "p99 now"):
        assert any(word in line for line in picture), word
    assert "…" not in "".join(picture)
    assert "during faults" in text
    if "NO_COLOR" in environment:
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    if "PYTHONIOENCODING" in environment:
        assert text.isascii()


@pytest.mark.parametrize(
    ("columns", "lines", "environment"), [(60, 30, {}), (100, 15, {}), (100, 30, {"TERM": "dumb"})]
)
def test_lines_where_a_table_does_not_fit(columns: int, lines: int, environment: dict[str, str]):
    """A small or dumb terminal gets lines of text."""
    text, code = on_terminal(["--seconds", "5", "--rate", "10"], columns, lines, environment)
    assert code == 0, text
    assert "kubelb sees" not in text
    assert "calm again" in text


def on_terminal(arguments: list[str], columns: int, lines: int, environment: dict[str, str]) -> tuple[str, int]:
    """What a terminal of this size receives, and the exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    unset = ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR", "CI")
    variables = {key: value for key, value in os.environ.items() if key not in unset}
    demo = start(
        *arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**variables, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 65536):
            pieces.append(piece)
    except OSError:  # Linux says so when the last writer has gone
        pass
    os.close(ours)
    return b"".join(pieces).decode(), demo.wait(timeout=20)


def test_nothing_is_left_in_the_temporary_folder():
    """A performance that ends by itself leaves no file."""
    with tempfile.TemporaryDirectory() as folder:
        assert run("--seconds", "5", "--rate", "10", TMPDIR=folder).returncode == 0
        assert list(Path(folder).iterdir()) == []
