"""TLS for a test cluster: one certificate authority, made when it is first needed, by trustme."""

from __future__ import annotations

import ssl
from functools import cached_property
from pathlib import Path

from kubelb.testing.kubeconfig import write_private

CLIENT = "client.kubelb.testing"
"""The name in the client certificate."""


class Authority:
    """Issues server certificates; the CA certificate lies in `directory`/ca.crt. Raises `ImportError` with the cure."""

    def __init__(self, directory: Path) -> None:
        try:
            import trustme  # an extra, and slow to import: only a test that asks for TLS pays
        except ImportError as error:
            raise ImportError("TLS in kubelb.testing needs trustme: pip install 'kubelb[testing]'") from error
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes().decode()
        self.file = directory / "ca.crt"
        self.file.write_text(self.pem)

    def server_context(self, *names: str, mutual: bool = False) -> ssl.SSLContext:
        """A context for a server that is called by any of `names` (DNS names or addresses).

        `mutual`: it wants a certificate of this authority from its clients, too.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols(["http/1.1"])
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context

    def server_pair(self, *names: str) -> tuple[bytes, bytes]:
        """Private key and certificate chain, as PEM, for a server that terminates TLS itself."""
        cert = self._ca.issue_cert(*names)
        return cert.private_key_pem.bytes(), b"".join(blob.bytes() for blob in cert.cert_chain_pems)

    @cached_property
    def client_files(self) -> tuple[Path, Path]:
        """Certificate and private key of a client, made when they are first asked for."""
        cert, files = self._ca.issue_cert(CLIENT), (self.file.parent / "client.crt", self.file.parent / "client.key")
        write_private(files[0], b"".join(blob.bytes() for blob in cert.cert_chain_pems).decode())
        write_private(files[1], cert.private_key_pem.bytes().decode())
        return files
