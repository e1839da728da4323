"""`python -m tests.soak_discovery --seconds 600 --seed 1`, in a pod network: exits with 1 if something is wrong."""

import argparse
import sys
from pathlib import Path

from tests.integration import netns
from tests.integration.binaries import MissingBinariesError
from tests.integration.pods import NoMountsError
from tests.soak_discovery.faults import KINDS
from tests.soak_discovery.soak import soak


def fault(text: str) -> tuple[str, float]:
    """`KIND:SECONDS`."""
    kind, _, seconds = text.partition(":")
    if kind not in KINDS:
        raise argparse.ArgumentTypeError(f"{kind!r}: give one of {', '.join(KINDS)}")
    return kind, float(seconds or 0.0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak_discovery", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long things go wrong (default: 120)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--patience", type=float, default=1.0, help="factor of all bounds, on a busy machine (default: 1)"
    )
    parser.add_argument(
        "--namespaces", type=int, default=1, metavar="N", help="of the services: a watch for each (default: 1)"
    )
    parser.add_argument(
        "--fault", type=fault, action="append", metavar="KIND:SECONDS", help="these in turn, not what the seed draws"
    )
    parser.add_argument("--logs", type=Path, help="an empty folder, in which the servers' logs are kept")
    options = parser.parse_args()
    if not netns.inside():
        sys.stderr.write("no pod network here: run `python -m tests.integration.netns -- python -m ...`\n")
        return netns.FORBIDDEN
    try:
        report = soak(
            options.seconds,
            options.seed,
            patience=options.patience,
            namespaces=options.namespaces,
            script=options.fault,
            logs=options.logs,
        )
    except MissingBinariesError as error:
        sys.stderr.write(f"{error}\n")
        return netns.FORBIDDEN
    except NoMountsError as error:
        sys.stderr.write(f"no file systems of one's own here: {error}\n")
        return netns.FORBIDDEN
    report.print()
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
