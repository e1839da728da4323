"""TLS for requests, where `verify` and `cert` may differ from call to call.

A connection is used again only under the server name, `verify` and `cert` that it was opened with. So an endpoint has a
pool for each combination in use, and these share one SSLContext for each `verify` and `cert`: making one costs 30 ms.
"""

import os
import ssl
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util import create_urllib3_context

from kubelb.adapters._requests.connections import tls_pool
from kubelb.adapters.tls import Fresh, check_files, files_of, fresh_context
from kubelb.core.events import Emit
from kubelb.model import Address

__all__ = ["Contexts", "Secured", "TlsPools"]


class Secured(NamedTuple):
    """What a TLS connection must have been opened with; `contexts` stands for `verify` and `cert`."""

    name: str
    contexts: Fresh[ssl.SSLContext]


class Contexts:
    """SSLContexts by `verify` and `cert`; the adapter's own options stand in where the call's are at their default."""

    def __init__(self, verify: Any, cert: Any, *, service: str, emit: Emit) -> None:
        self._verify = verify
        self._cert = tuple(cert) if isinstance(cert, list) else cert
        self._service = service
        self._emit = emit
        self._made: dict[Any, Fresh[ssl.SSLContext]] = {}
        self.after_fork_in_child()
        check_files(verify, cert)
        if files_of(verify, cert):
            self.get(True, None)  # what cannot be used is the constructor's error

    def after_fork_in_child(self) -> None:
        """A lock that a thread of the parent held would never be released."""
        self._lock = threading.Lock()

    def get(self, verify: Any, cert: Any) -> Fresh[ssl.SSLContext]:
        """Return what gives the contexts for the connections of a call.

        Raises FileNotFoundError for a file that is not there, ssl.SSLError for one that cannot be used, ValueError for
        a `cert` beside an SSLContext: loaded into it, the certificate would be shown by the connections of every other
        call.
        """
        if verify is None or verify is True or (self._verify is not True and verify == _from_environment()):
            verify = self._verify
        if cert is None:
            cert = self._cert
        elif isinstance(verify, ssl.SSLContext):
            raise ValueError("cert= of a session or a call: the adapter's verify= is an SSLContext; load it into that")
        elif isinstance(cert, list):
            cert = tuple(cert)
        try:
            return self._made[verify, cert]
        except KeyError:
            with self._lock:
                if (verify, cert) not in self._made:
                    self._made[verify, cert] = fresh_context(
                        verify, cert, _default_context, service=self._service, emit=self._emit
                    )
                return self._made[verify, cert]


class TlsPools:
    """The TLS pools of one endpoint; `options` are urllib3's."""

    def __init__(self, address: Address, options: Mapping[str, Any]) -> None:
        self._address = address
        self._options = options
        self._lock = threading.Lock()
        self._pools: dict[Secured, Any] = {}

    def get(self, secured: Secured) -> Any:
        """Return the pool for these, made on first use."""
        try:
            return self._pools[secured]
        except KeyError:
            with self._lock:
                if secured not in self._pools:
                    self._pools[secured] = tls_pool(self._address, self._options, secured.contexts, secured.name)
                return self._pools[secured]

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()


def _from_environment() -> str | None:
    """The CAs that a session with ``trust_env`` puts in the place of ``verify=True``: a default all the same."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")


def _default_context() -> ssl.SSLContext:
    """What requests itself would use."""
    context: ssl.SSLContext = create_urllib3_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context
