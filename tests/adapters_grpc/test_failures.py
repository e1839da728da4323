"""Sync calls that do not go well: what is tried again, what is not, and what the caller gets."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.adapters_grpc.conftest import connected, in_flight, until
from tests.adapters_grpc.servers import free_port

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.service import service_of

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def one(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return channel.unary_unary("/test.Echo/UU")(request, **options)


def by_future(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return channel.unary_unary("/test.Echo/UU").future(request, **options).result(timeout=30)


def by_stream(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return b"".join(channel.unary_stream("/test.Echo/US")(request, **options))


def by_requests(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return channel.stream_unary("/test.Echo/SU")(iter([request, request]), **options)


def by_requests_future(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return channel.stream_unary("/test.Echo/SU").future(iter([request, request]), **options).result(timeout=30)


def by_both(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return b"".join(channel.stream_stream("/test.Echo/SS")(iter([request, request]), **options))


WAYS = [one, by_future, by_stream, by_requests, by_requests_future, by_both]
EACH = [way if way in {one, by_future, by_both} else pytest.param(way, marks=pytest.mark.slow) for way in WAYS]
"""For a test with each; the quick loop goes without those that are made of the same parts."""


def aborts(code: grpc.StatusCode, times: int = 1, metadata: Any = ()) -> Callable[[str, Any], None]:
    """A behaviour: the first so many calls end with this status."""
    left, lock = [times], threading.Lock()

    def behave(method: str, context: Any) -> None:
        with lock:
            left[0] -= 1
            fails = left[0] >= 0
        if fails:
            context.set_trailing_metadata(metadata)
            context.abort(code, "as told")

    return behave


@pytest.mark.parametrize("way", EACH)
def test_each_try_sends_the_metadata(server: Any, balance: Any, way: Any) -> None:
    """Also what comes from an iterator, which gives it once."""
    one_server, other = server(), server()
    seen: list[Any] = []

    def behave(method: str, context: Any) -> None:
        seen.append(dict(context.invocation_metadata()).get("x-user"))
        if len(seen) == 1:
            context.abort(UNAVAILABLE, "as told")

    one_server.behave = other.behave = behave
    with balanced.insecure_channel(balance(one_server, other), idempotent=True) as channel:
        assert until(lambda: channel.subs.connectivity() is grpc.ChannelConnectivity.READY, 20)
        assert way(channel, metadata=iter([("x-user", "ann")]), timeout=20)
    assert seen == ["ann", "ann"]


@pytest.mark.parametrize("way", EACH)
def test_dead_endpoints_are_passed_over(server: Any, balance: Any, way: Any) -> None:
    """Two of three are refused connections: no call goes there, and none fails."""
    alive = server()
    lb = balance(alive, f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    with balanced.insecure_channel(lb) as channel:
        for _ in range(50):
            assert way(channel)
    assert alive.total == 50
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


@pytest.mark.parametrize("way", EACH)
def test_unavailable_is_tried_elsewhere_where_it_may_be(server: Any, balance: Any, way: Any) -> None:
    """A server's own UNAVAILABLE: repeated for an idempotent method, and given to the caller for any other."""
    servers = [server() for _ in range(3)]
    lb = balance(*servers, policy="round_robin", retry=kubelb.Retry(budget=None))
    for each in servers:
        each.behave = aborts(UNAVAILABLE)
    with balanced.insecure_channel(lb, idempotent=["/test.Echo/*"]) as channel:
        with pytest.raises(grpc.RpcError) as caught:  # three tries, each on another endpoint, all of them told to fail
            way(channel)
        assert caught.value.code() is UNAVAILABLE
        assert caught.value.details() == "as told"
        assert len(caught.value.__notes__) == 2
        assert [each.total for each in servers] == [1, 1, 1]
        servers[0].behave = servers[1].behave = aborts(UNAVAILABLE, 2)
        for _ in range(3):
            assert way(channel)
    with balanced.insecure_channel(lb) as channel:
        for each in servers:
            each.behave, each.delivered = aborts(UNAVAILABLE), type(each.delivered)()
        with pytest.raises(grpc.RpcError) as caught:
            way(channel)
        assert caught.value.code() is UNAVAILABLE
        assert sum(each.total for each in servers) == 1


