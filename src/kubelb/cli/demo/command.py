"""The command: a performance, its summary, its exit code."""

import random
import signal
import sys
from types import FrameType

import msgspec
from rich.console import Console

from kubelb.cli.demo.script import Script, the_script
from kubelb.cli.demo.settings import Settings
from kubelb.cli.demo.show import Failed, show
from kubelb.cli.demo.summary import as_dict, notes, sentences, table

__all__ = ["run_command"]

SEEDS = 10_000
"""Short enough to be typed again."""


def run_command(
    *, seconds: float, rate: float, seed: int | None, plain: bool, as_json: bool, script: Script = the_script
) -> int:
    """Perform and return the exit code: 0, 1 after an error on kubelb's side, 130 after Ctrl-C."""
    settings = Settings(seconds, rate, random.randrange(SEEDS) if seed is None else seed)
    console = Console(stderr=as_json, highlight=False)
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        summary = show(settings, console, plain=plain, script=script)
    except KeyboardInterrupt:
        Console(stderr=True, highlight=False).print("kubelb demo: ended early, nothing was measured to the end")
        return 130
    except Failed as error:
        Console(stderr=True, highlight=False).print(f"kubelb demo: {error}", soft_wrap=True)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    console.print()
    console.print(table(summary), soft_wrap=True)
    console.print()
    for text, style in ((sentences(summary), "bold"), (notes(summary), "dim")):
        console.print(text, style=style, soft_wrap=not console.is_terminal)
    if as_json:
        sys.stdout.write(msgspec.json.encode(as_dict(summary)).decode() + "\n")
        sys.stdout.flush()
    return 0 if summary.ok else 1


def _terminated(number: int, _: FrameType | None) -> None:
    """End as after Ctrl-C, in good order, with the code that a shell expects."""
    raise SystemExit(128 + number)
