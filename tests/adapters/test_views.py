"""What a policy sees of a request: everything, where it asks for it, and else nothing.

The kind of fault: a policy that says `Needs(headers=True)` reads empty texts, and goes by them.
"""

import gc
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
from tests.adapters.looking import EVERYTHING, Looking, everything
from tests.adapters.world import World

import kubelb
from kubelb import Needs, hints
from kubelb.model import ANY, IDEMPOTENT
from kubelb.testing import LocalCluster

URL = "http://reviews.prod:81/carts/7?full=1"


def pod_in_header(request: kubelb.Request) -> str | bytes | None:
    return request.header("X-Pod")


@pytest.mark.parametrize(
    "around",
    [
        lambda policy: policy,
        lambda policy: kubelb.Only(policy, zone="zone-b"),
        lambda policy: kubelb.Subset(policy, size=9),
        lambda policy: kubelb.Subset(kubelb.Only(policy, zone="zone-b"), size=9),
    ],
    ids=["bare", "only", "subset", "both"],
)
def test_a_request_goes_where_its_header_says(
    world: World, service: Any, cluster: LocalCluster, around: Callable[[Any], Any]
) -> None:
    """Also where others stand around the policy: what it needs is what they need."""
    pods = service(3, zones=["zone-b"])
    found = kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)
    policy = around(Looking(pod_in_header))
    with kubelb.LoadBalancer(f"kube:///{pods.address}", discovery=found, policy=policy, slow_start=None) as lb:
        lb.wait_ready(timeout=30)
        client = world.client(lb, tls={"hosts": ["reviews.prod"]})
        for pod in [*pods, *reversed(pods)]:
            assert world.get(client, URL, headers={"x-pod": pod.address}).headers["x-backend"] == pod.name


def test_a_request_goes_where_its_path_says(world: World, service: Any, balance: Any) -> None:
    """As does one that is sent again: the first pod is down, and the view is read anew for the other try."""
    pods = service(3)
    policy = Looking(lambda request: request.path.removeprefix("/at/"))
    client = world.client(balance(*pods, policy=policy, slow_start=None))
    for pod in [*pods, *reversed(pods)]:
        assert world.get(client, f"http://reviews.prod/at/{pod.address}?x=/at/").headers["x-backend"] == pod.name
    pods[1].kill()
    policy.seen  # noqa: B018
    gone = f"/at/{pods[1].address}"
    assert world.get(client, f"http://reviews.prod{gone}").headers["x-backend"] in {pods[0].name, pods[2].name}
    seen = policy.seen
    assert len(seen) > 1
    assert set(seen) == {pods[1].address}


def test_everything_that_a_view_shows(world: World, service: Any, balance: Any) -> None:
    """The same for every method; key, idempotence and whether it can be sent again are said as ever."""
    policy = Looking(
        lambda request: (everything(request), request.key, request.idempotent, request.replayable), EVERYTHING
    )
    client = world.client(balance(*service(1), policy=policy))
    world.get(client, URL, headers={"x-user": "u7"})
    world.request(client, "POST", URL, headers={"x-user": "u7"}, content=b"abc")
    world.request(client, "POST", URL, content=world.body([b"abc"]))
    with hints(key="k", idempotent=True):
        world.request(client, "POST", URL, headers={"host": "else.prod"}, content=b"abc")
    place = "/carts/7", "reviews.prod:81"
    assert policy.seen == [
        (("GET", *place, "u7", "u7", None, b""), None, True, True),
        (("POST", *place, "u7", "u7", None, b"abc"), None, False, True),
        (("POST", *place, None, None, None, None), None, False, False),
        (("POST", "/carts/7", "else.prod", None, None, None, b"abc"), "k", True, True),
    ]


def test_a_body_is_read_by_its_pod_alone(world: World, service: Any, balance: Any) -> None:
    """A stream that a policy has asked for arrives whole, and is not at hand; bytes are."""
    pods = service(1)
    policy = Looking(lambda request: request.body(), EVERYTHING)
    client = world.client(balance(*pods, policy=policy))
    world.request(client, "POST", URL, content=world.body([b"ab", b"c"]))
    world.request(client, "POST", URL, files={"file": b"abc"})
    world.request(client, "POST", URL, content=b"abc")
    assert policy.seen == [None, None, b"abc"]
    assert [request.body for request in pods[0].log][::2] == [b"abc", b"abc"]


def test_a_key_is_read_beside_it(world: World, service: Any, balance: Any) -> None:
    """A policy may want both."""
    needs = Needs(key=kubelb.KeySource(header="x-user"), headers=True)
    policy = Looking(lambda request: (request.key, request.path), needs)
    world.get(world.client(balance(*service(1), policy=policy)), URL, headers={"x-user": "u7"})
    assert policy.seen == [("u7", "/carts/7")]


def test_others_get_the_constants(world: World, service: Any, balance: Any) -> None:
    """No view is made for a policy that does not look."""
    policy = Looking(lambda request: request, Needs())
    client = world.client(balance(*service(1), policy=policy))
    world.get(client, URL, headers={"x-user": "u7"})
    world.request(client, "POST", URL, content=b"x")
    got, posted = policy.seen
    assert got is IDEMPOTENT
    assert posted is ANY


def test_a_view_shows_no_secret(world: World, service: Any, balance: Any) -> None:
    """In a log line: no header, no key, no body, no URL."""
    policy = Looking(repr, EVERYTHING)
    client = world.client(balance(*service(1), policy=policy))
    with hints(key="s3cret"):
        world.request(client, "POST", f"{URL}&s3cret", headers={"authorization": "s3cret"}, content=b"s3cret")
    (shown,) = policy.seen
    assert shown == "Request(key=***, idempotent=False, replayable=True)"


def test_a_view_goes_with_its_call(world: World, service: Any, balance: Any) -> None:
    """Nothing of kubelb's keeps a client's request: neither of a call that went well nor of one that was repeated."""
    pods = service(2)
    client = world.client(balance(*pods, policy=Looking(pod_in_header), slow_start=None))
    pods[0].fail(503)
    for pod in pods:
        response = world.get(client, URL, headers={"x-pod": pod.address})
        left = ref(response.request)
        assert response.status_code == 200
        del response
        gc.collect()
        assert left() is None
