"""requests: every request picks its own endpoint.

    import requests, kubelb
    from kubelb.adapters.requests import mount

    session = requests.Session()
    mount(session, kubelb.LoadBalancer("reviews.prod:http"))
    session.get("http://reviews.prod/ratings/7")

URL, Host, SNI, certificate check, cookies and redirects keep the service's name; only the address that is dialled is
the pod's.
"""

from collections.abc import Iterable
from typing import Any

try:
    import requests
except ImportError as error:
    raise ImportError("kubelb.adapters.requests needs requests: pip install 'kubelb[requests]'") from error

from kubelb.adapters._requests.answered import Answered, answered_by
from kubelb.adapters._requests.sending import Sending
from kubelb.adapters.sockets import SocketOption, keep_alive
from kubelb.adapters.tls import Cert, Verify
from kubelb.discovery.base import Discovery
from kubelb.loadbalancer import LoadBalancer

__all__ = ["Adapter", "Answered", "answered_by", "keep_alive", "mount"]


class Adapter(Sending):
    """A transport adapter for `requests.Session`; `mount` puts it where it belongs.

    `lb_or_target` is a LoadBalancer, which stays the caller's, or a target, for one of its own. Options:

    - `hosts`: names it serves; by default those of the service, any for ``static:///``. Other hosts raise;
    - `server_hostname`: name for SNI and the certificate check, where it is not the URL's host;
    - `verify`, `cert`: CAs and client certificate, where the session's own are left at their defaults;
    - `pool_maxsize`: connections kept per endpoint; more are opened where more run at once, and not kept;
    - `socket_options`: of every connection, as urllib3 has them, after TCP_NODELAY; by default those of `keep_alive()`,
      by which a pod whose node has vanished is found within a minute, and one that is slow to answer is never cut off.

    The largest part of ``timeout=`` bounds all tries up to the headers. The connect part of a pair of two numbers is
    kept, by TCP and the TLS handshake each; else a pod that does not answer is left for another one after 1 s (TCP) or
    5 s (a handshake, as long as none has shown how quick it can be). No pod is shown a Proxy-Authorization header.

    One adapter may serve many sessions and threads. `kubelb.hints` around a call are honoured. `answered_by(response)`
    tells the endpoint and the number of attempts. When tries end the last one's own response or exception comes back;
    where kubelb refused, a `kubelb.LoadBalancerError` that is also a `requests.ConnectionError` or a
    `requests.Timeout`.

    >>> with requests.Session() as session:
    ...     session.mount("http://reviews.prod/", Adapter("static:///127.0.0.1:9,127.0.0.2:9"))
    ...     try:
    ...         session.get("http://reviews.prod/")
    ...     except requests.ConnectionError as error:
    ...         len(error.__notes__)
    2
    """

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled or copied: it holds connections; make one in each process instead")


def mount(
    session: requests.Session,
    lb_or_target: LoadBalancer | Discovery | str,
    *,
    hosts: Iterable[str] | None = None,
    server_hostname: str | None = None,
    verify: Verify = True,
    cert: Cert = None,
    pool_maxsize: int = 10,
    socket_options: Iterable[SocketOption] | None = None,
) -> Adapter:
    """Mount an `Adapter` on a session for exactly the names of its service, http and https; returns it.

    A session matches by the prefix of the URL, so a mount at ``http://reviews.prod`` would take
    ``http://reviews.prod.evil.example`` along. Here each name is mounted with the slash behind it, and with a colon for
    any port; what else such a prefix may catch, the adapter refuses. Raises `ValueError` where there are no names (a
    static list without `hosts`).

    >>> session = requests.Session()
    >>> mount(session, "static:///127.0.0.1:9", hosts=["reviews.prod"])
    <Adapter static:///127.0.0.1:9 endpoints=0>
    >>> session.close()
    """
    if not isinstance(session, requests.Session):
        raise TypeError(f"mount(session, lb): give a requests.Session first, not {type(session).__name__}")
    adapter = Adapter(
        lb_or_target,
        hosts=hosts,
        server_hostname=server_hostname,
        verify=verify,
        cert=cert,
        pool_maxsize=pool_maxsize,
        socket_options=socket_options,
    )
    if not adapter.hosts:
        raise ValueError(
            f"mount(session, {str(adapter.lb.target)!r}): it has no name in the cluster's DNS; give hosts=['NAME']"
        )
    for name in sorted(adapter.hosts):
        host = f"[{name}]" if ":" in name else name
        for scheme in ("http", "https"):
            for end in ("/", ":", "./", ".:"):  # a name may have its final dot
                session.mount(f"{scheme}://{host}{end}", adapter)
    return adapter
