"""The public API as users write it. Never run; mypy strict must accept it."""

import dataclasses
import random
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import httpx
import httpx2
import requests
from opentelemetry import trace
from tenacity import retry_if_exception_type, stop_after_delay, wait_fixed

import kubelb
from kubelb.adapters import grpc as rpc_adapter
from kubelb.adapters import httpx as adapter
from kubelb.adapters import httpx2 as adapter2
from kubelb.adapters import requests as adapter3
from kubelb.adapters.grpc import aio as rpc_adapter_aio
from kubelb.core import Balancer, EndpointState
from kubelb.core.events import Event
from kubelb.testing import Backend, Dns, LocalCluster, ReceivedCall, check_policy


def construct() -> kubelb.LoadBalancer:
    return kubelb.LoadBalancer(
        "kube:///reviews.prod:http",
        policy=kubelb.policies.PeakEwma(decay=10.0),
        retry=kubelb.Retry(
            attempts=3,
            budget=kubelb.RetryBudget(ratio=0.2),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(3),
            retry=retry_if_exception_type(KeyError),
        ),
        outliers=kubelb.OutlierDetection(consecutive_failures=5, failure_share=None, observe=True),
        limits=kubelb.ConcurrencyLimits(max_requests=1024, max_requests_per_endpoint=100, observe=True),
        breaker=kubelb.CircuitBreaker(failure_rate=0.5, slow_call_duration=2.0, per_service=False),
        slow_start=kubelb.SlowStart(window=10.0),
        discovery=kubelb.DiscoveryOptions(
            zone="eu-1a",
            seed=["10.0.0.1:80"],
            fallback_port=8080,
            families=("IPv6", "IPv4"),
            nameserver="10.96.0.10:53",
        ),
        telemetry=kubelb.Telemetry(service="reviews", tracer_provider=trace.get_tracer_provider()),
        rng=random.Random(1),
    )


def values() -> kubelb.Retry:
    """To type checkers each is a frozen dataclass, whatever makes it."""
    retry = dataclasses.replace(kubelb.Retry(), attempts=5)
    print([field.name for field in dataclasses.fields(kubelb.OutlierDetection)])
    match kubelb.RetryBudget(0.1, window=5.0):
        case kubelb.RetryBudget(ratio, None):
            print(ratio.is_integer())
    retry.attempts = 7  # type: ignore[misc]
    kubelb.Retry(tries=3)  # type: ignore[call-arg]
    return retry


def look(lb: kubelb.LoadBalancer) -> str:
    lb.wait_ready(timeout=5.0)
    health: kubelb.Health = lb.health()
    views: tuple[kubelb.EndpointView, ...] = lb.endpoints()
    circuits = f"{views[0].circuit} {health.circuit}"
    return f"{health.source} {health.age} {health.fallback} {views[0].address} {views[0].latency} {circuits}"


def listen(lb: kubelb.LoadBalancer) -> None:
    told: list[Event] = []
    take_back: Callable[[], None] = lb.on_event(told.append)
    take_back()

    @lb.on_event
    def names(event: Event) -> None:
        print(event.service)

    names()


class Registry:
    def start(self, notify: Callable[[], None]) -> None:
        notify()

    def poll(self, now: float) -> tuple[kubelb.Snapshot | None, float | None]:
        return kubelb.Snapshot(1, (kubelb.Endpoint("10.0.0.1", 80),)), now + 1.0

    def health(self) -> kubelb.Health:
        return kubelb.Health("registry", synced=True, age=0.0)

    def resync_now(self) -> None: ...

    def stop(self) -> None: ...


def discover() -> tuple[object, ...]:
    source: kubelb.Discovery = Registry()
    lb = kubelb.LoadBalancer(source, retry=None)
    zone: str | None = kubelb.DiscoveryOptions(zone="eu-1a").zone
    return lb.target, zone, adapter.Transport(source), rpc_adapter.insecure_channel(Registry())


def judge(result: object, error: Exception | None) -> kubelb.Outcome | None:
    return kubelb.Outcome(kubelb.Verdict.FAILED, retryable=True) if result is None and error is None else None


def call(lb: kubelb.LoadBalancer) -> int:
    def ask(attempt: kubelb.Attempt) -> int:
        return attempt.endpoint.port + attempt.number

    with kubelb.hints(key=b"user-7", deadline=5.0):
        return lb.call(ask, key="user-7", idempotent=True, deadline=2.0, classify=judge)


