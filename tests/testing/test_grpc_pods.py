"""gRPC pods live and die as others do: what slices say, what clients lose, what is left in the end."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from kubelb.testing import Backend, LocalCluster, Service
from kubelb.testing import backend as module

from .helpers import conditions, until
from .test_grpc_faults import OPTIONS, again, lost, stream, unary

READY, DRAINING = (True, True, False), (False, True, True)


@pytest.fixture
def svc(cluster: LocalCluster) -> Service:
    return cluster.service("reviews.prod", replicas=3, grpc=True)


@pytest.fixture
def channel(svc: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(svc[0].address, OPTIONS) as channel:
        yield channel


@pytest.fixture
def hold(svc: Service) -> Iterator[threading.Event]:
    """Calls that come to the first pod are held until the event is set, or the test over."""
    event = threading.Event()

    def wait() -> float:
        event.wait(30.0)
        return 0.0

    svc[0].slow(wait)
    yield event
    event.set()


def refused(backend: Backend) -> bool:
    try:
        socket.create_connection((backend.host, backend.port), timeout=1.0).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_killed_pod_leaves_its_slice_and_heals_as_another_one(
    cluster: LocalCluster, svc: Service, channel: grpc.Channel
) -> None:
    """First the port, later the slice; then a new uid on the same address."""
    cluster.lag = 0.3
    assert unary(channel) == b"hi"
    svc[0].kill()
    assert refused(svc[0])
    assert conditions(cluster)["reviews-0"] == READY
    until(lambda: svc[0].state == "gone")
    uid, address = svc[0].uid, svc[0].address
    svc[0].heal()
    assert (svc[0].address, svc[0].uid != uid, conditions(cluster)["reviews-0"]) == (address, True, READY)
    again(channel)
    assert svc[0].requests == 2


def test_each_life_has_servicers_of_its_own(cluster: LocalCluster) -> None:
    """What a killed process knew is lost, as in life; faults that change no process keep it."""
    lives: list[str] = []

    def register(server: grpc.Server, backend: Backend) -> None:
        lives.append(backend.uid)

    backend = cluster.service("reviews.prod", grpc=register)[0]
    first = backend.uid
    backend.refuse()
    backend.heal()
    backend.not_ready()
    backend.ready()
    assert lives == [first]
    backend.restart()
    second = backend.uid
    backend.kill()
    backend.heal()
    assert lives == [first, second, backend.uid]
    assert len(set(lives)) == 3


def test_a_drained_pod_serves_until_its_grace_is_over(
    cluster: LocalCluster, svc: Service, channel: grpc.Channel
) -> None:
    """Terminating and serving at once, as with a preStop hook, for old connections and new ones."""
    assert unary(channel) == b"hi"
    svc[0].drain(grace=60.0)
    assert conditions(cluster)["reviews-0"] == DRAINING
    assert unary(channel) == b"hi"
    with grpc.insecure_channel(svc[0].address, OPTIONS) as late:
        assert unary(late) == b"hi"


def test_a_drained_pod_goes_when_its_grace_is_over(
    svc: Service, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port is closed, GOAWAY has ended the connection, and nothing is left to be cut later."""
    monkeypatch.setattr(module, "FINISHING", 60.0)
    assert unary(channel) == b"hi"
    svc[0].drain(grace=0.05)
    until(lambda: svc[0].state == "gone")
    assert refused(svc[0])
    until(lambda: svc[0].connections == 0)
    with pytest.raises(grpc.RpcError, match="failed to connect to all addresses"):
        unary(channel)


def test_a_call_that_outlives_the_grace_is_finished(svc: Service, channel: grpc.Channel, hold: threading.Event) -> None:
    """The pod leaves its slice on time; the call under way has a second more."""
    pending = channel.unary_unary("/kubelb.testing.Echo/Unary").future(b"hi", timeout=10.0)
    until(lambda: svc[0].in_flight == 1)
    svc[0].drain(grace=0.05)
    until(lambda: svc[0].state == "gone")
    assert not pending.done()
    hold.set()
    assert pending.result() == b"hi"
    until(lambda: (svc[0].in_flight, svc[0].connections) == (0, 0))


