"""TLS credentials from files, for certificates that are renewed.

gRPC reads credentials once, when they are made, and a channel keeps the ones it was made with for every connection it
will ever make. So a sub-channel whose connection is gone is made anew where the files have changed since. Connections
that are open stay as they are; files that cannot be used leave what was read before in use.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from kubelb.adapters.tls import File, Fresh, check_path, failing_at
from kubelb.core.events import Emit
from kubelb.printable import shown

__all__ = ["Credentials", "TlsFiles", "check_credentials", "fresh_credentials"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files in place of `grpc.ChannelCredentials`, read again by the next connection when they have changed.

    `ca`: authorities to trust, gRPC's own defaults where it is None. `cert` and `key`: a client certificate with its
    chain, and its private key, both or none. Raises FileNotFoundError for a file that is not there, ValueError for
    half a pair or for what is in a file in place of its path; `secure_channel` raises ssl.SSLError for one that cannot
    be used.

    >>> from kubelb.adapters import grpc
    >>> grpc.secure_channel("reviews.prod:grpc", grpc.TlsFiles()).close()
    """

    ca: File | None = None
    cert: File | None = None
    key: File | None = None

    def __post_init__(self) -> None:
        given = {name: file for name in ("ca", "cert", "key") if (file := getattr(self, name)) is not None}
        for name, file in given.items():
            check_path(f"TlsFiles({name}=)", file)
        if (self.cert is None) is not (self.key is None):
            raise ValueError(f"TlsFiles(cert={shown(self.cert)}, key={shown(self.key)}): give both or none")
        for name, file in given.items():
            if not Path(file).is_file():
                raise FileNotFoundError(f"TlsFiles({name}={shown(str(file))}): no such file")


Credentials: TypeAlias = grpc.ChannelCredentials | TlsFiles


def check_credentials(credentials: Any) -> None:
    """Raise TypeError for what are none; None above all, which would be a channel without TLS."""
    if not isinstance(credentials, Credentials):
        raise TypeError(
            "as credentials give grpc.ssl_channel_credentials(...) or TlsFiles(...), "
            f"not {type(credentials).__name__}; without TLS it is insecure_channel"
        )


def fresh_credentials(files: TlsFiles, *, service: str, emit: Emit) -> Fresh[grpc.ChannelCredentials]:
    """Return what gives the credentials for a new connection; raises ssl.SSLError for files that cannot be used.

    They are looked at now, or each call would raise what is the constructor's error. The credentials themselves are
    made later: they begin gRPC, and a fork should come before that.
    """
    _understood(files)
    names = tuple(str(file) for file in (files.ca, files.cert, files.key) if file is not None)
    return Fresh(lambda: _read(files), names, service=service, emit=emit)


def _read(files: TlsFiles) -> grpc.ChannelCredentials:
    _understood(files)
    ca, cert, key = (None if file is None else Path(file).read_bytes() for file in (files.ca, files.cert, files.key))
    return grpc.ssl_channel_credentials(ca, key, cert)


def _understood(files: TlsFiles) -> None:
    """Raise for files that say nothing to TLS: gRPC takes nonsense without a word, and fails at each handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if files.ca is not None:
            context.load_verify_locations(files.ca)
    except OSError as error:
        raise failing_at("TlsFiles: ca", str(files.ca), error) from error
    try:
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key)
    except OSError as error:
        raise failing_at("TlsFiles: cert, key", (str(files.cert), str(files.key)), error) from error
