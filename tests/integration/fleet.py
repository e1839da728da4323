"""The pods of one Service with a real server behind each: what a Deployment, a kubelet and a node would do to them."""

from __future__ import annotations

import itertools

from .backends import Backend, Backends
from .cluster import Cluster
from .processes import wait_for


class Fleet:
    """Pods `web-1`, `web-2`, ... with addresses 10.244.9.1, 10.244.9.2, ..., each with its server."""

    def __init__(self, cluster: Cluster, backends: Backends, ns: str) -> None:
        self._cluster = cluster
        self._start = backends
        self._ns = ns
        self._numbers = itertools.count(1)
        self.servers: dict[str, Backend] = {}
        self.ever: list[Backend] = []
        self.target = f"web.{ns}:http"
        cluster.service(ns, "web", {"http": 8080})

    @property
    def addresses(self) -> set[str]:
        return {server.ip for server in self.servers.values()}

    def up(self, count: int) -> list[str]:
        """Add pods: their servers listen, then they are ready. Returns their names."""
        numbers = [next(self._numbers) for _ in range(count)]
        servers = self._start.start({f"web-{number}": f"10.244.9.{number}" for number in numbers})
        for number, server in zip(numbers, servers, strict=True):
            self._cluster.pod(self._ns, server.name, server.ip, {"app": "web"}, "node-a" if number % 2 else "node-b")
            self.servers[server.name] = server
            self.ever.append(server)
        return [server.name for server in servers]

    def catch(self, name: str, at_least: int = 1) -> int:
        """Stop a pod's server in the midst of work, and return how many requests it has read and not answered.

        So whatever is done to it next is done while they are under way, however slow the machine is. Takes load with
        requests that last.
        """
        server = self.servers[name]

        def caught() -> int:
            if server.at_work < at_least:
                return 0
            server.freeze()
            at_work = server.at_work
            if at_work >= at_least:
                return at_work
            server.thaw()
            return 0

        return wait_for(caught, what=f"{at_least} requests at {name}")

    def down(self, name: str) -> None:
        """Take a pod away as Kubernetes does: terminating and SIGTERM at once, gone when its server has ended.

        One that was caught goes on with its work as it is told.
        """
        server = self.servers.pop(name)
        self._cluster.terminate(self._ns, name)
        server.drain()
        if server.frozen:
            server.thaw()
        assert server.wait(30.0) == 0
        self._cluster.delete_pod(self._ns, name)

    def crash(self, name: str, at_least: int = 1) -> int:
        """kill -9 in the midst of work, and only then does the control plane hear of it; returns how much there was."""
        at_work = self.catch(name, at_least)
        self.servers.pop(name).kill()
        return at_work

    def forget(self, name: str) -> None:
        """The pod of a server that crashed goes."""
        self._cluster.delete_pod(self._ns, name)

    def wait_listed(self) -> None:
        """Wait until the slices show what there is."""
        wanted = self.addresses
        wait_for(lambda: set(self._cluster.endpoints(self._ns, "web")) == wanted)