@pytest.mark.parametrize("way", EACH)
@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND])
def test_other_statuses_are_answers(server: Any, balance: Any, way: Any, code: grpc.StatusCode) -> None:
    """Never repeated, also where they might be; the caller gets the client's own error."""
    servers = [server() for _ in range(3)]
    for each in servers:
        each.behave = aborts(code)
    lb = balance(*servers)
    with balanced.insecure_channel(lb, idempotent=True) as channel, pytest.raises(grpc.RpcError) as caught:
        way(channel)
    assert caught.value.code() is code
    assert isinstance(caught.value, grpc.Call)
    assert sum(each.total for each in servers) == 1
    failures = sum(state.failures for state in service_of(lb).balancer.states())
    refusals = sum(state.refusals for state in service_of(lb).balancer.states())
    assert (failures, refusals) == ((1, 0) if code is grpc.StatusCode.INTERNAL else (0, 1))


@pytest.mark.parametrize("way", EACH)
def test_cancelled_by_the_server(server: Any, balance: Any, way: Any) -> None:
    """As one does that stops: tried elsewhere where it may be, nobody blamed; else the caller's, as an error."""
    leaves, stays = server(), server()
    lb = balance(leaves, stays, policy="round_robin", retry=kubelb.Retry(budget=None))
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        leaves.behave = stays.behave = aborts(grpc.StatusCode.CANCELLED)
        assert way(channel)
        assert leaves.total + stays.total == 2
        leaves.behave = stays.behave = aborts(grpc.StatusCode.CANCELLED)
        with kubelb.hints(idempotent=False), pytest.raises(grpc.RpcError) as caught:
            way(channel)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.CANCELLED, "as told")
    assert leaves.total + stays.total == 3
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


@pytest.mark.parametrize("way", EACH)
def test_hints_make_a_call_repeatable(server: Any, balance: Any, way: Any) -> None:
    """`kubelb.hints(idempotent=True)` around it; False takes back what the channel says."""
    servers = [server() for _ in range(2)]
    lb = balance(*servers, policy="round_robin")
    for each in servers:
        each.behave = aborts(UNAVAILABLE)
    with balanced.insecure_channel(lb) as channel, kubelb.hints(idempotent=True):
        assert way(channel)
    assert sum(each.total for each in servers) == 3
    for each in servers:
        each.behave = aborts(UNAVAILABLE)
    with (
        balanced.insecure_channel(lb, idempotent=True) as channel,
        kubelb.hints(idempotent=False),
        pytest.raises(grpc.RpcError),
    ):
        way(channel)
    assert sum(each.total for each in servers) == 4


@pytest.mark.parametrize("way", EACH)
def test_a_key_reaches_the_policy(server: Any, balance: Any, way: Any) -> None:
    """What `hints(key=)` says is what a policy hashes on."""
    seen: list[Any] = []

    class Keyed(kubelb.Policy):
        def build(self, members: Any, rng: Any, before: Any = None) -> Any:
            class Picker(kubelb.Picker):
                def pick(self, request: Any, now: float) -> Any:
                    seen.append(request.key)
                    return members.states[0]

            return Picker(members.states)

    with balanced.insecure_channel(balance(server(), policy=Keyed())) as channel:
        way(channel)
        seen.clear()
        with kubelb.hints(key="user-7"):
            way(channel)
    assert seen == ["user-7"]


@pytest.mark.parametrize("way", EACH)
@pytest.mark.parametrize("pushback", ["30", "-1"])
def test_pushback_is_honoured(server: Any, balance: Any, way: Any, pushback: str) -> None:
    """A server that asks to be left alone is; one that says when is asked again not sooner."""
    alone = server()
    alone.behave = aborts(UNAVAILABLE, 1, (("grpc-retry-pushback-ms", pushback),))
    lb = balance(alone, retry=kubelb.Retry(wait=kubelb.FullJitter(0, 0)))
    began = time.monotonic()
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        if pushback == "-1":
            with pytest.raises(grpc.RpcError):
                way(channel)
            assert alone.total == 1
        else:
            assert way(channel)
            assert alone.total == 2
            assert time.monotonic() - began >= 0.03


