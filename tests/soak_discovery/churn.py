"""Writes changes, so many a second, through the API server that is always well. A thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress

import urllib3
from tests.integration.api import Api, ApiError
from tests.integration.cluster import Cluster
from tests.soak_discovery.services import PORT, Change, World

__all__ = ["Churn"]

PATIENCE = 30.0
"""Seconds for which one write is tried: it is the whole of a slice, so twice does what once does."""


class Churn:
    """`go` and `halt` may be called by one thread; `halt` returns when the last write is done."""

    def __init__(self, world: World, api: Api, rate: float) -> None:
        self.made: Counter[str] = Counter()
        self.running = 0.0
        """Seconds for which it had to run."""
        self.broken = ""
        self._world = world
        self._api = api
        self._cluster = Cluster(api)
        self._pause = 1.0 / rate
        self._may = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Write what there is at first."""
        for change in self._world.populate():
            self._write(change)

    def go(self) -> None:
        """Make changes from now on."""
        self._may.set()

    def halt(self) -> None:
        """Make none until `go`."""
        self._may.clear()
        self._idle.wait()
        if self.broken:
            raise RuntimeError(f"the churn broke: {self.broken}")

    def end(self) -> None:
        """For good."""
        self._over.set()
        self._may.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            began = time.monotonic()
            self._idle.clear()
            if not self._may.is_set():
                self._idle.set()
                self._may.wait()
                due = time.monotonic()
                continue
            try:
                change = self._world.change()
                self._write(change)
                self.made[change.kind] += 1
            except Exception as error:
                self.broken = f"{type(error).__name__}: {error}"
                self._idle.set()
                return
            due = max(due + self._pause, time.monotonic() - 1.0)  # what is late is made up for, but for a second
            time.sleep(max(0.0, due - time.monotonic()))
            self.running += time.monotonic() - began

    def _write(self, change: Change) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._write_once(change)
            except (ApiError, urllib3.exceptions.HTTPError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            else:
                return

    def _write_once(self, change: Change) -> None:
        world, name, namespace = self._world, change.service.name, change.service.namespace
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        if change.service_comes:
            with suppress_reason("AlreadyExists"):
                self._cluster.service(namespace, name, {"http": PORT}, selector={}, headless=True)
        for piece in change.slices:
            body = world.body(change.service, piece)
            if body is None:
                with suppress_reason("NotFound"):
                    self._api.delete(f"{slices}/{piece}")
                continue
            try:
                self._api.patch(f"{slices}/{piece}", {"endpoints": body["endpoints"]})
            except ApiError as error:
                if error.reason != "NotFound":
                    raise
                self._api.create(slices, body)
        if change.service_goes:
            with suppress_reason("NotFound"):
                self._cluster.delete_service(namespace, name)


class suppress_reason(suppress):  # noqa: N801  as its base
    """Let pass an answer of the API server with this reason: the write was done by a try before."""

    def __init__(self, reason: str) -> None:
        super().__init__(ApiError)
        self._reason = reason

    def __exit__(self, kind, error, at) -> bool:
        return bool(super().__exit__(kind, error, at)) and getattr(error, "reason", None) == self._reason
