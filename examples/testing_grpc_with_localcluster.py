"""Tests of a client of the gRPC service `reviews.prod`, without Kubernetes.

Run them by `pytest examples/testing_grpc_with_localcluster.py`.
"""

import threading
from collections.abc import Callable, Iterator

import grpc
import pytest

import kubelb
from kubelb.adapters.grpc import insecure_channel
from kubelb.testing import Backend, LocalCluster, Service

Get = Callable[[bytes], bytes]


def register(server: grpc.Server, backend: Backend) -> None:
    """With generated code: `add_ReviewsServicer_to_server(Reviews(backend.name), server)`."""

    def get(request: bytes, context: grpc.ServicerContext) -> bytes:
        if not request:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "which product?")
        return f"{request.decode()}: 5 stars, says {backend.name}".encode()

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Get": grpc.unary_unary_rpc_method_handler(get)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Reviews", handlers),))


@pytest.fixture
def reviews(kubelb_cluster: LocalCluster) -> Service:
    return kubelb_cluster.service("reviews.prod:grpc", replicas=3, grpc=register)


@pytest.fixture
def get(kubelb_cluster: LocalCluster, reviews: Service) -> Iterator[Get]:
    with (
        kubelb.LoadBalancer(
            reviews.address,
            discovery=kubelb.DiscoveryOptions(
                kubeconfig=kubelb_cluster.kubeconfig, nameserver=kubelb_cluster.dns.address
            ),
        ) as lb,
        insecure_channel(lb) as channel,
    ):
        lb.wait_ready()
        yield channel.unary_unary("/shop.Reviews/Get")  # with generated code: `ReviewsStub(channel).Get`


def test_a_dead_pod_is_nobodys_problem(reviews: Service, get: Get) -> None:
    reviews[0].kill()
    with kubelb.hints(idempotent=True):
        assert all(get(b"7").startswith(b"7: 5 stars") for _ in range(100))
    assert reviews[1].requests + reviews[2].requests == 100


def test_a_failing_pod_is_retried_elsewhere(reviews: Service, get: Get) -> None:
    reviews[0].fail(grpc.StatusCode.UNAVAILABLE)
    with kubelb.hints(idempotent=True):
        pods = {get(b"7").rpartition(b" ")[2] for _ in range(30)}
    assert pods == {b"reviews-1", b"reviews-2"}


def test_a_call_that_may_have_been_processed_is_not_repeated(reviews: Service, get: Get) -> None:
    for backend in reviews:
        backend.reset()
    with pytest.raises(grpc.RpcError) as caught:
        get(b"7")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [call.body for backend in reviews for call in backend.log] == [b"7"]


def test_a_rolling_restart_under_load(reviews: Service, get: Get) -> None:
    restart = threading.Thread(target=reviews.rolling_restart, kwargs={"grace": 0.1})
    restart.start()
    with kubelb.hints(idempotent=True):
        while restart.is_alive():
            assert get(b"7").startswith(b"7: 5 stars")
    restart.join()
