"""`python -m tests.soak --seconds 1200 --seed 1`: prints what was seen; exits with 1 if something is wrong."""

import argparse
import sys

from tests.soak.soak import soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long calls are made (default: 60)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    report = soak(options.seconds, options.seed)
    report.print()
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
