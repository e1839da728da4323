"""Label and field selectors as the API server reads them, each parsed into one function over a mapping."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Selector = Callable[[Mapping[str, str]], bool]

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s*\(([^()]*)\)$")
_EQUAL = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")
_COMMA = re.compile(r",(?![^(]*\))")  # one that stands outside of parentheses

FIELDS = ("metadata.name", "metadata.namespace")


class SelectorError(ValueError):
    """A selector that the API server would not understand; the text is its message."""


def everything(_: Mapping[str, str]) -> bool:
    """The empty selector."""
    return True


def parse_labels(text: str) -> Selector:
    """`a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, joined by commas. Raises `SelectorError`.

    As in Kubernetes, `!=` and `notin` also match where the label is absent.
    """
    if not text.strip():
        return everything
    tests = [_requirement(part.strip()) for part in _COMMA.split(text)]
    if len(tests) == 1:
        return tests[0]
    return lambda labels: all(test(labels) for test in tests)


def _requirement(part: str) -> Selector:
    if match := _SET.match(part):
        key, operator, values = match[1], match[2], frozenset(value.strip() for value in match[3].split(","))
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.match(part):
        key, operator, value = match[1], match[2], match[3]
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.match(part):
        absent, key = bool(match[1]), match[2]
        return lambda labels: (key in labels) is not absent
    raise SelectorError(f"unable to parse requirement: found {part!r}, expected: a label key, an operator and values")


def parse_fields(text: str) -> Selector:
    """`metadata.name=x`, `metadata.namespace!=y`, joined by commas: all that endpoint slices can be selected by."""
    if not text.strip():
        return everything
    tests: list[Selector] = []
    for part in text.split(","):
        match = re.match(r"^([^=!]+?)(==|=|!=)(.*)$", part.strip())
        if match is None:
            raise SelectorError(f"invalid selector: {text!r}; can't understand {part!r}")
        if match[1] not in FIELDS:
            raise SelectorError(f"field label not supported: {match[1]}")
        tests.append(_field(match[1], match[3], equal=match[2] != "!="))
    return lambda fields: all(test(fields) for test in tests)


def _field(key: str, value: str, *, equal: bool) -> Selector:
    return lambda fields: (fields.get(key) == value) is equal
