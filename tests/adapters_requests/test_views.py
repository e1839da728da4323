"""What a policy sees of a request of requests': everything, where it asks for it, and else nothing."""

import gc
import io
from weakref import ref

from tests.adapters.looking import EVERYTHING, Looking, everything

import kubelb
from kubelb import Needs, hints
from kubelb.model import ANY, IDEMPOTENT

URL = "http://reviews.prod:81/carts/7?full=1"


def test_a_request_goes_where_its_header_or_path_says(session, service, balance):
    """Also where others stand around the policy."""
    pods = service(3)
    by_header = kubelb.Subset(Looking(lambda request: request.header("X-Pod")), size=9)
    by_path = Looking(lambda request: request.path.removeprefix("/at/"))
    header = session(balance(*pods, policy=by_header, slow_start=None))
    path = session(balance(*pods, policy=by_path, slow_start=None))
    for pod in [*pods, *reversed(pods)]:
        assert header.get(URL, headers={"x-pod": pod.address}).headers["x-backend"] == pod.name
        assert path.get(f"http://reviews.prod/at/{pod.address}?x=1").headers["x-backend"] == pod.name


def test_everything_that_a_view_shows(session, service, balance):
    """The same for every method; key, idempotence and whether it can be sent again are said as ever."""
    policy = Looking(
        lambda request: (everything(request), request.key, request.idempotent, request.replayable), EVERYTHING
    )
    client = session(balance(*service(1), policy=policy))
    client.get(URL, headers={"x-user": "u7"})
    client.post(URL, headers={"x-user": b"u7"}, data=b"abc")
    client.post(URL, data=iter([b"abc"]))
    with hints(key="k", idempotent=True):
        client.post(URL, headers={"host": "else.prod"}, data={"a": "b"})
    place = "/carts/7", "reviews.prod:81"
    assert policy.seen == [
        (("GET", *place, "u7", "u7", None, b""), None, True, True),
        (("POST", *place, b"u7", b"u7", None, b"abc"), None, False, True),
        (("POST", *place, None, None, None, None), None, False, False),
        (("POST", "/carts/7", "else.prod", None, None, None, b"a=b"), "k", True, True),
    ]


def test_the_host_is_a_header(session, service, balance):
    """Whether the caller gives it, in text or bytes, or it is the URL's."""
    policy = Looking(lambda request: (request.host, request.header("HOST")))
    client = session(balance(*service(1), policy=policy))
    client.get(URL)
    client.get(URL, headers={"Host": b"else.prod"})
    assert policy.seen == [("reviews.prod:81",) * 2, ("else.prod",) * 2]


def test_a_body_is_read_by_its_pod_alone(session, service, balance):
    """A policy's question takes nothing out of a file or an iterable, and what it is told is what is sent."""
    pods = service(1)
    policy = Looking(lambda request: request.body(), EVERYTHING)
    client = session(balance(*pods, policy=policy))
    for body in (io.BytesIO(b"abc"), iter([b"ab", b"c"]), "ab\u00e9", bytearray(b"abc")):
        client.post(URL, data=body)
    assert policy.seen == [None, None, "ab\u00e9".encode(), b"abc"]
    assert [request.body for request in pods[0].log] == [b"abc", b"abc", "ab\u00e9".encode(), b"abc"]


def test_others_get_the_constants(session, service, balance):
    """No view is made for a policy that does not look."""
    policy = Looking(lambda request: request, Needs())
    client = session(balance(*service(1), policy=policy))
    client.get(URL, headers={"x-user": "u7"})
    client.post(URL, data=b"x")
    got, posted = policy.seen
    assert got is IDEMPOTENT
    assert posted is ANY


def test_a_view_shows_no_secret(session, service, balance):
    """In a log line: no header, no key, no body, no URL."""
    policy = Looking(repr, EVERYTHING)
    client = session(balance(*service(1), policy=policy))
    with hints(key="s3cret"):
        client.post(f"{URL}&s3cret", headers={"authorization": "s3cret"}, data=b"s3cret")
    (shown,) = policy.seen
    assert shown == "Request(key=***, idempotent=False, replayable=True)"


def test_a_view_goes_with_its_call(session, service, balance):
    """Nothing of kubelb's keeps a client's request: neither of a call that went well nor of one that was repeated."""
    pods = service(2)
    pods[0].fail(503)
    client = session(balance(*pods, policy=Looking(lambda request: request.header("x-pod")), slow_start=None))
    for pod in pods:
        response = client.get(URL, headers={"x-pod": pod.address})
        left = ref(response.request)
        assert response.status_code == 200
        del response
        gc.collect()
        assert left() is None
