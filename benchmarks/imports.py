"""What importing costs: time and modules, of kubelb and of what it stands beside.

    python benchmarks/imports.py [--smoke]

Each import runs in a fresh interpreter, several times, and the quickest counts; the bare interpreter is subtracted. The
gate is not a time but a list: `import kubelb` must load none of the heavy modules.
"""

import argparse
import subprocess
import sys

HEAVY = (
    *("aiohttp", "asyncio", "dns", "grpc", "httpx", "kubernetes", "msgspec", "opentelemetry", "requests", "ssl"),
    *("tenacity", "urllib3"),
)
MODULES = ("kubelb", "kubelb.adapters.httpx", "kubelb.discovery.kube.source", "kubelb.testing", "httpx", "asyncio")
CODE = """
import sys, time
before = len(sys.modules)
began = time.perf_counter()
{statement}
print(time.perf_counter() - began, len(sys.modules) - before, *(name for name in {heavy} if name in sys.modules))
"""


def measure(statement: str, runs: int) -> tuple[float, int, list[str]]:
    """Return the least seconds, the modules loaded, and the heavy ones among them."""
    code = CODE.format(statement=statement, heavy=HEAVY)
    best, modules, heavy = float("inf"), 0, []
    for _ in range(runs):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, count, *heavy = done.stdout.split()
        best, modules = min(best, float(seconds)), int(count)
    return best, modules, heavy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run")
    runs = 3 if parser.parse_args().smoke else 15
    base = measure("import httpx", runs)[0]
    print(f"{'import':32} {'ms':>7} {'modules':>8} {'x httpx':>8}  heavy ones")
    failed = []
    for module in MODULES:
        seconds, count, heavy = measure(f"import {module}", runs)
        print(f"{module:32} {seconds * 1000:7.1f} {count:8} {seconds / base:8.2f}  {' '.join(heavy)}")
        if module == "kubelb" and heavy:
            failed = heavy
    if failed:
        print(f"import kubelb loads {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
