"""A fixed list is synced from the start and never fails."""

from kubelb.discovery.static import StaticDiscovery
from kubelb.model import Endpoint

from .build import authorities


def test_one_snapshot():
    """The list comes once, canonical and without duplicates, and again after another start."""
    source = StaticDiscovery(
        [("10.0.0.1", 80), ("FD00:0::1", 80), ("10.0.0.1", 80), Endpoint("10.0.0.2", 81, zone="z")]
    )
    calls = []
    source.start(lambda: calls.append(1))
    snapshot, due = source.poll(0.0)
    assert calls == [1]
    assert due is None
    assert authorities(snapshot.endpoints) == ["10.0.0.1:80", "10.0.0.2:81", "[fd00::1]:80"]
    assert (snapshot.exists, snapshot.problem) == (True, "")
    assert source.poll(1.0) == (None, None)
    assert source.health().synced
    source.resync_now()
    source.stop()
    source.start(lambda: None)
    assert source.poll(2.0)[0] == snapshot


def test_an_empty_list_says_so():
    """No address at all is a problem in words."""
    snapshot, _ = StaticDiscovery([]).poll(0.0)
    assert snapshot.problem