@pytest.mark.parametrize("way", EACH)
def test_the_timeout_bounds_all_tries(server: Any, balance: Any, way: Any) -> None:
    """Each is slow and then fails; the call ends in its time, whatever may be left to try."""
    servers = [server() for _ in range(3)]

    def slow(method: str, context: Any) -> None:
        time.sleep(0.2)
        context.abort(UNAVAILABLE, "late")

    for each in servers:
        each.behave = slow
    lb = balance(*servers, retry=kubelb.Retry(attempts=10, wait=kubelb.FullJitter(0, 0), budget=None))
    began = time.monotonic()
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            way(channel, timeout=0.5)
        assert caught.value.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, UNAVAILABLE}
    assert 0.3 < time.monotonic() - began < 5
    assert 2 <= sum(each.total for each in servers) <= 3


@pytest.mark.parametrize("way", EACH)
def test_an_endpoint_that_hangs(server: Any, balance: Any, way: Any) -> None:
    """DEADLINE_EXCEEDED, which is silence and counts; not repeated, nothing in flight."""
    release = threading.Event()
    alone = server()
    alone.behave = lambda method, context: release.wait(20)
    lb = balance(alone)
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            way(channel, timeout=0.8)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert until(lambda: in_flight(lb) == 0)
        state = service_of(lb).balancer.states()[0]
        assert (state.failures, state.silent, state.others) == (1, 1, 0)  # a machine that is 0.25 s late makes it other
        release.set()


@pytest.mark.parametrize("way", EACH)
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_a_deadline_of_the_servers_own(server: Any, balance: Any, way: Any, timeout: float | None) -> None:
    """DEADLINE_EXCEEDED long before the call's deadline, or without one, is the server's word: no silence, no blame."""
    alone = server()
    alone.behave = aborts(grpc.StatusCode.DEADLINE_EXCEEDED)
    lb = balance(alone)
    with balanced.insecure_channel(lb) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            way(channel, timeout=timeout)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert until(lambda: in_flight(lb) == 0)
        state = service_of(lb).balancer.states()[0]
        assert (state.failures, state.others) == (0, 1)


def test_a_stream_that_nobody_reads(server: Any, balance: Any) -> None:
    """Its deadline ends without a message because nobody asked for one: no silence of the endpoint."""
    alone = server()
    lb = balance(alone)
    with balanced.insecure_channel(lb) as channel:
        stream = channel.unary_stream("/test.Echo/US")(b"x", timeout=0.2)
        assert until(lambda: in_flight(lb) == 0)
        assert stream.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}
        assert service_of(lb).balancer.states()[0].failures == 0


def test_a_stream_that_ends_after_its_first_message(server: Any, balance: Any) -> None:
    """A deadline that cuts a stream in two is no silence: an answer had begun."""
    release = threading.Event()
    alone = server()
    alone.between = lambda number: number and release.wait(20)
    lb = balance(alone)
    with balanced.insecure_channel(lb) as channel:
        stream = channel.unary_stream("/test.Echo/US")(b"x", timeout=1.0)
        assert next(stream)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert until(lambda: in_flight(lb) == 0)
        assert service_of(lb).balancer.states()[0].failures == 0
        release.set()


