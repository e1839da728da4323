"""Many services in one process: what 1, 5 and 30 load balancers of a namespace hold and burn while all of it changes.

    python benchmarks/fleet.py [--smoke]
    python -m tests.integration.netns -- python benchmarks/fleet.py --real

Each column is a process of its own with so many load balancers; one without any is subtracted. Slices change eight
times a second in all, however many services there are: so seldom that even one service publishes each change by itself,
and the CPU of a change can be compared. What the process burns while nothing changes is measured before, and
subtracted. The API server is that of kubelb.testing, or with --real a kube-apiserver, in another process either way.
What is there is counted: watches by the server, connections and descriptors by the kernel, threads by Python. `x` is
the figure beside that of one service.

With --smoke the run is short. It says no where the services of the namespace have more than two watches or connections
together, or not about as many threads, where one among 30 costs more CPU a change than twice the one alone, or where a
load balancer does not come to the last set. Linux only: it reads /proc.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from _gates import Gates

ROOT = Path(__file__).resolve().parents[1]
NAMESPACE, PODS = "fleet", 10
SIZES = 0, 1, 5, 30
SMOKE = 0, 1, 30
RATE = 8.0
"""Changes a second, over all services: absences are held for 100 ms."""
WATCHES = 2
"""Of a process for one namespace: one, and for a moment that of services which came later."""
SPARE_THREADS = 4
"""Of a process, whatever the number of services: the worker, and what urllib3 or a look-up may have for a moment."""
CPU_RATIO = 2.0
PATIENCE = 30.0


# -- the process with the load balancers


def child() -> None:
    """Make them, then answer each line of input: its CPU time, or what it holds and the sets in use."""
    import kubelb

    config = json.loads(sys.stdin.readline())
    names = config["services"]
    lbs = [kubelb.LoadBalancer(f"kube:///{name}.{NAMESPACE}:http", telemetry=False) for name in names]
    for lb in lbs:
        lb.wait_ready(PATIENCE)
    for line in sys.stdin:
        if line.strip() == "cpu":
            sys.stdout.write(f"{time.process_time()}\n")
            sys.stdout.flush()
            continue
        used = {name: sorted(view.address for view in lb.endpoints()) for name, lb in zip(names, lbs, strict=True)}
        sys.stdout.write(json.dumps({**holds(config["port"]), "used": used}) + "\n")
        sys.stdout.flush()
    for lb in lbs:
        lb.close()


def holds(port: int) -> dict[str, float]:
    own = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            own.add(str(descriptor.readlink()))
        except OSError:
            continue  # the one that lists them
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    there = [row for row in rows if int(row[2].split(":")[1], 16) == port and f"socket:[{row[9]}]" in own]
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "connections": len(there),
        "threads": threading.active_count(),
        "descriptors": len(own),
        "mb": pages * resource.getpagesize() / 1e6,
    }


class Process:
    def __init__(self, names: list[str], kubeconfig: str, port: int) -> None:
        env = {**os.environ, "KUBECONFIG": kubeconfig}
        self._child = subprocess.Popen(
            [sys.executable, __file__, "--child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self._write(json.dumps({"services": names, "port": port}))

    def tell(self, what: str = "all"):
        self._write(what)
        assert self._child.stdout is not None
        return json.loads(self._child.stdout.readline())

    def _write(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def end(self) -> None:
        self._child.communicate(timeout=PATIENCE)


# -- the API servers: `write(service, slice name, addresses)`, `watches()`, and the way to them


class Local:
    def __init__(self, stack: ExitStack) -> None:
        from kubelb.testing import LocalCluster

        self._cluster = stack.enter_context(LocalCluster(tls=True))
        self.kubeconfig = self._cluster.kubeconfig
        self.url = self._cluster.url

    def write(self, service: str, name: str, addresses: list[str]) -> None:
        conditions = {"ready": True, "serving": True, "terminating": False}
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": service}}
        self._cluster.apply_slice({
            "metadata": metadata,
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": conditions} for address in addresses],
        })  # fmt: skip

    def watches(self) -> int:
        return self._cluster.api.watchers


class Real:
    def __init__(self, stack: ExitStack) -> None:
        sys.path.insert(0, str(ROOT))
        from tests.integration.binaries import find_binaries
        from tests.integration.controlplane import ControlPlane

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._plane = stack.enter_context(ControlPlane(find_binaries(), folder))
        self._plane.wait_controllers()  # their own watches of slices are there, and not counted
        self._plane.cluster.namespace(NAMESPACE)
        self.kubeconfig = str(self._plane.kubeconfig(folder / "kubeconfig"))
        self.url = self._plane.url

    def write(self, service: str, name: str, addresses: list[str]) -> None:
        self._plane.cluster.write_slice(NAMESPACE, service, name, addresses)

    def watches(self) -> int:
        text = self._plane.api.request("GET", "/metrics")["message"]
        lines = [line for line in text.splitlines() if line.startswith("apiserver_longrunning_requests{")]
        mine = [line for line in lines if 'resource="endpointslices"' in line and 'verb="WATCH"' in line]
        return sum(int(float(line.rpartition(" ")[2])) for line in mine)


# -- the churn


class Churn:
    """Changes one endpoint of one service after the other."""

    def __init__(self, server: "Local | Real", names: list[str]) -> None:
        self._server = server
        self._names = names
        self._count = 0
        self.sets: dict[str, list[str]] = {}
        for number, name in enumerate(names):
            self.sets[name] = [f"{self._net()}.{number}.{pod}" for pod in range(1, PODS + 1)]
            server.write(name, f"{name}-a", self.sets[name])

    def _net(self) -> str:
        return "10.244" if isinstance(self._server, Real) else "127.1"

    def run(self, seconds: float) -> int:
        """Returns how many changes were made."""
        began, made = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds:
            name = self._names[self._count % len(self._names)]
            host = 100 + self._count // len(self._names) % 100
            number = self._names.index(name)
            self.sets[name] = [*self.sets[name][1:], f"{self._net()}.{number}.{host}"]
            self._server.write(name, f"{name}-a", self.sets[name])
            self._count += 1
            made += 1
            time.sleep(max(0.0, began + made / RATE - now))
        return made

    def expected(self, names: list[str]) -> dict[str, list[str]]:
        return {name: sorted(f"{address}:8080" for address in self.sets[name]) for name in names}


@contextmanager
def processes(server: "Local | Real", names: list[str]):
    process = Process(names, server.kubeconfig, int(server.url.rpartition(":")[2]))
    try:
        yield process
    finally:
        process.end()


def measure(server: "Local | Real", size: int, seconds: float, gates: Gates) -> dict[str, float]:
    """One column: what the process holds under churn, and microseconds of CPU, of a change and of a quiet second."""
    names = [f"s{number}" for number in range(max(size, 1))]
    churn = Churn(server, names)
    before = server.watches()
    with processes(server, names[:size]) as process:
        if not size:
            return {**process.tell(), "watches": 0, "quiet": 0.0, "change": 0.0}
        churn.run(seconds / 3)  # buffers grow, and what is imported when first used is there
        time.sleep(1.5)  # what was absent is held for a moment, and what was torn up is collected
        quiet = process.tell("cpu")
        time.sleep(seconds)
        began = process.tell("cpu")
        changes = churn.run(seconds)
        ended = process.tell("cpu")
        row = process.tell()
        row["watches"] = server.watches() - before
        row["quiet"] = (began - quiet) / seconds * 1e6
        row["change"] = (ended - began - (began - quiet)) / changes * 1e6
        expected, until = churn.expected(names[:size]), time.monotonic() + PATIENCE
        while (known := process.tell()["used"]) != expected and time.monotonic() < until:
            time.sleep(0.1)
        wrong = sum(known[name] != expected[name] for name in expected)
        gates.at_most(f"{size} services: sets that are not right", wrong, 0)
    return row


FIGURES = {
    "watches": ("watches", "{:.0f}"),
    "connections": ("connections", "{:.0f}"),
    "threads": ("threads", "{:.0f}"),
    "descriptors": ("descriptors", "{:.0f}"),
    "mb": ("MB", "{:.1f}"),
    "quiet": ("us CPU a second", "{:.0f}"),
    "change": ("us CPU a change", "{:.0f}"),
}


def show(rows: dict[int, dict[str, float]]) -> None:
    empty, one = rows[0], rows[1]
    print(f"{'':18}" + "".join(f"{size:>7} services" for size in rows if size))
    for key, (title, form) in FIGURES.items():
        cells = []
        for size, row in rows.items():
            if not size:
                continue
            value, base = row[key] - empty[key], one[key] - empty[key]
            ratio = f" {value / base:5.1f}x" if base > 0 else "      -"
            cells.append(f"{form.format(value):>9}{ratio}")
        print(f"{title:18}" + "".join(cells))
    print(f"beside a process without any: {empty['threads']:.0f} threads, {empty['mb']:.0f} MB")


def hold(gates: Gates, rows: dict[int, dict[str, float]]) -> None:
    for size, row in rows.items():
        if not size:
            continue
        for key in ("watches", "connections", "threads"):
            bound = min(size, WATCHES) + (SPARE_THREADS if key == "threads" else 0)
            gates.at_most(f"{size} services: {key}", row[key] - rows[0][key], bound)
    many, one = rows[SIZES[-1]]["change"] - rows[0]["change"], rows[1]["change"] - rows[0]["change"]
    gates.at_most(f"CPU of a change among {SIZES[-1]} services, of one alone", many / max(one, 1.0), CPU_RATIO)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates")
    parser.add_argument("--real", action="store_true", help="against a kube-apiserver, in a pod network")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child()
        return 0
    gates = Gates()
    with ExitStack() as stack:
        server = Real(stack) if options.real else Local(stack)
        rows = {
            size: measure(server, size, 1.0 if options.smoke else 6.0, gates)
            for size in (SMOKE if options.smoke else SIZES)
        }
    show(rows)
    hold(gates, rows)
    return gates.close()


if __name__ == "__main__":
    sys.exit(main())
