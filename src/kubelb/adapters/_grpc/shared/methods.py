"""`grpc.service_config`: what of it concerns the calls of the whole, and not one connection.

| methodConfig                | here |
| --------------------------- | --- |
| waitForReady                | the default of `wait_for_ready=` for these methods |
| timeout                     | the most that a call of these methods may take, with all its tries |
| retryPolicy, hedgingPolicy  | refused: core would try again on the same pod, beneath the tries that are counted here |
| all else                    | core's, on each connection |

Each connection has its own copy of the config, so core could honour the first two for one pod at best: it would wait
for the pod that has just been lost, and know nothing of the time that was spent on others.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from kubelb.adapters._grpc.shared.options import Options
from kubelb.masking import masked

__all__ = ["Configured", "configured"]

NAME = "grpc.service_config"
_seconds = re.compile(r"(\d+(?:\.\d{1,9})?)s").fullmatch


class Method(NamedTuple):
    """What a config says of a method."""

    waits: bool | None = None
    longest: float | None = None
    """In seconds."""


Configured: TypeAlias = Callable[[str], Method]
NOTHING = Method()


def configured(options: Options | None) -> tuple[Options | None, Configured]:
    """Return the options for connections, and what tells of a method by its full name, "/pkg.Service/Method".

    Raises ValueError for a config that cannot be read, or that asks for what is not done.
    """
    if options is None:
        return None, lambda _: NOTHING
    options = tuple(options)
    at = [index for index, (name, _) in enumerate(options) if name in (NAME, NAME.encode())]
    if not at:
        return options, lambda _: NOTHING
    text = options[at[-1]][1]
    try:
        config = json.loads(text)
        given = config.get("methodConfig")
    except (ValueError, TypeError, AttributeError) as error:
        raise _bad(text, f"cannot be read ({error}); give the JSON of an object, as json.dumps writes it") from None
    table: dict[tuple[str, str], Method] = {}
    changed = False
    for method in _objects(text, "methodConfig", given):
        for policy in ("retryPolicy", "hedgingPolicy"):
            if policy in method:
                raise _bad(
                    text,
                    f"{policy} would try again on the same pod, beneath the tries that are counted here; leave it out, "
                    "and give the methods in idempotent=[...] and LoadBalancer(retry=kubelb.Retry(attempts=...))",
                )
        found = Method(_waits(text, method.get("waitForReady")), _timeout(text, method.get("timeout")))
        for name in _objects(text, "name", method.get("name")):
            table.setdefault((_text(text, name, "service"), _text(text, name, "method")), found)
        changed = method.pop("waitForReady", None) is not None or changed
        changed = method.pop("timeout", None) is not None or changed
    if changed:
        options = (*(option for index, option in enumerate(options) if index not in at), (NAME, json.dumps(config)))
    return options, lambda full: _of(table, full)


def _of(table: Mapping[tuple[str, str], Method], full: str) -> Method:
    """The most particular entry counts, as in core: of the method, of its service, of all."""
    service, _, method = full.lstrip("/").rpartition("/")
    for key in ((service, method), (service, ""), ("", "")):
        if key in table:
            return table[key]
    return NOTHING


def _objects(text: Any, what: str, given: Any) -> list[dict[str, Any]]:
    """What is of another type is refused: core would ignore it, or fail every call."""
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise _bad(text, f"{what} {masked(repr(given))} is no list of objects; give {_SHAPES[what]}")
    return given


_SHAPES = {
    "methodConfig": '[{"name": [{}], "timeout": "1.5s"}]',
    "name": '[{"service": "pkg.Service", "method": "Method"}], [{}] for all methods',
}


def _text(text: Any, name: dict[str, Any], part: str) -> str:
    given = name.get(part)
    if given is not None and not isinstance(given, str):
        raise _bad(text, f"{part} {masked(repr(given))} is no name; give a string such as {_EXAMPLES[part]}")
    return given or ""


_EXAMPLES = {"service": "'pkg.Service'", "method": "'Method'"}


def _waits(text: Any, given: Any) -> bool | None:
    if given is not None and not isinstance(given, bool):
        raise _bad(text, f"waitForReady {masked(repr(given))} is neither true nor false; give one of them, unquoted")
    return given


def _timeout(text: Any, given: Any) -> float | None:
    if given is None:
        return None
    match = _seconds(given) if isinstance(given, str) else None
    if match is None:
        raise _bad(text, f"timeout {masked(repr(given))} is none; give seconds such as '1.5s'")
    return float(match[1])


def _bad(text: Any, why: str) -> ValueError:
    shown = masked(repr(text))
    return ValueError(f"options=[('{NAME}', {shown if len(shown) <= 200 else shown[:200] + '...'})]: {why}")