def connect(attempt: kubelb.Attempt) -> bytes:
    try:
        sock = socket.create_connection(attempt.endpoint.address, timeout=attempt.timeout)
    except ConnectionRefusedError as error:
        raise kubelb.NeverSent from error
    except OSError as error:
        raise kubelb.NeverSent("no connection") from error
    return sock.recv(1)


async def acall(lb: kubelb.LoadBalancer) -> str:
    async def ask(attempt: kubelb.Attempt) -> str:
        return attempt.endpoint.authority

    async with lb:
        await lb.await_ready()
        return await lb.acall(ask, deadline=1.0)


def clients(lb: kubelb.LoadBalancer) -> None:
    with httpx.Client(mounts={"http://reviews.prod": adapter.Transport(lb, verify="ca.pem", http2=True)}) as client:
        client.get("http://reviews.prod/")
    httpx.AsyncClient(transport=adapter.AsyncTransport("reviews.prod:http", limits=httpx.Limits(max_connections=10)))
    httpx2.Client(transport=adapter2.Transport(lb, hosts=["reviews"], cert=("client.pem", "client.key")))
    httpx2.AsyncClient(transport=adapter2.AsyncTransport(lb))
    with requests.Session() as session:
        session.mount("http://reviews.prod/", adapter3.Adapter("reviews.prod:http", verify="ca.pem", pool_maxsize=20))
        mounted: adapter3.Adapter = adapter3.mount(session, lb, hosts=["reviews"], server_hostname="reviews.prod")
        answered: adapter3.Answered | None = adapter3.answered_by(session.get("http://reviews/"))
        print(mounted, answered and (answered["endpoint"], answered["attempts"]))


class Signing(httpx.BaseTransport):
    """A transport around ours, as applications have them."""

    def __init__(self, inner: adapter.Transport) -> None:
        self.inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.inner.handle_request(request)


