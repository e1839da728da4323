"""Names and attributes: what is told of a call, and what is not."""

import httpx
import pytest

from kubelb.telemetry.conventions import http, raised, rpc, rpc_raised, safe_url


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://reviews.prod/ratings/7", "http://reviews.prod/ratings/7"),
        ("https://ada:s3cret@reviews.prod:8443/a?token=s3cret#s3cret", "https://reviews.prod:8443/a"),
        ("http://s3cret@[::1]:80/", "http://[::1]:80/"),
        ("http://a@s3cret@reviews.prod/", "http://reviews.prod/"),
    ],
)
def test_urls(url: str, told: str) -> None:
    """Without credentials, query and fragment, whichever client's URL it is."""
    assert safe_url(url) == told
    assert "s3cret" not in safe_url(httpx.URL(url))


@pytest.mark.parametrize(("scheme", "port", "told"), [("http", None, 80), ("https", None, 443), ("http", 8080, 8080)])
def test_ports(scheme: str, port: int | None, told: int) -> None:
    """The scheme's own where the URL has none."""
    wire = http("GET", scheme, "reviews.prod", port, "", instrumented=False)
    assert wire.attributes["server.port"] == told


def test_rpc() -> None:
    """A port's name is no port; a list of addresses has no name."""
    assert rpc("/pkg.Service/Method", "reviews.prod", 50051).attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "pkg.Service/Method",
        "server.address": "reviews.prod",
        "server.port": 50051,
    }
    assert rpc("/pkg.Service/Method", "", "grpc").attributes.keys() == {"rpc.system.name", "rpc.method"}


def test_exceptions() -> None:
    """The name of the class; a status where a gRPC error has one."""
    assert raised(KeyError("s3cret")) == {"error.type": "KeyError"}
    assert raised(httpx.ReadTimeout("s3cret")) == {"error.type": "httpx.ReadTimeout"}
    assert rpc_raised(KeyError("s3cret")) == {"error.type": "KeyError"}
