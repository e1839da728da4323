"""TLS credentials from files, for certificates that are renewed.

gRPC reads credentials once, when they are made, and a channel keeps the ones it was made with for every connection it
will ever make. So a sub-channel whose connection is gone is made anew where the files have changed since. Connections
that are open stay as they are; files that cannot be used leave what was read before in use.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc

from kubelb.adapters.tls import Fresh
from kubelb.core.events import Emit

__all__ = ["Credentials", "TlsFiles", "fresh_credentials"]

File: TypeAlias = str | Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files in place of `grpc.ChannelCredentials`, read again by the next connection when they have changed.

    `ca`: whom to trust, gRPC's own defaults where it is None. `cert` and `key`: a client certificate with its chain,
    and its private key, both or none. Raises FileNotFoundError for a file that is not there, ValueError for
    half a pair.

    >>> from kubelb.adapters import grpc
    >>> grpc.secure_channel("reviews.prod:grpc", grpc.TlsFiles()).close()
    """

    ca: File | None = None
    cert: File | None = None
    key: File | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) is not (self.key is None):
            raise ValueError(f"TlsFiles(cert={self.cert!r}, key={self.key!r}): give both or none")
        for name in ("ca", "cert", "key"):
            file = getattr(self, name)
            if file is not None and not Path(file).is_file():
                raise FileNotFoundError(f"TlsFiles({name}={str(file)!r}): no such file")


Credentials: TypeAlias = grpc.ChannelCredentials | TlsFiles


def fresh_credentials(files: TlsFiles, *, service: str, emit: Emit) -> Fresh[grpc.ChannelCredentials]:
    """Return what gives the credentials for a new connection."""
    names = tuple(str(file) for file in (files.ca, files.cert, files.key) if file is not None)
    return Fresh(lambda: _read(files), names, service=service, emit=emit)


def _read(files: TlsFiles) -> grpc.ChannelCredentials:
    # gRPC takes nonsense without a word and fails at each handshake; the ssl module says what is wrong.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.ca is not None:
        context.load_verify_locations(files.ca)
    if files.cert is not None:
        context.load_cert_chain(files.cert, files.key)
    ca, cert, key = (None if file is None else Path(file).read_bytes() for file in (files.ca, files.cert, files.key))
    return grpc.ssl_channel_credentials(ca, key, cert)
