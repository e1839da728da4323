"""A real CoreDNS keeps the contract to which `kubelb.testing` is held: the suite asks nothing that is not true."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest

pytest.register_assert_rewrite("contract.dns_suite")

from contract.dns_suite import *  # noqa: E402, F403
from contract.dns_suite import DnsUnderTest, Json  # noqa: E402

from .api import ApiError  # noqa: E402
from .controlplane import ControlPlane  # noqa: E402

SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"


class RealDns(DnsUnderTest):
    """CoreDNS on kube-apiserver on etcd."""

    _numbers: ClassVar[itertools.count[int]] = itertools.count()

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.host, self.port = plane.dns.host, plane.dns.port

    def namespace(self) -> str:
        return self._plane.cluster.namespace(f"dns-contract-{next(self._numbers)}")

    def address(self, number: int) -> str:
        return f"10.244.{number // 250}.{number % 250 + 1}"

    def service(self, namespace: str, name: str, *, headless: bool) -> str:
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        body = self._plane.cluster.service(namespace, name, ports, selector={}, headless=headless)
        return str(body["spec"]["clusterIP"])

    def put(self, item: Json) -> object:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        try:
            return self._plane.api.create(SLICES.format(namespace), item)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            return self._plane.api.patch(f"{SLICES.format(namespace)}/{name}", item)


@pytest.fixture
def names(control_plane: ControlPlane) -> DnsUnderTest:
    """The one control plane of the run, in good health; each test takes namespaces of its own."""
    return RealDns(control_plane)
