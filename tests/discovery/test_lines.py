"""Bytes to lines, cut anywhere."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelb.discovery.kube import lines as module
from kubelb.discovery.kube.lines import Lines, LineTooLongError

TEXT = b"".join(
    json.dumps({"zone": name}, ensure_ascii=False).encode() + b"\n" for name in ("z\u00fcrich", "\U0001f600", "a")
)


@pytest.mark.parametrize("cut", range(len(TEXT) + 1))
def test_every_cut(cut):
    """Two pieces cut at any byte, inside a character too, give the same three lines."""
    lines = Lines()
    assert [*lines.feed(TEXT[:cut]), *lines.feed(TEXT[cut:])] == TEXT.split(b"\n")[:-1]


@given(st.lists(st.integers(0, len(TEXT))))
def test_any_cuts(cuts):
    """So does any number of pieces, empty ones included; what has no end yet is kept back."""
    lines, got, edges = Lines(), [], [0, *sorted(cuts), len(TEXT)]
    for start, end in itertools.pairwise(edges):
        got += lines.feed(TEXT[start:end])
    assert got == TEXT.split(b"\n")[:-1]
    assert lines.feed(b"half") == []
    assert lines.feed(b"\r\n\n \n") == [b"half\r"]


def test_no_end(monkeypatch):
    """A line without an end is not collected for ever."""
    monkeypatch.setattr(module, "LONGEST", 100)
    lines = Lines()
    lines.feed(b"x" * 99)
    with pytest.raises(LineTooLongError):
        lines.feed(b"xx")
