"""`make matrix`: which interpreters it needs, which it tries where they are, and that it says which are absent."""

import pytest

import matrix


class Machine:
    """One with these interpreters, on which the environments of some cannot be made, and the tests of some fail."""

    def __init__(self, *there: str, unmade: str = "", failing: str = "", extras: int = 0) -> None:
        self.there = [tuple(map(int, version.split("."))) for version in there]
        self.unmade, self.failing, self.extras = unmade, failing, extras
        self.ran: list[str] = []

    def interpreter(self, version):
        return f"python{version[0]}.{version[1]}" if version in self.there else None

    def set_up(self, name, _path, _resolution):
        return name != self.unmade

    def run(self, name, _which):
        self.ran.append(name)
        return name != self.failing


@pytest.fixture
def make_matrix(monkeypatch):
    """Runs `make matrix` there, with CI set or not; returns the exit code."""

    def run(machine, ci):
        for name in ("interpreter", "set_up", "run"):
            monkeypatch.setattr(matrix, name, getattr(machine, name))
        monkeypatch.setattr(matrix.extras, "main", lambda _: machine.extras)
        monkeypatch.setattr(matrix.sys, "argv", ["matrix.py"])
        monkeypatch.setenv("CI", ci)
        monkeypatch.chdir(matrix.ROOT)
        return matrix.main()

    return run


REQUIRED = ["3.11", "3.12", "3.13"]


def test_later_ones_are_tried_where_they_are(make_matrix, capsys):
    """And are said to be absent where they are not, which is no failure in CI either."""
    machine = Machine(*REQUIRED, "3.14")
    assert make_matrix(machine, "true") == 0
    assert machine.ran == ["3.11", "3.12", "3.13", "3.14", "3.11-lowest"]
    assert "no CPython 3.15 here" in capsys.readouterr().out


def test_the_first_three_are_required_in_ci(make_matrix, capsys):
    """Without CI what is there is run."""
    assert make_matrix(Machine("3.11", "3.13", "3.14"), "true") == 1
    assert "no CPython 3.12, 3.15 here" in capsys.readouterr().out
    machine = Machine("3.11", "3.13")
    assert make_matrix(machine, "") == 0
    assert machine.ran == ["3.11", "3.13", "3.11-lowest"]


@pytest.mark.parametrize(
    ("machine", "failed"),
    [
        (Machine(*REQUIRED, "3.15", unmade="3.15"), ""),  # no wheels yet, it may be
        (Machine(*REQUIRED, unmade="3.13"), "3.13"),
        (Machine(*REQUIRED, "3.14", failing="3.14"), "3.14"),
        (Machine(*REQUIRED, failing="3.11-lowest"), "3.11-lowest"),
        (Machine(*REQUIRED, extras=1), "extras"),
    ],
    ids=[
        "no dependencies for a later one",
        "none for a required one",
        "a later one fails",
        "the lowest fail",
        "extras",
    ],
)
def test_what_fails_is_named(make_matrix, capsys, machine, failed):
    """What was tried must pass, also where it need not be there."""
    assert make_matrix(machine, "true") == bool(failed)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (f"failed: {failed}" if failed else "passed on 3.11, 3.12, 3.13, 3.11-lowest")
