"""The command line: ``kubelb``, or ``python -m kubelb``. Needs the extra ``[cli]``; the demo needs ``[httpx]`` too.

Exit codes: 0 all is well, 1 it is not, 2 the call was wrong or an extra is missing, 130 ended by Ctrl-C.
"""

import sys

__all__ = ["main"]

EXTRAS = {"typer": "cli", "click": "cli", "rich": "cli", "httpx": "httpx", "httpcore": "httpx"}
"""Packages that are not in the base, and the extra that brings each."""
CURE = "pip install 'kubelb[cli,httpx]'"


def main() -> None:
    """Run the command line and exit."""
    try:
        from kubelb.cli.app import app

        app(prog_name="kubelb")
    except ImportError as error:
        if (package := missing_package(error)) is None:
            raise
        sys.stderr.write(f"kubelb: this command needs the package {package}, which is not installed: {CURE}\n")
        sys.exit(2)
    except KeyboardInterrupt:  # before the command began to listen for it, or a second one while it was ending
        sys.exit(130)


def missing_package(error: BaseException | None) -> str | None:
    """Return the package of an extra whose absence caused this error; None where it has another cause."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            package = (error.name or "").partition(".")[0]
            return package if package in EXTRAS else None
        error = error.__cause__
    return None
