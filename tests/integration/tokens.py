"""Tokens of a kind that an API server gives to nobody."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def expired(token: str, key_file: Path, seconds: int = 7200) -> str:
    """The same ServiceAccount token as it was given out so long ago, rightly signed."""
    head, body, _ = token.split(".")
    claims = json.loads(_decode(body))
    claims |= {name: claims[name] - seconds for name in ("exp", "iat", "nbf")}
    signed = f"{head}.{_encode(json.dumps(claims).encode())}"
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    size = (key.curve.key_size + 7) // 8
    numbers = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_encode(b''.join(number.to_bytes(size, 'big') for number in numbers))}"


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
