"""What every HTTP adapter keeps to, whichever client it bridges."""

__all__ = ["CONNECT", "HANDSHAKE", "KEEPALIVE", "LEAST", "PATIENCE", "SETTLE", "SMALL"]

CONNECT = 1.0
"""Seconds after which a pod that does not answer is left for another one (see `patience.py`)."""
HANDSHAKE = 5.0
"""Seconds for a TLS handshake while none was seen here: what httpx has for a connect by default."""
LEAST = 0.001
"""Seconds; zero would mean non-blocking to a socket."""
KEEPALIVE = 4.0
"""Seconds for which an idle connection is kept: below the 5 s after which common servers close theirs."""
SMALL = 65536
"""Bytes: the body of a discarded response up to this is read, so that its connection can be used again."""
PATIENCE = 0.05
"""Seconds for that; a server in trouble may never finish it."""
SETTLE = 1.0
"""Seconds for which further requests wait for the first SETTINGS of HTTP/2, which say how many there may be."""
