"""Options that an adapter cannot be made of: an error that names the value and the cure."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import requests

from kubelb.adapters.requests import Adapter, mount

STATIC = "static:///127.0.0.1:9"


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"hosts": [5]}, TypeError, r"hosts=\[5\]: give a name as text"),
        ({"server_hostname": 5}, TypeError, r"server_hostname=5: give a name as text"),
        ({"verify": None}, TypeError, r"verify: give a CA file or folder, an ssl.SSLContext, True or False, not None"),
        ({"cert": ("a",)}, TypeError, r"cert= of 1 parts: give a file, \(certificate, key\) or"),
        ({"cert": ("a", "-----BEGIN PRIVATE KEY-----")}, ValueError, r"cert: give the path of a PEM file, not what"),
        ({"pool_maxsize": "10"}, ValueError, r"pool_maxsize='10': give 1 or more"),
    ],
)
def test_options_of_another_kind(options: dict[str, Any], kind: type[Exception], said: str) -> None:
    """Each is named."""
    with pytest.raises(kind, match=said):
        Adapter(STATIC, **options)


@pytest.mark.parametrize("given", [None, 5, requests.Session()])
def test_neither_load_balancer_nor_target(given: Any) -> None:
    """It says what to give, and not that something has no attribute."""
    with pytest.raises(TypeError, match=r"give a kubelb.LoadBalancer, or a target such as 'reviews.prod:http'"):
        Adapter(given)


def test_mount_needs_a_session() -> None:
    """Also where its arguments are in the wrong order."""
    with pytest.raises(TypeError, match=r"mount\(session, lb\): give a requests.Session first, not str"):
        mount(STATIC, requests.Session(), hosts=["reviews.prod"])  # type: ignore[arg-type]


def test_files_that_say_nothing_to_tls(session, service, balance, tmp_path: Path) -> None:
    """The constructor's error, or the call's where the session has them; no pod is to blame and none is tried."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(ssl.SSLError, match=r"verify='.*nonsense\.pem': .*NO_CERTIFICATE"):
        Adapter(STATIC, verify=nonsense)
    with pytest.raises(ssl.SSLError, match=r"cert=\('.*nonsense\.pem',\): .*PEM"):
        Adapter(STATIC, cert=nonsense)
    lb = balance(*service(1))
    client = session(lb)
    with pytest.raises(requests.exceptions.SSLError, match=r"verify='.*nonsense\.pem'"):
        client.get("https://reviews.prod/", verify=str(nonsense), timeout=5)
    assert [(view.picks, view.failures) for view in lb.endpoints()] == [(0, 0)]


def test_a_pair_given_as_a_list(tmp_path: Path) -> None:
    """As httpx and requests take it: it is looked at like a tuple."""
    with pytest.raises(FileNotFoundError, match=r"cert='.*none\.pem': no such"):
        Adapter(STATIC, cert=[str(tmp_path / "none.pem"), "key.pem"])  # type: ignore[arg-type]
