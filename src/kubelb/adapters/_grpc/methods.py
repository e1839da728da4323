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

from kubelb.adapters._grpc.options import Options
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
        methods = [method for method in config.get("methodConfig") or () if isinstance(method, dict)]
    except (ValueError, TypeError, AttributeError) as error:
        raise _bad(text, f"cannot be read ({error}); give the JSON of an object, as json.dumps writes it") from None
    table: dict[tuple[str, str], Method] = {}
    changed = False
    for method in methods:
        for policy in ("retryPolicy", "hedgingPolicy"):
            if policy in method:
                raise _bad(
                    text,
                    f"{policy} would try again on the same pod, beneath the tries that are counted here; leave it out, "
                    "and give the methods in idempotent=[...] and LoadBalancer(retry=kubelb.Retry(attempts=...))",
                )
        found = Method(method.get("waitForReady"), _timeout(text, method.get("timeout")))
        for name in method.get("name") or ():
            table.setdefault((name.get("service") or "", name.get("method") or ""), found)
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
