"""What importing costs: time and modules, of kubelb and of what it stands beside.

    python benchmarks/imports.py [--smoke]

Each import runs in a fresh interpreter, several times, and the quickest counts; the bare interpreter is subtracted. The
gate is not a time but a list: `import kubelb` must load none of the heavy modules, and the adapter for httpx nothing of
asyncio.

Then the cold start: a process that begins, and has the answer to its first request; with httpx alone, and through
kubelb with the endpoints of an API server on loopback, as a pod reads them. What httpx imports for its command line
(click, rich) is left out: it is in few pods, and costs more than all the rest. The three take turns, the quickest
counts, and of kubelb's the request alone is told too: imports are to be paid before it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from _gates import Gates

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


COLD = """
import sys, time
for name in ("click", "rich", "pygments"):
    sys.modules[name] = None
began = time.perf_counter()
import httpx
{setup}
asked = time.perf_counter()
assert client.get({url!r}).status_code == 200
done = time.perf_counter()
print(done - began, done - asked)
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


def cold_starts(runs: int) -> None:
    """Print the seconds from the beginning to the first answer, and how often that is httpx's own."""
    import yaml

    from kubelb.testing import LocalCluster

    with LocalCluster() as cluster:
        pod = cluster.service("reviews.prod:http", replicas=1)[0]
        config = yaml.safe_load(Path(cluster.kubeconfig).read_text(encoding="utf-8"))
        server = config["clusters"][0]["cluster"]["server"]
        token = f"Bearer {config['users'][0]['user']['token']}"
        name = "http://reviews.prod/"
        programs = {
            "httpx alone": COLD.format(setup=BARE, url=f"http://{pod.address}/"),
            "kubelb, static": COLD.format(setup=STATIC.format(target=f"static:///{pod.address}"), url=name),
            "kubelb, slices": COLD.format(setup=KUBELB.format(server=server, token=token), url=name),
        }
        best = dict.fromkeys(programs, (float("inf"), float("inf")))
        for _ in range(runs):
            for what, program in programs.items():
                done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
                whole, request = map(float, done.stdout.split())
                best[what] = min(best[what][0], whole), min(best[what][1], request)
    base = best["httpx alone"][0]
    print(f"\n{'cold start':32} {'ms':>7} {'x httpx':>8}  of it the first request")
    for what, (whole, request) in best.items():
        print(f"{what:32} {whole * 1000:7.1f} {whole / base:8.2f}  {request * 1000:.1f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run")
    runs = 3 if parser.parse_args().smoke else 7
    base = measure("import httpx", runs)[0]
    print(f"{'import':32} {'ms':>7} {'modules':>8} {'x httpx':>8}  heavy ones")
    gates = Gates()
    for module in MODULES:
        seconds, count, heavy = measure(f"import {module}", runs)
        print(f"{module:32} {seconds * 1000:7.1f} {count:8} {seconds / base:8.2f}  {' '.join(heavy)}")
        allowed = {"kubelb": set(), "kubelb.adapters.httpx": {"httpx", "ssl"}}.get(module)
        if allowed is not None:
            gates.at_most(f"heavy modules that `import {module}` loads for nothing", len(set(heavy) - allowed), 0)
    cold_starts(runs)
    return gates.close()


if __name__ == "__main__":
    sys.exit(main())
