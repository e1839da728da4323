"""What importing costs: time and modules, of kubelb and of what it stands beside.

    python benchmarks/imports.py [--smoke]

Each import runs in a fresh interpreter, several times, and the quickest counts, in CPU time; the bare interpreter is
subtracted. `import kubelb` must cost at most a quarter of `import httpx`. It loads next to nothing of kubelb, so what a
program pays that balances is told beside it: `from kubelb import LoadBalancer`, and a load balancer that is made. Lists
are gates, too: kubelb must load none of the heavy modules, and the adapter for httpx nothing of asyncio.

Then the cold start: a process that begins, and has the answer to its first request; with httpx alone, and through
kubelb with the endpoints of an API server on loopback, as a pod reads them. The three take turns, and the quickest
counts. The figure is CPU time, of all threads: a wait for the API server is no work, and neither is one for a busy
core. Of the time by the clock the request alone is told too: imports are to be paid before it.

What httpx and httpcore import where it happens to be installed is hidden, for `pip install kubelb[httpx]` brings none
of it: their command line (click, rich), trio and h2. The first costs more than all the rest. With trio and h2 all three
are measured once more, to be compared with older figures.

Bytecode is kept in a folder of the run's own, and a first run of each program, which writes it, does not count: as in
an image whose packages are compiled. Without that a machine that is told to write none measures the compiler.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from _gates import Gates

HEAVY = (
    *("aiohttp", "asyncio", "dns", "grpc", "httpx", "kubernetes", "msgspec", "opentelemetry", "requests", "ssl"),
    *("tenacity", "urllib3"),
)
COMMAND_LINE = ("click", "rich", "pygments")
OPTIONAL = ("trio", "h2")
BASE = "import httpx"
SMALL = "import kubelb"
SHARE = 0.25
STATEMENTS = {
    BASE: None,
    SMALL: set(),
    "from kubelb import LoadBalancer": set(),
    "import kubelb; kubelb.LoadBalancer('static:///127.0.0.1:1')": set(),
    "import kubelb; kubelb.LoadBalancer('reviews.prod:http')": None,
    "import kubelb.adapters.httpx": {"httpx", "ssl"},
    "import kubelb.testing": None,
    "import asyncio": None,
}
"""What is measured, and which heavy modules it may load; None for any."""
CODE = """
import sys, time
for name in {hidden!r}:
    sys.modules[name] = None
before = len(sys.modules)
began = time.process_time()
{statement}
print(time.process_time() - began, len(sys.modules) - before, *(name for name in {heavy} if sys.modules.get(name)))
"""


def run(code: str, folder: str) -> list[str]:
    """Run a program in a fresh interpreter with its bytecode in that folder; returns the words that it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = folder
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


def measure(runs: int, folder: str) -> dict[str, tuple[float, int, list[str]]]:
    """Return of each statement the least seconds, the modules loaded, and which heavy ones; they take turns."""
    found = dict.fromkeys(STATEMENTS, (float("inf"), 0, list[str]()))
    for turn in range(runs + 1):  # the first writes bytecode
        for statement, (best, *_) in found.items():
            code = CODE.format(hidden=(*COMMAND_LINE, *OPTIONAL), statement=statement, heavy=HEAVY)
            seconds, count, *heavy = run(code, folder)
            found[statement] = min(best, float(seconds)) if turn else best, int(count), heavy
    return found


COLD = """
import sys, time
for name in {hidden!r}:
    sys.modules[name] = None
cpu, began = time.process_time(), time.perf_counter()
import httpx
{setup}
asked = time.perf_counter()
assert client.get({url!r}).status_code == 200
print(time.process_time() - cpu, time.process_time(), time.perf_counter() - began, time.perf_counter() - asked)
"""
BARE = "client = httpx.Client()"
KUBELB = """
import os, kubelb
os.environ["KUBERNETES_SERVICE_HOST"] = "127.0.0.1"  # as in a pod
from kubelb.adapters.httpx import Transport
lb = kubelb.LoadBalancer("reviews.prod:http")
client = httpx.Client(mounts={{"http://reviews.prod": Transport(lb)}})
from kubelb.discovery.kube import access, source
class Token:
    def header(self, *, fresh=False):
        return {token!r}, ""
way = access.Given(access.Access({server!r}, credentials=Token()))
source.locate = lambda *given: way
"""
STATIC = """
import kubelb
from kubelb.adapters.httpx import Transport
client = httpx.Client(mounts={{"http://reviews.prod": Transport({target!r}, hosts=["reviews.prod"])}})
"""


