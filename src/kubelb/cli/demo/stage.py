"""The pods, and the two ways to them: kubelb's transport, and plain httpx behind the forwarder."""

import random
import statistics
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import httpx

from kubelb.adapters.httpx import Transport
from kubelb.cli.demo.forwarder import Forwarder, ready_addresses
from kubelb.cli.demo.settings import REPLICAS, SERVICE, TIMEOUT, Settings
from kubelb.clock import monotonic
from kubelb.core.events import Ejected, Event, Retried
from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.source import KubeDiscovery
from kubelb.discovery.kube.token import TokenFile
from kubelb.loadbalancer import LoadBalancer
from kubelb.target import parse_target
from kubelb.testing import Backend, LocalCluster, Received, Reply

__all__ = ["LocalBalancer", "Stage"]

MEDIAN, SPREAD = 0.02, 0.25
"""Seconds that a healthy pod works on a request, log-normal: 20 ms, one in a hundred above 36 ms."""
LAG = 1.0
"""Seconds until the slice says that a crashed pod is not ready: the kubelet looks once a second."""
PINGS = 60


class Stage:
    """A LocalCluster with one service and a client for each side; `with` opens and closes all of it."""

    def __init__(self, settings: Settings) -> None:
        self.lag = min(LAG, settings.seconds / 35)
        self.slow: set[str] = set()
        self.crashed: set[str] = set()
        self._stopping = threading.Event()
        self._rng = random.Random(settings.seed)
        self._seed = settings.seed
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.cluster = stack.enter_context(LocalCluster(lag=self.lag))
            stack.callback(self._stopping.set)
            self.service = self.cluster.service(SERVICE, replicas=REPLICAS, handler=self._answer)
            self.forwarder = stack.enter_context(
                Forwarder(lambda: ready_addresses(self.cluster.slices("prod", "reviews")), random.Random(self._seed))
            )
            self.balancer = stack.enter_context(LocalBalancer(self.cluster, self.service.address, self._seed))
            # The same settings for both, all of them httpx's defaults; the environment's proxies are for neither.
            limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0)
            transport = Transport(self.balancer, limits=limits)
            self.kubelb = stack.enter_context(
                httpx.Client(
                    base_url=f"http://{SERVICE}",
                    mounts={f"http://{SERVICE}": transport},
                    timeout=TIMEOUT,
                    trust_env=False,
                )
            )
            self.plain = stack.enter_context(
                httpx.Client(base_url=self.forwarder.url, limits=limits, timeout=TIMEOUT, trust_env=False)
            )
            self.balancer.wait_ready()
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def slow_down(self, backend: Backend, times: int) -> None:
        """Have a pod take `times` as long."""
        self.slow.add(backend.name)
        backend.slow(lambda: (times - 1) * self._work())

    def crash(self, backend: Backend) -> None:
        """Kill a pod without a goodbye."""
        self.crashed.add(backend.name)
        backend.kill()

    def forwarder_cost(self) -> float:
        """Return the seconds that the forwarder adds to a request, which no kube-proxy would: median against median."""
        (host, port), *_ = ready_addresses(self.cluster.slices("prod", "reviews"))
        took: tuple[list[float], list[float]] = ([], [])
        with httpx.Client(trust_env=False) as client:
            for number in range(2 * PINGS):  # by turns, so that both meet the same machine
                url = self.forwarder.url if number % 2 else f"http://{host}:{port}"
                began = monotonic()
                client.get(f"{url}/ping")
                took[number % 2].append(monotonic() - began)
        return statistics.median(took[1]) - statistics.median(took[0])

    def _work(self) -> float:
        return MEDIAN * self._rng.lognormvariate(0.0, SPREAD)

    def _answer(self, request: Received) -> Reply:
        if request.path != "/ping":
            self._stopping.wait(self._work())
        return Reply(body="five stars\n")


class LocalBalancer(LoadBalancer):
    """Reads the cluster with its token, because reading a kubeconfig takes the `kubernetes` extra; counts events."""

    def __init__(self, cluster: LocalCluster, target: str, seed: int) -> None:
        self.retries = 0
        self.ejections = 0
        access = Access(cluster.url, "the demo's cluster", credentials=TokenFile(cluster.token_file))
        super().__init__(KubeDiscovery(parse_target(target), access=access, node="", zone=""), rng=random.Random(seed))
        self.on_event(self._count)

    def _count(self, event: Event) -> None:
        self.retries += isinstance(event, Retried)
        self.ejections += isinstance(event, Ejected)
