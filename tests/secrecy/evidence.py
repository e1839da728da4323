"""Everything that comes out of kubelb, gathered in one text, and what must not be in it.

A test plants a secret and control characters in all that kubelb is given or told, and runs something. Whatever a user,
a log, a collector or a terminal would then be shown is added here: `clean()` says that nothing planted is in it.
"""

import io
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.spelled import spelled

import kubelb
from kubelb.core.events import Event
from kubelb.service import service_of

SECRET = "s3cretT0ken-abcdefgh1234567890"
PASSWORD = "hunter2-pw"
FORGED = "\r\nWARNING kubelb: all is well\x1b[31m\x1b]0;title\x07\x9b2J\u202e\u2028\x00"
"""A line of a log that is none, a colour, a terminal's title, a screen that is cleared, text from right to left."""

CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
REQUEST = {"request", "_request"}
"""The client's own, with what the caller put into it."""
SOURCE = str(Path(kubelb.__file__).parent)


class Evidence:
    """What came out. `lines` false: a text of one line, where a line feed is a forgery too."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.events: list[Event] = []

    def add(self, where: str, text: object) -> None:
        self.found.append((where, str(text)))

    def error(self, error: BaseException) -> None:
        """All that the exception, and those it came of, would show; locals of kubelb's own frames too."""
        seen: set[int] = set()
        todo: list[BaseException | None] = [error]
        while todo:
            each = todo.pop()
            if each is None or id(each) in seen:
                continue
            seen.add(id(each))
            name = type(each).__name__
            self.add(f"str({name})", str(each))
            self.add(f"repr({name})", repr(each))
            told = {
                key: value for key, value in vars(each).items() if key not in {"request", "_request"}
            }  # the client's
            self.add(f"attributes of {name}", told)
            for note in getattr(each, "__notes__", ()):
                self.add(f"a note of {name}", note)
            todo += [each.__cause__, each.__context__]
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        for frame in shown.stack:
            if frame.filename.startswith(SOURCE) and "/adapters/" not in frame.filename:
                self.add(f"locals of {frame.name}", frame.locals)

    def balancer(self, lb: kubelb.LoadBalancer) -> None:
        """What a load balancer shows of itself, and the reprs of what it holds, two levels deep."""
        health = lb.health()
        for field in ("error", "cure", "fallback", "source"):
            self.add(f"health.{field}", getattr(health, field))
        for view in lb.endpoints():
            self.add("an endpoint", " ".join((view.address, view.zone, view.pod, view.node, *view.reasons)))
        self.add("repr(lb)", repr(lb))
        held: list[Any] = [service_of(lb)]
        for _ in range(2):
            held = [value for each in held for value in getattr(each, "__dict__", {}).values()]
            for value in held:
                self.add(f"repr of a {type(value).__name__}", repr(value))
        feed = service_of(lb).opening.now
        source = feed.source if feed is not None else None
        for each in (source, getattr(source, "_key", None), getattr(source, "_stream", None)):
            self.add(f"repr of a {type(each).__name__}", repr(each))

    def event(self, event: Event) -> None:
        self.events.append(event)
        self.add("the line of an event", event)
        for name, value in event.as_dict().items():
            for text in value if isinstance(value, tuple) else (value,):
                self.add(f"{type(event).__name__}.{name}", text)

    def clean(self, *, lines: bool = False) -> None:
        """Nothing that was planted came out, and something did."""
        assert self.found
        for where, text in self.found:
            for secret in (SECRET, SECRET[:20], PASSWORD):
                assert secret not in text, f"{where}: ...{text[max(0, text.find(secret) - 100) :][:200]!r}"
            controls = CONTROLS.findall(text)
            assert not controls, f"{where}: {controls} in {text[:300]!r}"
            assert lines or "\n" not in text, f"{where}: {text[:300]!r}"


@contextmanager
def logged(evidence: Evidence) -> Iterator[None]:
    """Add every line of a log that is written meanwhile, whatever logger it is of; urllib3's own debug lines aside."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s|%(message)s"))
    handler.terminator = "\n\0\n"
    root, logger = logging.getLogger(), logging.getLogger("kubelb")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        logger.setLevel(level)
        for line in stream.getvalue().split("\n\0\n"):
            if line and not line.startswith("urllib3"):
                evidence.add("a log line", line)


class Watched(kubelb.LoadBalancer):
    """A load balancer whose events are evidence."""

    def __init__(self, evidence: Evidence, target: str, **options: Any) -> None:
        self.evidence = evidence
        super().__init__(target, **spelled(options))
        self.on_event(evidence.event)
