"""Names and attributes: what is told of a call, and what is not."""

import grpc
import httpx
import pytest

import kubelb
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


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


class Status(grpc.RpcError):
    """A gRPC error whose status is what is given, or is raised."""

    def __init__(self, status: object) -> None:
        self.status = status

    def code(self) -> object:
        if isinstance(self.status, Exception):
            raise self.status
        return self.status


def refusal_as(client: type[Exception], ours: type[Exception]) -> Exception:
    """A refusal that is also what a client's users catch; it has one name whatever the client."""
    return type("NotReady", (ours, client), {"__init__": lambda self: None})()


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectionRefusedError("s3cret"), "ConnectionRefusedError"),
        (httpx.ReadTimeout("s3cret"), "httpx.ReadTimeout"),
        (kubelb.NeverSent("s3cret"), "kubelb.errors.NeverSent"),
        (caused(kubelb.NeverSent(), ConnectionResetError("s3cret")), "ConnectionResetError"),
        (Status(grpc.StatusCode.UNAVAILABLE), "UNAVAILABLE"),
        (Status(None), f"{__name__}.Status"),
        (Status(ValueError("s3cret")), f"{__name__}.Status"),
        (SystemExit(3), "SystemExit"),
        (refusal_as(httpx.ConnectError, kubelb.NotReady), "kubelb.errors.NotReady"),
    ],
)
def test_error_type(error: BaseException, name: str) -> None:
    """What metrics say of an exception is what users can say of it in theirs: never its words, and it never raises."""
    assert kubelb.error_type(error) == name
    assert raised(error) == {"error.type": name}
