"""gRPC backends: a real `grpc.Server` with the user's servicers behind each pod's address.

A `grpc.Server` cannot reset a connection, refuse one, or die like a killed process. So each pod's address is held by
the same TCP front as that of an HTTP backend, and the front pumps bytes (a *tunnel* for each connection) to a
`grpc.Server` on a hidden port of loopback. What happens to connections happens in the front; what happens to calls
happens in an interceptor, which counts them, meets the faults, and asks a call's own tunnel to cut where a fault is a
cut. A pod that is killed and comes back gets a new server with new servicers, as a new process would.
"""

from __future__ import annotations

try:
    import grpc as grpc
except ImportError as error:
    raise ImportError("gRPC backends of kubelb.testing need grpcio: pip install 'kubelb[grpc]'") from error