def test_a_call_that_outlives_that_too_is_cut(
    svc: Service, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was told to end does, in the end."""
    monkeypatch.setattr(module, "FINISHING", 0.3)
    endless = stream(channel, messages=9, delay=60.0)
    until(lambda: svc[0].in_flight == 1)
    began = time.monotonic()
    svc[0].drain(grace=0.05)
    with lost():
        next(endless)
    assert time.monotonic() - began >= 0.35
    until(lambda: (svc[0].in_flight, svc[0].connections) == (0, 0))


def test_a_pod_that_comes_back_while_the_old_one_finishes(
    svc: Service, channel: grpc.Channel, hold: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call of the old life is finished, the new life takes calls at once; a kill ends both."""
    monkeypatch.setattr(module, "FINISHING", 60.0)
    pending = channel.unary_unary("/kubelb.testing.Echo/Unary").future(b"old", timeout=10.0)
    until(lambda: svc[0].in_flight == 1)
    svc[0].drain(grace=0.0)
    assert svc[0].state == "gone"
    svc[0].heal()
    with grpc.insecure_channel(svc[0].address, OPTIONS) as fresh:
        assert unary(fresh, b"new") == b"new"
        assert (svc[0].in_flight, pending.done()) == (1, False)
        hold.set()
        assert pending.result() == b"old"
        until(lambda: svc[0].in_flight == 0)


def test_a_kill_ends_the_old_life_too(svc: Service, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that a drained pod is still finishing, after the pod has come back, dies with it."""
    monkeypatch.setattr(module, "FINISHING", 60.0)
    endless = stream(channel, messages=9, delay=60.0)
    until(lambda: svc[0].in_flight == 1)
    svc[0].drain(grace=0.0)
    svc[0].heal()
    svc[0].kill()
    with lost():
        next(endless)
    assert svc[0].in_flight == 0


def test_restart_is_a_new_uid_on_the_same_address(cluster: LocalCluster, svc: Service, channel: grpc.Channel) -> None:
    """Connections are reset; new ones are taken at once."""
    assert unary(channel) == b"hi"
    uid = svc[0].uid
    call = stream(channel, messages=2, delay=60.0)
    until(lambda: svc[0].in_flight == 1)
    svc[0].restart()
    with lost():
        next(call)
    assert (svc[0].uid != uid, conditions(cluster)["reviews-0"], svc[0].in_flight) == (True, READY, 0)
    again(channel)


def test_a_rolling_restart_loses_nobody_who_follows_the_slices(cluster: LocalCluster, svc: Service) -> None:
    """Every pod is another one afterwards, and each of them served for as long as its slice said so."""
    old = list(svc)
    svc.rolling_restart(grace=0.03)
    assert [backend.name for backend in svc] == list(conditions(cluster)) == ["reviews-3", "reviews-4", "reviews-5"]
    assert all(refused(backend) for backend in old)
    for backend in svc:
        with grpc.insecure_channel(backend.address, OPTIONS) as channel:
            _, call = channel.unary_unary("/kubelb.testing.Echo/Unary").with_call(b"", timeout=5.0)
            assert dict(call.initial_metadata()) == {"x-backend": backend.name}
    svc.scale(1, grace=0.0)
    assert [backend.name for backend in svc] == ["reviews-3"]


@pytest.mark.slow
def test_a_call_is_counted_once_and_only_if_its_servicer_saw_it(cluster: LocalCluster) -> None:
    """In a storm of kills, resets and drains: what servicers saw is what the counters say, and no call came twice."""
    seen: Counter[bytes] = Counter()
    lock = threading.Lock()

    def note(request: bytes, context: grpc.ServicerContext) -> bytes:
        with lock:
            seen[request] += 1
        return request

    def register(server: grpc.Server, backend: Backend) -> None:
        handlers = {"Unary": grpc.unary_unary_rpc_method_handler(note)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", handlers),))

    backend = cluster.service("reviews.prod", grpc=register)[0]
    stop = threading.Event()
    answered: list[bytes] = []

    def ask(who: int) -> None:
        with grpc.insecure_channel(backend.address, OPTIONS) as channel:
            method = channel.unary_unary("/x.Y/Unary")
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    answered.append(method(b"%d-%d" % (who, number), timeout=10.0))
                except grpc.RpcError as error:
                    # CANCELLED is what any `grpc.Server` that stops says to a call that it has not begun.
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    faults = (backend.kill, lambda: backend.drain(grace=0.0), backend.close_connections, backend.close_idle)
    for round_ in range(12):
        had = len(answered)
        until(lambda had=had: len(answered) > had + 20, 30.0)
        faults[round_ % len(faults)]()
        backend.heal()
    stop.set()
    for thread in threads:
        thread.join()
    until(lambda: backend.in_flight == 0)
    assert max(seen.values()) == 1
    assert set(answered) <= set(seen)
    assert backend.requests == len(seen) == backend.by_path["/x.Y/Unary"]


def test_it_ends_within_a_second_whatever_is_under_way() -> None:
    """Hanging, slow, streaming, draining, over TLS too: no thread, no descriptor, no warning is left."""
    with LocalCluster(tls=True) as first:  # what gRPC keeps for the whole process is there afterwards
        channel = grpc.insecure_channel(first.service("reviews.prod", grpc=True)[0].address)
        unary(channel)
        channel.close()
    gc.collect()
    until(lambda: threading.active_count() <= 1 + others())
    threads, descriptors = threading.active_count(), open_descriptors()
    cluster = LocalCluster(tls=True).start()
    svc = cluster.service("reviews.prod", replicas=5, grpc=True)
    secure = cluster.service("secure.prod", grpc=True, tls=True)
    svc[0].hang()
    svc[1].slow(60.0)
    svc[2].drip(1, 60.0)
    channels = [grpc.insecure_channel(backend.address, OPTIONS) for backend in svc]
    calls = [
        stream(channel, messages=3, delay=60.0 * (channel is channels[3]), timeout=60.0) for channel in channels[:4]
    ]
    plain = socket.create_connection((svc[4].host, svc[4].port))  # a client that says nothing and stays
    until(lambda: sum(backend.in_flight for backend in svc) == 4)
    secure[0].kill()
    svc[4].drain(grace=60.0)
    began = time.monotonic()
    cluster.close()
    assert time.monotonic() - began < 1.0
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    plain.close()
    for channel in channels:
        channel.close()
    del calls, call, channels, channel, caught
    gc.collect()
    until(lambda: threading.active_count() <= threads)
    until(lambda: open_descriptors() <= descriptors)
    svc[0].heal()
    assert refused(svc[0])


def others() -> int:
    return sum(not thread.name.startswith(("kubelb-testing", "MainThread")) for thread in threading.enumerate())


def open_descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        return 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_holds_nothing_open(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill is a reset and a closed port also while a child lives, and a drained pod lets go of its connections."""
    monkeypatch.setattr(module, "FINISHING", 60.0)
    svc = cluster.service("reviews.prod", replicas=2, grpc=True)
    with (
        socket.create_connection((svc[0].host, svc[0].port), timeout=10.0) as sock,
        grpc.insecure_channel(svc[1].address, OPTIONS) as channel,
    ):
        sock.recv(65536)  # the settings of its server
        assert unary(channel) == b"hi"
        reading, writing = os.pipe()
        hearing, saying = os.pipe()
        child = os.fork()
        if child == 0:
            cluster.close()
            os.write(saying, b"x")
            os.read(reading, 1)
            os._exit(0)
        os.read(hearing, 1)  # a child lets go of what it inherits as soon as it runs, which may be later than now
        svc[0].kill()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert refused(svc[0])
        svc[1].drain(grace=0.0)
        until(lambda: svc[1].connections == 0)
        svc[0].heal()
        with grpc.insecure_channel(svc[0].address, OPTIONS) as fresh:
            assert unary(fresh) == b"hi"
        os.write(writing, b"x")
        os.waitpid(child, 0)
        for end in (reading, writing, hearing, saying):
            os.close(end)


def test_a_deleted_service_leaves_nothing(cluster: LocalCluster, svc: Service) -> None:
    """No slice, no port, no server that a late `heal` brings back; its name is free again."""
    old = svc[0]
    threads = threading.active_count()
    cluster.delete_service(svc)
    assert cluster.slices("prod", "reviews") == []
    until(lambda: threading.active_count() <= threads - 3)
    old.heal()
    assert refused(old)
    assert threading.active_count() <= threads - 3
    assert cluster.service("reviews.prod", grpc=True)[0].answers()
