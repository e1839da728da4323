"""One performance from start to end."""

import random
from contextlib import ExitStack

from rich.console import Console
from rich.live import Live

from kubelb.cli.demo.measure import KUBELB, PLAIN, Record
from kubelb.cli.demo.pods import Roster
from kubelb.cli.demo.script import Act, Play, Script, the_script
from kubelb.cli.demo.settings import TIMEOUT, Settings
from kubelb.cli.demo.stage import Stage
from kubelb.cli.demo.summary import Summary, summarize
from kubelb.cli.demo.traffic import Side, Traffic
from kubelb.cli.demo.view import LEAST, act_line, frame, title
from kubelb.clock import monotonic

__all__ = ["Failed", "show"]

REFRESH = 0.25


class Failed(Exception):
    """The script itself could not be performed."""


def show(settings: Settings, console: Console, *, plain: bool, script: Script = the_script) -> Summary:
    """Perform a script and return what was measured. Raises `Failed`; whatever ends it, nothing is left running."""
    live = console.is_terminal and not console.is_dumb_terminal and not plain
    live = live and console.width >= LEAST[0] and console.height >= LEAST[1]
    record = Record()
    with Stage(settings) as stage, ExitStack() as stack:
        forwarder = stage.forwarder_cost()

        def tell(act: Act) -> None:
            console.print(act_line(play.elapsed, act), soft_wrap=True)

        play = Play(script(stage, settings), () if live else (tell,))
        traffic = Traffic(
            [Side(KUBELB, stage.kubelb, record), Side(PLAIN, stage.plain, record)],
            settings.rate,
            random.Random(settings.seed),
            lambda: play.index,
        )
        stack.callback(traffic.stop)
        stack.callback(play.stop)
        if not live:
            console.print(title(settings), soft_wrap=True)
        play.start()
        traffic.start()
        if live:
            _watch(stage, settings, play, record, console)
        else:
            while not play.done.wait(REFRESH):
                pass
        seconds = play.elapsed
        traffic.finish(TIMEOUT + 1.0)
        if play.error is not None:
            raise Failed(f"{play.act.name!r} could not be performed: {play.error}") from play.error
        return summarize(
            settings,
            seconds,
            play.acts,
            record,
            forwarder=forwarder,
            retries=stage.balancer.retries,
            ejections=stage.balancer.ejections,
        )


def _watch(stage: Stage, settings: Settings, play: Play, record: Record, console: Console) -> None:
    roster = Roster(stage)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not play.done.wait(REFRESH):
            live.update(frame(stage, settings, play, record, roster, monotonic(), console), refresh=True)
