"""The sync half: httpx (HTTP/1.1 and HTTP/2), requests, gRPC and `call`, each by kubelb and bare, in threads."""

import gc
import http.client
import random
import threading
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import requests
from tests.soak.kinds import Plan, request
from tests.soak.ledger import Ledger
from tests.soak.places import Places

import kubelb
from kubelb.adapters.grpc import insecure_channel
from kubelb.adapters.httpx import Transport
from kubelb.adapters.requests import mount

__all__ = ["SyncHalf"]

Make = Callable[[str, Plan], object]
"""Makes one call with this mark; raises what the client raises."""
PAUSE = 0.02
"""Seconds between two calls of a thread: this is about what goes wrong, not about load."""
BARE = 0.15
"""Part of the calls that the bare client makes."""


class SyncHalf:
    """Opens clients, runs threads until told to end, closes all."""

    def __init__(self, places: Places, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._over = threading.Event()
        self.balancers = {
            "web": kubelb.LoadBalancer(
                "web.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=places.kubeconfig)
            ),
            "rpc": kubelb.LoadBalancer(
                "rpc.prod:grpc", discovery=kubelb.DiscoveryOptions(kubeconfig=places.kubeconfig)
            ),
            "pages": kubelb.LoadBalancer("static:///" + ",".join(places.pages)),
        }
        self._open: list[Any] = []
        pairs = {
            "httpx": self._httpx(places, http2=False),
            "httpx h2": self._httpx(places, http2=True),
            "requests": self._requests(places),
            "grpc": self._grpc(places),
            "call": self._call(places),
        }
        self._threads = [
            threading.Thread(target=self._work, args=(name, *pair, random.Random(f"{seed} {name} {number}")))
            for name, pair in pairs.items()
            for number in range(2)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, name: str, make: Make, bare: Make, dice: random.Random) -> None:
        while not self._over.wait(dice.uniform(0, 2 * PAUSE)):
            plan = Plan.drawn(dice)
            client, how = (f"bare {name}", bare) if dice.random() < BARE else (name, make)
            mark = self._ledger.mark(client.replace(" ", "-"), once=plan.once)
            try:
                how(mark, plan)
            except Exception as error:
                self._ledger.ended(client, mark, named(error))
            else:
                self._ledger.ended(client, mark, "ok")

    def end(self) -> None:
        """End the calls, then close the clients; the load balancers stay open."""
        self._over.set()
        for thread in self._threads:
            thread.join(60.0)
            assert not thread.is_alive(), f"a call has not ended: {thread}"
        gc.collect()
        for client in self._open:
            client.close()

    def _opened(self, client: Any) -> Any:
        self._open.append(client)
        return client

    def _httpx(self, places: Places, *, http2: bool) -> tuple[Make, Make]:
        verify = places.verify
        if http2:
            transport = self._opened(
                Transport(self.balancers["pages"], hosts=["pages.prod"], verify=verify, http2=True)
            )
            ours = self._opened(httpx.Client(transport=transport))
            bare = self._opened(httpx.Client(http2=True, verify=verify, trust_env=False))
            bases = "https://pages.prod", [f"https://{address}" for address in places.pages]
        else:
            ours = self._opened(httpx.Client(mounts={"http://web.prod": Transport(self.balancers["web"])}))
            bare = self._opened(httpx.Client(trust_env=False))
            bases = "http://web.prod", [f"http://{address}" for address in places.web]

        def send(client: httpx.Client, base: str, mark: str, plan: Plan) -> None:
            response = client.send(request(client, base, mark, plan), stream=True)
            if plan.how == "drop":
                return
            try:
                if plan.how == "read":
                    response.read()
                else:
                    next(response.iter_raw(10), None)
            finally:
                response.close()

        return (
            lambda mark, plan: send(ours, bases[0], mark, plan),
            lambda mark, plan: send(bare, places.one(bases[1]), mark, plan),
        )

    def _requests(self, places: Places) -> tuple[Make, Make]:
        ours = self._opened(requests.Session())
        mount(ours, self.balancers["web"])
        bare = self._opened(requests.Session())

        def send(session: requests.Session, base: str, mark: str, plan: Plan) -> None:
            with kubelb.hints(deadline=plan.timeout if plan.hint else None):
                response = session.request(
                    "POST" if plan.once else "GET",
                    base + plan.path,
                    headers={"x-mark": mark},
                    data=b"x" * plan.size if plan.once else None,
                    timeout=5.0 if plan.hint else plan.timeout,
                    stream=True,
                )
            if plan.how == "drop":
                return
            with response:
                _ = response.content if plan.how == "read" else next(response.iter_content(10), None)

        return (
            lambda mark, plan: send(ours, "http://web.prod", mark, plan),
            lambda mark, plan: send(bare, f"http://{places.one(places.web)}", mark, plan),
        )

    def _grpc(self, places: Places) -> tuple[Make, Make]:
        ours = self._opened(insecure_channel(self.balancers["rpc"]))
        bare = [self._opened(grpc.insecure_channel(address)) for address in places.rpc]

        def send(channel: Any, mark: str, plan: Plan) -> None:
            said = {"timeout": plan.timeout, "metadata": [("x-mark", mark)]}
            if plan.path == "/stream":
                stream = channel.unary_stream("/kubelb.testing.Echo/ServerStream")(b"x" * plan.size, **said)
                next(stream)
                if plan.how == "read":
                    list(stream)
                elif plan.how == "leave":
                    stream.cancel()
                return
            method = channel.unary_unary("/kubelb.testing.Echo/Unary")
            if plan.cancel is None:
                method(b"x" * plan.size, **said)
                return
            future = method.future(b"x" * plan.size, **said)
            try:
                future.result(plan.cancel)
            finally:
                future.cancel()

        return lambda mark, plan: send(ours, mark, plan), lambda mark, plan: send(places.one(bare), mark, plan)

    def _call(self, places: Places) -> tuple[Make, Make]:
        def send(address: str, timeout: float | None, mark: str, plan: Plan) -> None:
            host, port = address.rsplit(":", 1)
            connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
            try:
                connection.request("POST" if plan.once else "GET", plan.path, headers={"x-mark": mark})
                connection.getresponse().read()
            except http.client.HTTPException as error:
                raise EOFError(f"{type(error).__name__}: {error}") from error  # half an answer
            finally:
                connection.close()

        def ours(mark: str, plan: Plan) -> None:
            def once(attempt: kubelb.Attempt) -> None:
                send(attempt.endpoint.authority, attempt.timeout, mark, plan)

            self.balancers["web"].call(once, deadline=plan.timeout, idempotent=not plan.once)

        return ours, lambda mark, plan: send(places.one(places.web), plan.timeout, mark, plan)


def named(error: BaseException) -> str:
    """The name that a user of the client knows: a gRPC status, or the client's own class of a subclass of ours."""
    code = getattr(error, "code", None)
    if isinstance(error, grpc.RpcError) and callable(code):
        return str(code().name)
    own = next(base for base in type(error).__mro__ if not base.__module__.startswith("kubelb"))
    return "LoadBalancerError" if own is Exception else own.__name__
