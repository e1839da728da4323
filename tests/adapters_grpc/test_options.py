"""Options that a channel cannot be made of: an error of the constructor that names the value and the cure.

gRPC would look at most of them when the first connection is made: in a call, or in the thread that brings news of pods.
"""

import copy
import pickle
import ssl
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import TlsFiles, aio

Interceptor = grpc.aio.UnaryUnaryClientInterceptor
TARGET = "static:///127.0.0.1:9"


@pytest.mark.parametrize("room", [balanced, aio])
@pytest.mark.parametrize(
    "credentials", [None, 5, "ca.pem", b"-----BEGIN secret", grpc.access_token_call_credentials("secret")]
)
def test_a_secure_channel_is_never_without_tls(room: Any, credentials: Any) -> None:
    """None least of all: calls would go out in the clear. What may be a key is not repeated."""
    with pytest.raises(TypeError, match=r"as credentials give grpc.ssl_channel_credentials\(...\) or") as caught:
        room.secure_channel(TARGET, credentials)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("room", [balanced, aio])
@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"options": 5}, TypeError, r"options=5: give pairs, such as"),
        ({"options": {"grpc.keepalive_time_ms": 1}}, TypeError, r"options={'grpc.keepalive_time_ms': 1}: give pairs"),
        ({"options": [("grpc.keepalive_time_ms",)]}, TypeError, r"options=\[\('grpc.keepalive_time_ms',\)\]: give"),
        ({"options": [(5, 5)]}, TypeError, r"options=\[\(5, 5\)\]: give pairs"),
        ({"options": [("grpc.x", None)]}, TypeError, r"options=\[\('grpc.x', None\)\]: give an int or a str"),
        ({"options": [("grpc.x", 1e3)]}, TypeError, r"options=\[\('grpc.x', 1000.0\)\]: give an int or a str"),
        ({"options": [("grpc.x", 1 << 31)]}, ValueError, r"options=\[\('grpc.x', 2147483648\)\]: give an int of 32"),
        ({"compression": "gzip"}, TypeError, r"compression='gzip': give a grpc.Compression"),
        ({"compression": 5}, TypeError, r"compression=5: give a grpc.Compression"),
        ({"idempotent": None}, TypeError, r"idempotent=None: give a list of methods, or True"),
        ({"idempotent": [5]}, TypeError, r"idempotent=\[5\]: give texts such as"),
        ({"idempotent": ["/shop.*/Get"]}, ValueError, r"idempotent=\['/shop.\*/Get'\]: give full names"),
        ({"idempotent": ["/shop.Reviews/Get*"]}, ValueError, r"idempotent=\['/shop.Reviews/Get\*'\]: give full"),
    ],
)
def test_options_of_another_kind(room: Any, options: dict[str, Any], kind: type[Exception], said: str) -> None:
    """Each is named; a pattern that would match nothing is one of them."""
    with pytest.raises(kind, match=said):
        room.insecure_channel(TARGET, **options)


@pytest.mark.parametrize("room", [balanced, aio])
def test_options_as_grpc_has_them(room: Any) -> None:
    """Names and texts may be bytes, and what gRPC wraps for itself is left to it."""
    made = room.insecure_channel(
        TARGET,
        [(b"grpc.keepalive_time_ms", 30000), ("grpc.default_authority", "reviews")],
        grpc.Compression.NoCompression,
        idempotent=["/shop.Reviews/Get", "/shop.Reviews/*"],
    )
    assert made._options[-2:] == ((b"grpc.keepalive_time_ms", 30000), ("grpc.default_authority", "reviews"))


@pytest.mark.parametrize("room", [balanced, aio])
@pytest.mark.parametrize("given", [None, 5])
def test_neither_load_balancer_nor_target(room: Any, given: Any) -> None:
    """It says what to give, and not that something has no attribute."""
    with pytest.raises(TypeError, match=r"give a kubelb.LoadBalancer, or a target such as 'reviews.prod:http'"):
        room.insecure_channel(given)


@pytest.mark.parametrize("given", [5, [5], Interceptor, [Interceptor]])
def test_interceptors_that_are_none(given: Any) -> None:
    """A class, for one, in the place of its object."""
    with pytest.raises(TypeError, match=r"interceptors=.*: give "):
        aio.insecure_channel(TARGET, interceptors=given)


@pytest.mark.parametrize("room", [balanced, aio])
@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_channel_is_not_pickled(room: Any, way: Any) -> None:
    """It says why, and what to do."""
    with pytest.raises(TypeError, match="it holds connections; make one in each process instead"):
        way(room.insecure_channel(TARGET))


@pytest.mark.parametrize("room", [balanced, aio])
def test_files_that_say_nothing_to_tls(room: Any, tmp_path: Path) -> None:
    """The constructor's error, with the option and the file, and not each call's."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(ssl.SSLError, match=r"TlsFiles: ca='.*nonsense\.pem': .*NO_CERTIFICATE"):
        room.secure_channel(TARGET, TlsFiles(ca=nonsense))
    with pytest.raises(ssl.SSLError, match=r"TlsFiles: cert, key=\('.*nonsense\.pem', '.*nonsense\.pem'\): .*PEM"):
        room.secure_channel(TARGET, TlsFiles(cert=nonsense, key=nonsense))


@pytest.mark.parametrize("given", [5, b"-----BEGIN secret", "-----BEGIN PRIVATE KEY-----\nsecret"])
def test_what_is_in_a_file_in_place_of_its_path(given: Any) -> None:
    """`grpc.ssl_channel_credentials` takes contents; here they are refused without a word of them."""
    with pytest.raises((TypeError, ValueError), match=r"TlsFiles\(key=\): give the path of a PEM file") as caught:
        TlsFiles(key=given)
    assert "secret" not in str(caught.value)
