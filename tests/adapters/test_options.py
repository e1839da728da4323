"""Options that a transport cannot be made of: an error of the constructor that names the value and the cure."""

import copy
import pickle
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.world import World

STATIC = "static:///127.0.0.1:9"


@pytest.mark.parametrize("given", [None, 5, ["10.0.0.1:80"]])
def test_neither_load_balancer_nor_target(world: World, given: Any) -> None:
    """It says what to give, and not that something has no attribute."""
    with pytest.raises(TypeError, match=r"give a kubelb.LoadBalancer, or a target such as 'reviews.prod:http'"):
        world.transport(given)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"hosts": 5}, TypeError, r"hosts=5: give a list of names"),
        ({"hosts": b"reviews"}, TypeError, r"hosts=b'reviews': give a list of names"),
        ({"hosts": [5]}, TypeError, r"hosts=\[5\]: give a name as text"),
        ({"hosts": ["a b"]}, ValueError, r"hosts=\['a b'\]: give bare names"),
        ({"hosts": ["ü" * 80]}, ValueError, r"hosts=.*: no name that DNS could have"),
        ({"server_hostname": 5}, TypeError, r"server_hostname=5: give a name as text"),
        ({"server_hostname": "reviews.prod:443"}, ValueError, r"server_hostname='reviews.prod:443': give bare names"),
        ({"server_hostname": ""}, ValueError, r"server_hostname='': give bare names"),
        ({"verify": None}, TypeError, r"verify: give a CA file or folder, an ssl.SSLContext, True or False, not None"),
        ({"verify": 0}, TypeError, r"verify: give a CA file or folder.*, not 0"),
        ({"verify": ""}, FileNotFoundError, r"verify='': no such CA file or folder"),
        ({"cert": 5}, TypeError, r"cert: give the path of a PEM file, not int"),
        ({"cert": ("a",)}, TypeError, r"cert= of 1 parts: give a file, \(certificate, key\) or"),
        ({"limits": 10}, TypeError, r"limits=10: give the client's own Limits"),
    ],
)
def test_options_of_another_kind(world: World, options: dict[str, Any], kind: type[Exception], said: str) -> None:
    """Each is named."""
    with pytest.raises(kind, match=said):
        world.transport(STATIC, **options)


@pytest.mark.parametrize("most", [0, -1, "x"])
def test_limits_under_which_nothing_would_be_sent(world: World, most: Any) -> None:
    """httpcore would let every request wait, for ever where it has no timeout."""
    with pytest.raises(ValueError, match=r"limits=.*max_connections must be 1 or more, or None"):
        world.transport(STATIC, limits=world.httpx.Limits(max_connections=most))
    world.transport(STATIC, limits=world.httpx.Limits(max_connections=None))


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_transport_is_not_pickled(world: World, way: Any) -> None:
    """It says why, and what to do."""
    with pytest.raises(TypeError, match="it holds connections; make one in each process instead"):
        way(world.transport(STATIC))


def test_http2_without_its_package(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at once, not by each request."""
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(ImportError, match=rf"http2=True needs h2: pip install '{world.name}\[http2\]'"):
        world.transport(STATIC, http2=True)


def test_files_that_say_nothing_to_tls(world: World, tmp_path: Path) -> None:
    """The constructor's error, with the option and the file: no request would work, and no pod is to blame."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(ssl.SSLError, match=r"verify='.*nonsense\.pem': .*NO_CERTIFICATE"):
        world.transport(STATIC, verify=nonsense)
    with pytest.raises(ssl.SSLError, match=r"cert=\('.*nonsense\.pem',\): .*PEM"):
        world.transport(STATIC, cert=nonsense)


@pytest.mark.parametrize("option", ["verify", "cert"])
def test_what_is_in_a_file_in_place_of_its_path(world: World, option: str) -> None:
    """It may be a private key, so nothing of it is repeated."""
    with pytest.raises(ValueError, match=rf"{option}: give the path of a PEM file, not what is in it") as caught:
        world.transport(STATIC, **{option: "-----BEGIN PRIVATE KEY-----\nsecret\n"})
    assert "secret" not in str(caught.value)
