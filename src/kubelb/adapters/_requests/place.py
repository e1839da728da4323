"""Where a request goes, by its URL: what decides whether it is for this service, and what it is called on the way."""

from typing import Any, NamedTuple
from urllib.parse import urlsplit

from requests.exceptions import InvalidSchema, InvalidURL

from kubelb.masking import safe_url

__all__ = ["Place", "place_of"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Place(NamedTuple):
    """Where a request goes, by its URL."""

    tls: bool
    name: str
    """The host, lower case, without brackets and a final dot."""
    authority: str
    """What belongs into the Host header: no credentials, no default port."""
    port: int | None
    """As the URL has it."""


def place_of(request: Any) -> Place:
    """Read the URL. A host is what stands behind the last ``@`` and before the port, whatever a prefix looks like.

    Raises requests' InvalidURL and InvalidSchema.
    """
    try:
        parts = urlsplit(request.url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # its words repeat what stands where a port should
        parts = None
    if parts is None:
        raise InvalidURL(f"{safe_url(request.url)!r} has no host and port that make sense", request=request)
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidSchema(f"{safe_url(request.url)!r}: kubelb speaks http and https", request=request)
    authority = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        authority = f"{authority}:{port}"
    return Place(parts.scheme == "https", host.rstrip("."), authority, port)
