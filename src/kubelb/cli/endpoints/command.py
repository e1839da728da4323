"""The command: look once, or watch until Ctrl-C."""

import json
import sys
from collections.abc import Callable
from threading import Event
from typing import Any

import typer
from rich.console import Console
from rich.live import Live

from kubelb.cli.endpoints.show import Look, Seen, as_dict, picture
from kubelb.core.table import Difference
from kubelb.discovery.options import DiscoveryOptions
from kubelb.errors import LoadBalancerError
from kubelb.loadbalancer import LoadBalancer
from kubelb.service import service_of

__all__ = ["run_command", "watch"]

REFRESH = 1.0
"""Seconds after which it is looked again although no endpoint came or went: ages grow, discovery may be in trouble."""

PAGE = 1000
"""Columns where there is no terminal: nothing is cut off."""


def run_command(target: str, *, watching: bool, as_json: bool, timeout: float, **where: Any) -> int:
    """Show and return the exit code: 0 there are endpoints to use, 1 there are none, 2 not a target.

    `where` to look, and from where: options of discovery.
    """
    try:
        discovery = DiscoveryOptions(**where)
        lb = LoadBalancer(target, discovery=discovery, ready_timeout=timeout, slow_start=None, telemetry=False)
    except ValueError as error:
        typer.echo(f"kubelb: {error}", err=True)
        return 2
    with lb:
        look = first(lb)
        if watching:
            try:
                watch(lb, look, as_json=as_json)
            except KeyboardInterrupt:
                return 130
        elif as_json:
            typer.echo(json.dumps(as_dict(look), indent=2))
        else:
            screen().print(picture(look))
        return 1 if look.problem else 0


def first(lb: LoadBalancer) -> Look:
    """Wait for the first endpoints, and look."""
    problem = ""
    try:
        lb.wait_ready()
    except LoadBalancerError as error:
        problem = error.reason
    return Look(str(lb.target), lb.health(), lb.endpoints(), problem)


def again(lb: LoadBalancer) -> Look:
    """Look without waiting."""
    balancer = service_of(lb).balancer
    refusal = balancer.refusal()
    problem = ""
    if refusal is not None:
        problem = (lb.health().error if balancer.version is None else "") or refusal.reason
    return Look(str(lb.target), lb.health(), lb.endpoints(), problem)


def screen() -> Console:
    """Return the terminal, or a page as wide as it takes."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PAGE)


def watch(
    lb: LoadBalancer,
    look: Look,
    *,
    as_json: bool,
    console: Console | None = None,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Show every change: a table that renews itself on a terminal, lines elsewhere, an object a line as JSON."""
    bell = _Bell()
    service_of(lb).on_change(bell.ring)
    console = console or screen()
    if console.is_terminal and not as_json:
        with Live(picture(look), console=console, auto_refresh=False) as live:
            while goes_on():
                bell.wait()
                live.update(picture(again(lb)), refresh=True)
        return
    seen = Seen()
    while True:
        lines = seen.lines(look)
        if lines:
            for line in [json.dumps(as_dict(look))] if as_json else lines:
                typer.echo(line)
            sys.stdout.flush()
        if not goes_on():
            return
        bell.wait()
        look = again(lb)


class _Bell:
    """Rings when endpoints have changed."""

    def __init__(self) -> None:
        self._event = Event()

    def ring(self, _: Difference) -> None:
        self._event.set()

    def wait(self) -> None:
        self._event.wait(REFRESH)
        self._event.clear()
