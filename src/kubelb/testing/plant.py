"""The moving parts of one cluster: what starts with it and ends with it, in an order that leaves nothing behind."""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from kubelb.testing.addresses import Addresses
from kubelb.testing.api_server import ApiServer, FindService
from kubelb.testing.control import Api
from kubelb.testing.dns import Dns
from kubelb.testing.doorman import Doorman
from kubelb.testing.faults import Faults
from kubelb.testing.identity import Identity
from kubelb.testing.server import Server
from kubelb.testing.service import Service
from kubelb.testing.store import Store
from kubelb.testing.timers import Timers
from kubelb.testing.users import Users
from kubelb.testing.workload import Machinery
from kubelb.testing.zone import Zone

PATIENCE = 0.8
"""Seconds that threads have to end."""
NAMES = "127.0.0.1", "localhost", "kubernetes.default.svc"
"""What the certificate of the API is for."""


class Plant:
    """Runs from the constructor on; where that raises, all that had started has ended again.

    `store` and `zone` are what the API and DNS answer from; `find_service` gives a Service by namespace and name.
    """

    def __init__(
        self,
        store: Store,
        faults: Faults,
        zone: Zone,
        find_service: FindService,
        *,
        tls: bool,
        lag: float,
        bookmark_interval: float,
        single_address: bool,
    ) -> None:
        self._pid = os.getpid()
        self._faults = faults
        self._ends: list[Server | Dns] = []
        users = Users()
        self.identity = Identity(users)
        self.addresses = Addresses(single=single_address)
        self.machinery = Machinery(Doorman(), Timers(), lag)
        try:
            server = ApiServer(
                store,
                users,
                faults,
                self.machinery.doorman,
                bookmark_interval=bookmark_interval,
                find_service=find_service,
            )
            listener = Server(
                self.machinery.doorman,
                "127.0.0.1",
                None,
                server.serve,
                name="kubelb-testing-api",
                tls=self.identity.authority.server_context(*NAMES) if tls else None,
                admit=server.admit,
            )
            self._ends.append(listener)
            self.url = f"{'https' if tls else 'http'}://{listener.host}:{listener.port}"
            self.api = Api(server, listener, store, users, faults, rotate=self.identity.rotate)
            self.dns = Dns(zone, self.machinery.doorman)
            self._ends.append(self.dns)
            self.identity.publish(self.url, tls=tls)
        except BaseException:
            self.close(())
            raise

    def close(self, services: Collection[Service]) -> None:
        """End everything, these too, within a second. A child after a fork owns nothing of it."""
        if self._pid != os.getpid():
            return
        until = time.monotonic() + PATIENCE
        self.machinery.timers.close()
        self._faults.stopping.set()
        self._faults.flowing.set()
        for end in self._ends:
            end.shut()
        for service in services:
            service.stop()
        for end in self._ends:
            end.join(until)
        for service in services:
            service.join(until)
        self.machinery.threads.close()
        self.machinery.threads.join(until)
        self.machinery.doorman.close()
        self.identity.remove()
