"""The proxy passes on what it should and breaks what it is told to, or the tests behind it would prove nothing."""

from __future__ import annotations

import socket
import threading

import pytest
import urllib3

from .api import Api
from .controlplane import ControlPlane
from .processes import wait_for
from .proxy import Proxy

SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


def test_it_passes_on_and_notes_what_is_asked(control_plane: ControlPlane, proxy: Proxy) -> None:
    """Answers come through whole; target and headers of every request are there to be read."""
    api = Api(proxy.url, control_plane.ca_file, control_plane.admin_token)
    assert api.get(SLICES, limit=500)["kind"] == "EndpointSliceList"
    assert api.get("/version")["major"] == "1"
    assert [seen.target for seen in proxy.seen] == [f"{SLICES}?limit=500", "/version"]
    assert {seen.headers["authorization"] for seen in proxy.seen} == {f"Bearer {control_plane.admin_token}"}
    assert proxy.connections == 1
    api.close()


def test_every_fault_is_one_and_heals(control_plane: ControlPlane, proxy: Proxy) -> None:
    """Cut, slow, stalled, deaf or a black hole: a request fails or waits, and the next one after `heal` is answered."""
    api, hasty = (
        Api(proxy.url, control_plane.ca_file, control_plane.admin_token, timeout=seconds) for seconds in (10.0, 0.5)
    )
    proxy.cut_lists = 1
    with pytest.raises(urllib3.exceptions.ProtocolError):
        api.get(SLICES)
    assert api.get(SLICES)["kind"] == "EndpointSliceList"
    for fault in ("stalled", "deaf"):
        proxy.cut()
        setattr(proxy, fault, True)
        with pytest.raises((urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError)):
            hasty.get(SLICES)
        proxy.heal()
        assert api.get(SLICES)["kind"] == "EndpointSliceList"
    proxy.pause = 0.001
    assert api.get("/version")["major"] == "1"
    proxy.black_hole()
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=0.5)
    proxy.heal()
    assert api.get(SLICES)["kind"] == "EndpointSliceList"
    api.close()
    hasty.close()


def test_it_ends_without_a_trace(control_plane: ControlPlane) -> None:
    """Neither a thread nor a task is left, whatever was open."""
    with Proxy(control_plane.url, control_plane.certificate, control_plane.ca_file) as proxy:
        connection = socket.create_connection(("127.0.0.1", proxy.port))
        wait_for(lambda: proxy.connections)
    connection.close()
    assert not any(thread.name == "proxy" for thread in threading.enumerate())