@pytest.mark.parametrize("way", EACH)
def test_nothing_can_be_reached(balance: Any, way: Any) -> None:
    """kubelb's refusal at once, which gRPC's users catch; it counts what was found."""
    lb = balance(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    with balanced.insecure_channel(lb) as channel:
        began = time.monotonic()
        with pytest.raises(kubelb.Unusable, match="cannot be reached: 2") as caught:
            way(channel, timeout=20)
        assert time.monotonic() - began < 5
        assert isinstance(caught.value, grpc.RpcError)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is UNAVAILABLE
        assert "cannot be reached" in caught.value.details()
        assert (caught.value.initial_metadata(), caught.value.trailing_metadata()) == ((), ())
        assert not caught.value.is_active()


@pytest.mark.parametrize("way", EACH)
def test_waiting_for_ready(server: Any, balance: Any, way: Any) -> None:
    """`wait_for_ready=True` waits through refused connections until one is made, or the timeout."""
    port = free_port()
    lb = balance(f"127.0.0.1:{port}")
    with balanced.insecure_channel(lb) as channel:
        with pytest.raises(kubelb.DeadlineExceeded, match=r"connect|reached") as caught:
            way(channel, timeout=0.2, wait_for_ready=True)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        timer = threading.Timer(0.2, lambda: server(port=port))
        timer.start()
        assert way(channel, timeout=30, wait_for_ready=True)
        timer.join()


@pytest.mark.parametrize("way", EACH)
def test_a_closed_balancer_and_a_closed_channel(server: Any, balance: Any, way: Any) -> None:
    """kubelb.Closed as an RpcError; gRPC's own ValueError."""
    lb = balance(server())
    channel = balanced.insecure_channel(lb)
    assert way(channel)
    lb.close()
    with pytest.raises(kubelb.Closed) as caught:
        way(channel)
    assert isinstance(caught.value, grpc.RpcError)
    channel.close()
    other = balance(server())
    channel = balanced.insecure_channel(other)
    channel.close()
    channel.close()
    with pytest.raises(ValueError, match="closed channel"):
        way(channel)
    assert other.health().source == "static"


@pytest.mark.parametrize("way", EACH)
def test_a_deadline_that_is_over(server: Any, balance: Any, way: Any) -> None:
    """A block of hints whose time has passed: refused before anything is sent."""
    alone = server()
    with balanced.insecure_channel(balance(alone)) as channel, kubelb.hints(deadline=1e-9):
        with pytest.raises(kubelb.DeadlineExceeded) as caught:
            way(channel)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert alone.total == 0


@pytest.mark.parametrize("way", EACH)
def test_messages_too_large(server: Any, balance: Any, way: Any) -> None:
    """The client's own RESOURCE_EXHAUSTED; no endpoint is to blame, and none is tried again."""
    servers = [server(), server()]
    lb = balance(*servers)
    options = [("grpc.max_send_message_length", 100)]
    with balanced.insecure_channel(lb, options, idempotent=True) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            way(channel, b"x" * 1000)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert way(channel, b"x" * 10)
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


@pytest.mark.parametrize("way", EACH)
def test_metadata_that_grpc_refuses(server: Any, balance: Any, way: Any) -> None:
    """Its own INTERNAL, or ValueError where grpcio is older; no endpoint is blamed, nothing is left in flight."""
    lb = balance(server())
    with balanced.insecure_channel(lb) as channel:
        with pytest.raises((grpc.RpcError, ValueError), match=r"metadata") as caught:
            way(channel, metadata=(("Not A Key", "value"),))
        assert in_flight(lb) == 0
        assert isinstance(caught.value, ValueError) or caught.value.code() is grpc.StatusCode.INTERNAL
        assert service_of(lb).balancer.states()[0].failures == 0
        assert way(channel)


@pytest.mark.parametrize("way", [by_requests, by_requests_future, by_both])
def test_exceptions_of_the_callers_requests(server: Any, balance: Any, way: Any, caplog: Any) -> None:
    """As grpcio has it: UNKNOWN. Nobody is blamed and nothing is tried again."""
    lb = balance(server(), server())

    def requests() -> Any:
        yield b"1"
        raise KeyError("mine")

    with balanced.insecure_channel(lb, idempotent=True) as channel:
        kind = "SS" if way is by_both else "SU"
        make = channel.stream_stream if way is by_both else channel.stream_unary
        callable_ = make(f"/test.Echo/{kind}")
        with pytest.raises(grpc.RpcError) as caught:
            if way is by_both:
                list(callable_(requests()))
            elif way is by_requests:
                callable_(requests())
            else:
                callable_.future(requests()).result(timeout=10)
        assert caught.value.details() == "Exception iterating requests!"
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


@pytest.mark.parametrize("way", EACH)
def test_a_server_that_dies_and_another_that_lives(server: Any, balance: Any, way: Any) -> None:
    """After a stop calls go to the other; when it is back it is used again."""
    dies, lives = server(), server()
    lb = balance(dies, lives, policy="round_robin", retry=kubelb.Retry(budget=None))
    with balanced.insecure_channel(lb) as channel:
        assert way(channel)
        assert until(lambda: connected(channel) == 2)
        for _ in range(10):
            assert way(channel)
        assert dies.total >= 4
        dies.stop(0)
        assert until(lambda: connected(channel) == 1)
        for _ in range(20):
            assert way(channel)
        dies.delivered.clear()
        dies.start()
        assert until(lambda: way(channel) and dies.total > 0)


def test_bad_options() -> None:
    """An error that names the value and the cure."""
    with pytest.raises(ValueError, match=r"idempotent=\['Get'\]: give full names"):
        balanced.insecure_channel("static:///127.0.0.1:1", idempotent=["Get"])
    with pytest.raises(TypeError, match="give a list of methods"):
        balanced.insecure_channel("static:///127.0.0.1:1", idempotent="/a.B/C")
    with pytest.raises(kubelb.TargetError):
        balanced.insecure_channel("non sense")


def test_only_what_is_named_is_repeated(server: Any, balance: Any) -> None:
    """A full name stands for one method, `/*` for those of a service."""
    from kubelb.adapters._grpc.shared.requesting import repeatable

    some = repeatable(["/a.B/C", "/d.E/*"])
    assert [some(name) for name in ("/a.B/C", "/a.B/D", "/d.E/F", "/d.EE/F")] == [True, False, True, False]
    assert repeatable(True)("/x/y")
    assert not repeatable(())("/x/y")


def test_the_users_own_strategy_judges_answers(server: Any, balance: Any) -> None:
    """A tenacity `retry` may call a response worth repeating."""
    import tenacity

    servers = [server() for _ in range(2)]
    unwanted = b"x@" + servers[0].name
    strategy = tenacity.retry_if_result(lambda response: response == unwanted)
    lb = balance(*servers, policy="round_robin", retry=kubelb.Retry(retry=strategy, wait=kubelb.FullJitter(0, 0)))
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        for _ in range(4):
            assert one(channel) == b"x@" + servers[1].name
    assert servers[0].total >= 1


@pytest.mark.parametrize("way", EACH)
def test_a_channel_that_is_closed_under_a_waiting_call(balance: Any, way: Any) -> None:
    """The call has begun, so it ends as calls do: with an RpcError, which says what has happened."""
    found: list[BaseException] = []
    channel = balanced.insecure_channel(balance(f"127.0.0.1:{free_port()}"))

    def call() -> None:
        try:
            way(channel, timeout=30, wait_for_ready=True)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert until(lambda: channel.subs.started and len(channel.subs))
    channel.close()
    thread.join(10)
    (error,) = found
    assert isinstance(error, kubelb.Closed)
    assert isinstance(error, grpc.RpcError)
    assert error.code() is UNAVAILABLE


def test_a_future_whose_channel_is_closed_can_be_asked(balance: Any) -> None:
    """Everything that a Call answers."""
    channel = balanced.insecure_channel(balance(f"127.0.0.1:{free_port()}"))
    future = channel.unary_unary("/test.Echo/UU").future(b"x", timeout=30, wait_for_ready=True)
    channel.close()
    assert future.code() is UNAVAILABLE
    assert "channel was closed" in future.details()
    assert isinstance(future.exception(10), kubelb.Closed)


def test_a_channel_that_is_closed_under_a_retry(server: Any, balance: Any) -> None:
    """There is no other try: what the last one ended with says more than that."""
    alone = server()
    alone.behave = aborts(UNAVAILABLE)

    def close_meanwhile(state: Any) -> float:
        channel.close()
        return 0.0

    channel = balanced.insecure_channel(balance(alone, retry=kubelb.Retry(wait=close_meanwhile)), idempotent=True)
    with pytest.raises(grpc.RpcError) as caught:
        one(channel)
    assert caught.value.details() == "as told"
    assert alone.total == 1


def test_nobody_is_left_waiting_by_a_closed_channel(balance: Any) -> None:
    """A call that waits for a connection ends when the balancer is closed."""
    lb = balance(f"127.0.0.1:{free_port()}")
    found: list[Any] = []
    with balanced.insecure_channel(lb) as channel:

        def call() -> None:
            with contextlib.suppress(grpc.RpcError):
                one(channel, timeout=30, wait_for_ready=True)
            found.append(time.monotonic())

        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.1)
        began = time.monotonic()
        lb.close()
        thread.join(10)
        assert found[0] - began < 5
