"""The EndpointSlice controller of a test cluster: which pod stands in which slice.

It packs as the real one does: a pod stays in the slice it is in; newcomers fill the fullest slice with room that has
their port, then new slices; slices are never rebalanced; an empty one goes, except that a service without pods keeps
a single placeholder without endpoints and ports. Only slices that changed are written, so that a change to one of ten
thousand pods costs one slice of a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

from kubelb.testing import objects
from kubelb.testing.store import Store, now


class Pod(Protocol):
    """What can stand in a slice; compared by identity."""

    @property
    def port(self) -> int:
        """Pods of one slice share it."""
        ...

    def endpoint(self) -> dict[str, Any]:
        """How it looks now."""
        ...


class _Slice:
    def __init__(self, name: str, port: int | None) -> None:
        self.name = name
        self.port = port
        self.created = now()
        self.pods: dict[Pod, None] = {}


class SliceSet:
    """The slices of one service. The caller holds the cluster's lock."""

    def __init__(self, store: Store, service: objects.ServiceSpec, *, max_endpoints: int) -> None:
        self._store = store
        self._service = service
        self._max = max_endpoints
        self._slices: list[_Slice] = []
        self._home: dict[Pod, _Slice] = {}

    def __contains__(self, pod: object) -> bool:
        return pod in self._home

    def sync(self, *, add: Iterable[Pod] = (), touch: Iterable[Pod] = (), remove: Iterable[Pod] = ()) -> None:
        """Take pods in, take changes of theirs over, leave pods out; then write every slice that differs."""
        dirty: dict[_Slice, None] = {}
        for pod in remove:
            home = self._home.pop(pod, None)
            if home is not None:
                del home.pods[pod]
                dirty[home] = None
        for pod in touch:
            if (home := self._home.get(pod)) is not None:
                dirty[home] = None
        for pod in add:
            if pod not in self._home:
                home = self._room_for(pod)
                home.pods[pod] = None
                self._home[pod] = home
                dirty[home] = None
        kept = [item for item in self._slices if item.pods]
        if not kept:
            # Like the real one, the slice that became empty is turned into the placeholder, name and all.
            placeholder = self._slices[0] if self._slices else self._new(None)
            placeholder.port = None
            dirty[placeholder] = None
            kept = [placeholder]
        gone = [item for item in self._slices if item not in kept]
        self._slices = kept
        for item in dirty:
            if item in kept:
                self._write(item)
        for item in gone:
            self._store.delete(self._service.namespace, item.name)

    def clear(self) -> None:
        """Delete every slice: the service is gone."""
        for item in self._slices:
            self._store.delete(self._service.namespace, item.name)
        self._slices = []
        self._home = {}

    def _room_for(self, pod: Pod) -> _Slice:
        fitting = [item for item in self._slices if item.port == pod.port and len(item.pods) < self._max]
        if fitting:
            return max(fitting, key=lambda item: len(item.pods))
        for item in self._slices:
            if not item.pods:  # the placeholder, or a slice that this very sync has emptied
                item.port = pod.port
                return item
        return self._new(pod.port)

    def _new(self, port: int | None) -> _Slice:
        item = _Slice(objects.generated_name(self._service.name), port)
        self._slices.append(item)
        return item

    def _write(self, item: _Slice) -> None:
        self._store.put(
            objects.endpoint_slice(
                self._service,
                name=item.name,
                endpoints=[pod.endpoint() for pod in item.pods],
                port=item.port,
                created=item.created,
                triggered=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            )
        )