class Cold(NamedTuple):
    """The least of several runs, each figure for itself, in seconds."""

    cpu: float
    """From the first import to the answer."""
    process: float
    """The same, and the interpreter before it."""
    clock: float
    request: float
    """By the clock, of that the request alone."""


def cold_starts(runs: int, folder: str) -> None:
    """Print what it takes from the beginning to the first answer, and how often that is httpx's own."""
    import yaml

    from kubelb.testing import LocalCluster

    with LocalCluster() as cluster:
        pod = cluster.service("reviews.prod:http", replicas=1)[0]
        config = yaml.safe_load(Path(cluster.kubeconfig).read_text(encoding="utf-8"))
        server = config["clusters"][0]["cluster"]["server"]
        token = f"Bearer {config['users'][0]['user']['token']}"
        name = "http://reviews.prod/"
        programs = {
            "httpx alone": (BARE, f"http://{pod.address}/"),
            "kubelb, static": (STATIC.format(target=f"static:///{pod.address}"), name),
            "kubelb, slices": (KUBELB.format(server=server, token=token), name),
        }
        bare = _in_turns(programs, COMMAND_LINE + OPTIONAL, 2 * runs, folder)
        full = _in_turns(programs, COMMAND_LINE, runs, folder)
    _print("cold start", bare)
    _print("cold start, with trio and h2", full)


def _in_turns(programs: dict[str, tuple[str, str]], hidden: tuple[str, ...], runs: int, folder: str) -> dict[str, Cold]:
    code = {what: COLD.format(hidden=hidden, setup=setup, url=url) for what, (setup, url) in programs.items()}
    for each in code.values():
        run(each, folder)
    found = [{what: tuple(map(float, run(each, folder))) for what, each in code.items()} for _ in range(runs)]
    return {what: Cold(*map(min, zip(*(each[what] for each in found), strict=True))) for what in code}


def _print(title: str, found: dict[str, Cold]) -> None:
    base = found["httpx alone"]
    print(f"\n{title:32} {'cpu ms':>7} {'x httpx':>8} {'with python':>12} {'clock':>6}  of it the first request")
    for what, each in found.items():
        ratios = each.cpu / base.cpu, each.process / base.process, each.clock / base.clock
        times = "{:8.2f} {:12.2f} {:6.2f}".format(*ratios)
        print(f"{what:32} {each.cpu * 1000:7.1f} {times}  {each.request * 1000:.1f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run")
    runs = 3 if parser.parse_args().smoke else 7
    gates = Gates()
    with TemporaryDirectory(prefix="kubelb-imports-") as folder:
        found = measure(2 * runs, folder)
        base = found[BASE][0]
        print(f"{'statement':60} {'cpu ms':>7} {'modules':>8} {'x httpx':>8}  heavy ones")
        for statement, (seconds, count, heavy) in found.items():
            print(f"{statement:60} {seconds * 1000:7.1f} {count:8} {seconds / base:8.2f}  {' '.join(heavy)}")
            if (allowed := STATEMENTS[statement]) is not None:
                gates.at_most(f"heavy modules that `{statement}` loads for nothing", len(set(heavy) - allowed), 0)
        gates.at_most(f"`{SMALL}`, of `{BASE}`", found[SMALL][0] / base, SHARE)
        cold_starts(runs, folder)
    return gates.close()


if __name__ == "__main__":
    sys.exit(main())
