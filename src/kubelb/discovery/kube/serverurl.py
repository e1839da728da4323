"""Where the API server is, from what stands under ``server:``: more than URLs, for client-go (rest/url_utils.go).

127.0.0.1:8001                      https where the cluster has a CA, a client certificate or skips TLS checks,
                                    else http
https://rancher.test/k8s/clusters/c-1/      the path is put in front of every request; the last slash is not
HTTPS://api.test?x=1#y              a scheme has no case; a query and a fragment mean nothing
"""

import re

from kubelb.discovery.kube.access import CredentialsError
from kubelb.masking import without_userinfo

__all__ = ["server_url"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def server_url(server: str, *, tls: bool, origin: str) -> str:
    """Return the URL to put a path behind; raises `CredentialsError`. `tls`: what is known without a scheme.

    >>> server_url("10.0.0.1:6443", tls=True, origin="a file"), server_url("localhost:8001", tls=False, origin="a file")
    ('https://10.0.0.1:6443', 'http://localhost:8001')
    >>> server_url("HTTPS://api.test/base/?x=1", tls=False, origin="a file")
    'https://api.test/base'
    """
    server = without_userinfo(server)  # of the whole: what is cut off below may be the second half of a password
    found = _SCHEME.fullmatch(server)
    scheme, rest = (found[1].lower(), found[2]) if found else ("https" if tls else "http", server)
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = place.partition("/")
    if "@" in rest[len(place) :]:  # HOST?x=a@b, or a token with a '?' in it before HOST: it is not dialled to find out
        raise CredentialsError(
            f"the server of {origin} has an '@' behind a '?' or '#', as a login that is not encoded has",
            "give https://HOST:PORT; a login there is of no use to Kubernetes",
        )
    if scheme not in {"http", "https"}:
        raise CredentialsError(f"the server of {origin} has the scheme {scheme}", "give https://HOST:PORT")
    slip = not found and host.lower() in {"http:", "https:"}  # a scheme with a slash too few, and not a host
    if slip or not host.rpartition("@")[2] or not host.isprintable() or " " in host:
        raise CredentialsError(f"the server of {origin} has no host", "give https://HOST:PORT")
    if path and not found:  # HOST:PORT/PATH is refused by client-go, too: HOST may be meant as a scheme
        shown, cure = (f": {place}", f"{scheme}://{place}") if "@" not in place else ("", "https://HOST:PORT/PATH")
        raise CredentialsError(f"the server of {origin} has a path and no scheme{shown}", f"give {cure}")
    return f"{scheme}://{host}{slash}{path}".rstrip("/")