class Counting(adapter.Transport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return super().handle_request(request)


class CountingAsync(adapter2.AsyncTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await super().handle_async_request(request)


def paths(lb: kubelb.LoadBalancer, folder: Path) -> None:
    pair = (folder / "client.pem", folder / "client.key")
    adapter.Transport(lb, verify=folder / "ca.pem", cert=pair, limits=httpx.Limits(max_connections=1))
    adapter2.AsyncTransport(lb, cert=pair, limits=httpx2.Limits())
    adapter3.Adapter(lb, verify=folder, cert=(*pair, "password"))
    rpc_adapter.TlsFiles(folder / "ca.pem")


def vanishing_nodes(lb: kubelb.LoadBalancer) -> None:
    options = adapter.keep_alive(idle=5, interval=5, probes=2, unacknowledged=None)
    adapter.Transport(lb, socket_options=options)
    adapter.AsyncTransport(lb, socket_options=[*adapter.keep_alive(), (socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)])
    adapter2.Transport(lb, socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])
    adapter3.Adapter(lb, socket_options=adapter3.keep_alive(idle=5))
    adapter3.mount(requests.Session(), lb, socket_options=options)


def rpc(lb: kubelb.LoadBalancer) -> grpc.Channel:
    plain: rpc_adapter.Channel = rpc_adapter.insecure_channel(lb, [("grpc.keepalive_time_ms", 30000)], idempotent=True)
    files = rpc_adapter.TlsFiles(ca="ca.pem", cert="client.pem", key="client.key")
    with rpc_adapter.secure_channel("reviews.prod:grpc", files, idempotent=["/shop.Reviews/*"]) as secure:
        secure.unary_unary("/shop.Reviews/Get")(b"", timeout=1.0)
    rpc_adapter.secure_channel(lb, grpc.ssl_channel_credentials(), compression=grpc.Compression.Gzip).close()
    return grpc.intercept_channel(plain)


def rpc_types(channel: rpc_adapter.Channel) -> bytes:
    """Bytes without serializers, else what these take and give; a stub's class may say so too."""
    text: str = channel.unary_unary("/shop.Reviews/Get", str.encode, bytes.decode)("7")
    stated: grpc.UnaryStreamMultiCallable[int, float] = channel.unary_stream("/shop.Reviews/List")
    print(text.upper(), [rating.is_integer() for rating in stated(7)])
    get = channel.unary_unary("/shop.Reviews/Get")
    return get.future(b"7").result() + channel.stream_unary("/shop.Reviews/Add")(iter([b"7"]))


async def rpc_aio_types(channel: rpc_adapter_aio.Channel) -> bytes:
    text: str = await channel.unary_unary("/shop.Reviews/Get", str.encode, bytes.decode)("7")
    parts = [part async for part in channel.unary_stream("/shop.Reviews/List")(text.encode())]
    return b"".join(parts) + await channel.unary_unary("/shop.Reviews/Get")(b"7")


async def rpc_aio(lb: kubelb.LoadBalancer) -> grpc.aio.Channel:
    async with rpc_adapter_aio.insecure_channel(lb, interceptors=[]) as channel:
        await channel.unary_unary("/shop.Reviews/Get")(b"")
    return rpc_adapter_aio.secure_channel("reviews.prod:grpc", rpc_adapter.TlsFiles())


def core() -> None:
    balancer = Balancer("round_robin", clock=lambda: 0.0)
    balancer.update(kubelb.Snapshot(1, (kubelb.Endpoint("10.0.0.1", 80, zone="a"),)))
    lease = balancer.pick(kubelb.Request(idempotent=True))
    lease.release(kubelb.Outcome(sent=kubelb.Sent.ANSWERED, refusal=True))


class First(kubelb.Policy):
    @property
    def needs(self) -> kubelb.Needs:
        return kubelb.Needs(key=kubelb.KeySource(header="x-user-id", cookie="session", path=True), by_load=False)

    def build(self, members: kubelb.Members, rng: random.Random, before: kubelb.Picker | None = None) -> kubelb.Picker:
        return FirstPicker(members.states)


class FirstPicker(kubelb.Picker):
    def pick(self, request: kubelb.Request, now: float) -> EndpointState | None:
        return self.states[0]


def policies() -> list[kubelb.LoadBalancer]:
    check_policy(First(), seed=1, sizes=[1, 2])
    check_policy("ring_hash")
    hashing: kubelb.RingHash = kubelb.policies.RingHash(
        header="x-user-id", balance_factor=None, virtual_nodes=256, max_ring_size=1 << 20
    )
    own: list[kubelb.Policy | str] = [
        kubelb.Only("peak_ewma", zone="eu-1a", region=None, node="node-7", cluster=None),
        kubelb.Subset(kubelb.policies.Only(hashing, zone="eu-1a"), size=20, client="worker-3"),
    ]
    all_of_them = [First(), hashing, kubelb.WeightedRoundRobin(), "weighted_round_robin", *own]
    return [kubelb.LoadBalancer("reviews.prod:http", policy=policy) for policy in all_of_them]


def errors(lb: kubelb.LoadBalancer) -> str:
    try:
        lb.wait_ready()
    except (kubelb.NotReady, kubelb.NoEndpoints, kubelb.Overloaded, kubelb.Unusable) as error:
        return f"{error.service}: {error.reason} {error.counts}"
    return ""


def tests(kubelb_cluster: LocalCluster) -> None:
    service = kubelb_cluster.service("reviews.prod", replicas=3)
    service[0].slow(0.5)
    service.scale(5)
    dns: Dns = kubelb_cluster.dns
    dns.fail("SERVFAIL", times=2)
    kubelb.LoadBalancer(dns.target(service.name, "http"), discovery=kubelb.DiscoveryOptions(fallback_port=8080))


def rpc_tests(kubelb_cluster: LocalCluster) -> list[float | None]:
    def register(server: grpc.Server, backend: Backend) -> None:
        server.add_generic_rpc_handlers(())
        print(backend.name)

    service = kubelb_cluster.service("reviews.prod:grpc", grpc=register, tls=True)
    service[0].fail(grpc.StatusCode.UNAVAILABLE, headers={"grpc-retry-pushback-ms": "10"}, times=2)
    service[0].goaway(grace=1.0)
    cert, key = kubelb_cluster.client_cert
    print(cert.upper(), key.upper())
    kubelb_cluster.service("echo.prod", grpc=True, mtls=True)[0].fail()
    return [call.timeout for call in service[0].log if isinstance(call, ReceivedCall)]
