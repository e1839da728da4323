"""What all tests share.

hypothesis draws the same examples in every run; no test leaves a thread of ours behind, or dials beyond loopback.
"""

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from tests.guard import loopback
from tests.integration import netns

from kubelb.discovery.dns.source import DnsDiscovery
from kubelb.discovery.kube.source import KubeDiscovery

settings.register_profile("kubelb", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kubelb")


GUARDED = not netns.inside()
"""In a network namespace of the tests' own there is nothing beyond it to be dialled."""
GUARD = Path(__file__).parent / "guard"


def pytest_configure(config: pytest.Config) -> None:
    """Guard this process and those that tests start."""
    if GUARDED:
        loopback.install("tests")
        paths = (str(GUARD), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hundreds of tests collect garbage at their end: they are spared what was loaded before the first of them.

    With its first example hypothesis looks for who refers to its sources of chance, and frozen objects refer to
    nothing: so that one comes before.
    """
    given(strategies.none())(lambda _: None)()
    gc.collect()
    gc.freeze()


def ours() -> set[threading.Thread]:
    return {
        each for each in threading.enumerate() if each.name.startswith(("kubelb-watch", "kubelb-dns", "kubelb-timer"))
    }


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """A load balancer that a test forgets to close would be found by the next test, far from its cause."""
    before = ours()
    yield
    until = time.monotonic() + 5.0
    while (left := ours() - before) and time.monotonic() < until:
        time.sleep(0.005)
    assert not left, f"left behind: {left}"


@pytest.fixture(autouse=GUARDED)
def stays_on_loopback(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A test whose code dials anything beyond loopback fails, however well that code takes the refusal.

    A ladder whose API server is late asks the nameserver of the machine: that of tests is on loopback, and refuses.
    """
    loopback.watch_grpc()
    resolv_conf = tmp_path_factory.getbasetemp() / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.1\n", encoding="ascii")
    monkeypatch.setitem(DnsDiscovery.__init__.__kwdefaults__, "resolv_conf", str(resolv_conf))
    # To ask the kernel for a route sends nothing, but looks as if it did.
    monkeypatch.setitem(DnsDiscovery.__init__.__kwdefaults__, "routed", lambda ip: True)
    monkeypatch.setitem(KubeDiscovery.__init__.__kwdefaults__, "routed", lambda ip: True)
    notes = tmp_path_factory.getbasetemp() / "off-loopback"
    notes.unlink(missing_ok=True)
    monkeypatch.setenv(loopback.NOTES, str(notes))
    yield notes
    assert not notes.exists(), f"dialled beyond loopback: {notes.read_text(encoding='utf-8')}"
