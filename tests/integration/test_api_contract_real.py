"""A real API server keeps the contract to which `kubelb.testing` is held: the suite asks nothing that is not true."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import ClassVar

import pytest

pytest.register_assert_rewrite("contract.adapter", "contract.suite")

from contract.adapter import ApiUnderTest, Json  # noqa: E402
from contract.suite import *  # noqa: E402, F403

from .access import reads_slices  # noqa: E402
from .api import ApiError  # noqa: E402
from .controlplane import ControlPlane  # noqa: E402
from .processes import wait_for  # noqa: E402

SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"


class RealApi(ApiUnderTest):
    """kube-apiserver on etcd."""

    _numbers: ClassVar[itertools.count[int]] = itertools.count()

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.url = plane.url
        self.token = plane.admin_token
        self.ca_file = str(plane.ca_file)

    def namespace(self) -> str:
        return self._plane.cluster.namespace(f"contract-{next(self._numbers)}")

    def address(self, number: int) -> str:
        return f"10.244.{number // 250}.{number % 250 + 1}"

    def put(self, item: Json) -> Json:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        try:
            return self._plane.api.create(SLICES.format(namespace), item)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            return self._plane.api.patch(f"{SLICES.format(namespace)}/{name}", item)

    def delete(self, namespace: str, name: str) -> None:
        self._plane.api.delete(f"{SLICES.format(namespace)}/{name}")

    def service(self, namespace: str, name: str) -> None:
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        # Without a selector, so that the controller writes no slices between those of the test.
        self._plane.cluster.service(namespace, name, ports, selector={})

    def expire(self) -> None:
        # Only a restart empties the watch cache, and only history that etcd has dropped cannot be listed.
        self._plane.cluster.namespace(f"contract-{next(self._numbers)}")
        self._plane.compact()
        self._plane.restart_api_server()

    def without_watch_list(self) -> None:
        self._plane.restart_api_server("--feature-gates=WatchList=false")

    def limited_token(self, namespaces: Collection[str], verbs: Collection[str]) -> tuple[str, str]:
        access = self._plane.access
        home = min(namespaces)
        rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": list(verbs)}
        access.service_account(home, "limited")
        for namespace in namespaces:
            access.role(namespace, "limited", [rule])
            access.bind(namespace, "limited", "limited", sa_namespace=home)
        token = access.token(home, "limited")
        view = self._plane.client(token)
        try:
            wait_for(lambda: all(reads_slices(view, namespace) for namespace in namespaces))
        finally:
            view.close()
        return token, f"system:serviceaccount:{home}:limited"


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[ApiUnderTest]:
    """The one control plane of the run, in good health; each test takes namespaces of its own."""
    real = RealApi(control_plane)
    real.connect()
    yield real
    real.disconnect()
