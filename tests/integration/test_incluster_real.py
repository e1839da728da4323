"""In a pod: the mounted token and CA are all that is needed, and the token may change at any time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from .access import Access, wait_may
from .api import ApiError
from .cluster import Cluster
from .conftest import give_up
from .controlplane import ControlPlane
from .pods import NoMountsError, Pod, TokenVolume
from .processes import wait_for
from .proxy import Proxy

ONE, TWO, THREE = "10.244.0.1", "10.244.0.2", "10.244.0.3"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"


class Start(Protocol):
    def __call__(self, volume: TokenVolume) -> Pod: ...


@pytest.fixture
def service_account(control_plane: ControlPlane, access: Access, cluster: Cluster, ns: str) -> str:
    """Two accounts that may read slices, the first one's name, and a Service `web` of one ready pod."""
    access.role(ns, "reads-slices")
    for name in ("first", "second"):
        access.bind(ns, "reads-slices", access.service_account(ns, name))
        view = control_plane.client(access.token(ns, name))
        wait_may(view, ns, "list", "watch")
        view.close()
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-1", ONE, {"app": "web"}, "node-a")
    cluster.wait_ready(ns, "web", ONE)
    return "first"


@pytest.fixture
def volume(control_plane: ControlPlane, access: Access, service_account: str, ns: str, tmp_path: Path) -> TokenVolume:
    """The mounted folder with the first account's token."""
    return TokenVolume(tmp_path / "volume", control_plane.ca_file, access.token(ns, service_account))


@pytest.fixture
def start(proxy: Proxy, ns: str) -> Iterator[Start]:
    """Start a process in a pod with that folder; it reaches the API server through the proxy."""
    with ExitStack() as stack:

        def run(volume: TokenVolume) -> Pod:
            pod = stack.enter_context(Pod(f"web.{ns}:http", volume, proxy.port))
            try:
                pod.tell()
            except NoMountsError as error:
                give_up(str(error))
            return pod

        yield run


def bearer(proxy: Proxy) -> str:
    """What the latest request carried."""
    return proxy.seen[-1].headers["authorization"].removeprefix("Bearer ")


def test_the_mounted_files_are_enough(
    cluster: Cluster, proxy: Proxy, volume: TokenVolume, start: Start, ns: str
) -> None:
    """Token and CA are found, the kubernetes package is not needed and not loaded, changes come through."""
    pod = start(volume)
    pod.wait_used(ONE)
    proxy.wait_watch()
    assert pod.tell() == {"used": [ONE], "synced": True, "error": "", "cure": "", "kubernetes": False}
    cluster.pod(ns, "web-2", TWO, {"app": "web"}, "node-b")
    assert not pod.wait_used(ONE, TWO)["kubernetes"]
    token = (volume.folder / "token").read_text()
    assert {seen.headers["authorization"] for seen in proxy.seen} == {f"Bearer {token}"}
    assert token not in pod.text


def test_a_rotated_token_is_used_from_the_next_request_on(
    cluster: Cluster, access: Access, proxy: Proxy, volume: TokenVolume, start: Start, ns: str
) -> None:
    """The file changes while a watch runs: nothing happens, and the next request carries the new token."""
    pod = start(volume)
    pod.wait_used(ONE)
    proxy.wait_watch()
    requests = len(proxy.seen)
    new = access.token(ns, "second")
    volume.write(new + "\n")  # some tools end it with a newline
    cluster.pod(ns, "web-2", TWO, {"app": "web"}, "node-b")
    pod.wait_used(ONE, TWO)
    assert len(proxy.seen) == requests
    proxy.cut()
    wait_for(lambda: len(proxy.seen) > requests)
    assert bearer(proxy) == new
    cluster.pod(ns, "web-3", THREE, {"app": "web"}, "node-b")
    pod.wait_used(ONE, TWO, THREE)
    pod.wait_well()


def test_a_revoked_token_is_told_until_a_new_one_is_mounted(
    control_plane: ControlPlane,
    cluster: Cluster,
    access: Access,
    proxy: Proxy,
    volume: TokenVolume,
    start: Start,
    ns: str,
) -> None:
    """Its ServiceAccount deleted, a token is worth nothing: endpoints stay, health says 401, a new token heals."""
    pod = start(volume)
    pod.wait_used(ONE)
    proxy.wait_watch()
    view = control_plane.client((volume.folder / "token").read_text())
    cluster.api.delete(f"/api/v1/namespaces/{ns}/serviceaccounts/first")

    def refused() -> bool:
        try:
            view.get(SLICES.format(ns))
        except ApiError as error:
            return error.status == 401
        return False

    wait_for(refused, 60.0, what="the API server to forget the token, which takes it 10 s")
    view.close()
    proxy.cut()
    told = pod.wait_error("HTTP 401")
    assert told["used"] == [ONE]
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in told["error"]
    assert "ServiceAccount still exists" in told["cure"]
    cluster.pod(ns, "web-2", TWO, {"app": "web"}, "node-b")
    volume.write(access.token(ns, "second"))
    pod.wait_used(ONE, TWO, timeout=60.0)
    pod.wait_well()


def test_an_empty_token_is_told_at_the_start(access: Access, volume: TokenVolume, start: Start, ns: str) -> None:
    """An empty file is named in health; it is read again until there is a token in it."""
    volume.write("")
    pod = start(volume)
    told = pod.wait_error("/token is empty")
    assert (told["synced"], told["used"]) == (False, [])
    volume.write(access.token(ns, "first"))
    pod.wait_used(ONE)


def test_an_empty_token_later_leaves_the_old_one_in_use(
    cluster: Cluster, proxy: Proxy, volume: TokenVolume, start: Start, ns: str
) -> None:
    """A file that is empty for a while, when a token was there before, costs a warning and nothing else."""
    pod = start(volume)
    pod.wait_used(ONE)
    proxy.wait_watch()
    old, requests = bearer(proxy), len(proxy.seen)
    volume.write("")
    proxy.cut()
    wait_for(lambda: len(proxy.seen) > requests)
    assert bearer(proxy) == old
    cluster.pod(ns, "web-2", TWO, {"app": "web"}, "node-b")
    pod.wait_used(ONE, TWO)
    pod.wait_well()
    assert "is empty; the token of" in pod.text
