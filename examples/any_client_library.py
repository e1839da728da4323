"""A client library that takes a host and a port, here the standard library's XML-RPC: `call` with `classify`."""

import threading
import xmlrpc.client
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

import kubelb


def rating(attempt: kubelb.Attempt) -> Any:
    """One attempt: a client of its own for the endpoint that was picked."""
    with xmlrpc.client.ServerProxy(f"http://{attempt.endpoint.authority}/") as proxy:
        return proxy.rating(7)


def classify(_result: Any, error: BaseException | None) -> kubelb.Outcome | None:
    """What the library's own errors mean; None has kubelb judge it, which knows sockets' errors."""
    if isinstance(error, xmlrpc.client.Fault):  # the application's answer: the pod is well, others would say the same
        return kubelb.Outcome(refusal=True)
    if isinstance(error, xmlrpc.client.ProtocolError):  # an HTTP status: another pod may do better
        return kubelb.Outcome(kubelb.Verdict.FAILED, retryable=error.errcode == 503, reason=str(error.errcode))
    return None


def main() -> None:
    servers = [serve(stars) for stars in (4, 5)]
    targets = [f"127.0.0.1:{server.server_address[1]}" for server in servers]
    gone = SimpleXMLRPCServer(("127.0.0.1", 0))  # its connections are refused
    gone.server_close()
    target = "static:///" + ",".join([*targets, f"127.0.0.1:{gone.server_address[1]}"])
    with kubelb.LoadBalancer(target, policy="round_robin") as lb:  # "ratings.prod:rpc" in a cluster
        print("stars:", sorted(lb.call(rating, idempotent=True, classify=classify) for _ in range(6)))
        for view in lb.endpoints():
            print(view.address, view.state, f"{view.picks} picks, {view.failures} failed")
    for server in servers:
        server.shutdown()
        server.server_close()


def serve(stars: int) -> SimpleXMLRPCServer:
    server = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
    server.register_function(lambda _number: stars, "rating")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    main()
