"""What is around this process: the nameserver, the way to the endpoints, a sidecar that speaks for it."""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from threading import Thread
from typing import NamedTuple

from kubelb.cli.doctor.finding import Finding, bad, good, note
from kubelb.model import Endpoint

__all__ = ["MESHES", "Mesh", "look_around", "look_up", "reach"]

PATIENCE = 3.0
"""Seconds for a name, a connection, an answer."""
REFUSED = os.strerror(errno.ECONNREFUSED)
NO_WAY = "run inside the cluster's network: pods' addresses have no route from elsewhere; or see NetworkPolicy"
NOT_LISTENING = (
    "the hosts answer, and nothing listens there: is it the pods' own port, do they listen on their own address and "
    "not on 127.0.0.1 alone, and have they started?"
)
MOST = 20
"""Endpoints that are tried; a Service of thousands need not be knocked at."""


class Mesh(NamedTuple):
    """How a sidecar is known: it answers this on the loopback of its pod, which all containers share."""

    name: str
    port: int
    path: str


MESHES = (
    Mesh("Istio", 15021, "/healthz/ready"),  # istio.io, "Ports used by Istio": health checks
    Mesh("Linkerd", 4191, "/ready"),  # linkerd.io, "Proxy Configuration": the admin port
)


def look_up(name: str, cure: str) -> Finding:
    """Ask the system's resolver; only steps down from EndpointSlices need it, and `cure` says whether they are due."""
    found: list[str] = []
    failed: list[str] = []

    def ask() -> None:
        try:
            found.extend(str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failed.append(str(error))

    thread = Thread(target=ask, name="kubelb-doctor", daemon=True)  # a look-up cannot be interrupted
    thread.start()
    thread.join(PATIENCE)
    if found:
        return good("DNS", f"{name} is {', '.join(sorted(set(found))[:5])}")
    why = failed[0] if failed else f"no answer in {PATIENCE:g} s"
    return note("DNS", f"{name} does not resolve: {why}", cure)


def reach(endpoints: Sequence[Endpoint]) -> Iterator[Finding]:
    """Knock at the endpoints: pods have addresses of their own, which a laptop, say, has no route to."""
    if not endpoints:
        return
    tried = endpoints[:MOST]
    with ThreadPoolExecutor(len(tried)) as pool:
        answers = list(pool.map(_knock, tried))
    failed = [(endpoint.authority, answer) for endpoint, answer in zip(tried, answers, strict=True) if answer]
    text = f"{len(tried) - len(failed)} of {len(tried)} endpoints accept a connection"
    if not failed:
        yield good("network", text)
        return
    where, why = failed[0]
    text += f"; {where}: {why}"
    if len(failed) < len(tried):
        yield note("network", text, "kubelb passes over what refuses; see whether those pods are well")
    else:
        refused = all(answer == REFUSED for _, answer in failed)
        yield bad("network", text, NOT_LISTENING if refused else NO_WAY)


def look_around(meshes: Sequence[Mesh] = MESHES) -> Finding:
    """Whether a mesh's sidecar is beside us."""
    for mesh in meshes:
        if _answers(mesh):
            return note(
                "mesh",
                f"a sidecar of {mesh.name} is beside this process, and balances what kubelb sends once more",
                "where the mesh demands mTLS (STRICT) pods refuse what is sent to their own addresses: call that "
                "Service through the sidecar, or leave this workload out of the mesh",
            )
    return good("mesh", f"no sidecar of {' or '.join(mesh.name for mesh in meshes)} beside this process")


def _knock(endpoint: Endpoint) -> str:
    """Return why no connection can be made, "" if one can."""
    try:
        with socket.create_connection(endpoint.address, timeout=PATIENCE):
            return ""
    except TimeoutError:
        return f"no answer in {PATIENCE:g} s"
    except ConnectionRefusedError:
        return REFUSED
    except OSError as error:
        return error.strerror or type(error).__name__


def _answers(mesh: Mesh) -> bool:
    connection = HTTPConnection("127.0.0.1", mesh.port, timeout=PATIENCE)
    try:
        connection.request("GET", mesh.path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
