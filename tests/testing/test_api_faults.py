"""Each fault of the API server is what it says, on the wire."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import urllib3
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError

from kubelb.testing import LocalCluster

from .helpers import SLICES, ask, event, until, watching


def test_down_refuses_and_up_is_the_same_port(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Streams are cut without a last chunk, and history survives."""
    cluster.service("reviews.prod")
    version = str(cluster.api.resource_version)
    url = cluster.url
    with watching(cluster, http, resourceVersion=version) as (_, pieces):
        cluster.api.down()
        with pytest.raises(ProtocolError, match="ended prematurely"):
            next(pieces)
    assert cluster.api.watchers == 0
    with pytest.raises(NewConnectionError):
        ask(cluster, http)
    cluster.service("other.prod")
    cluster.api.up()
    assert cluster.url == url
    with watching(cluster, http, resourceVersion=version) as (_, pieces):
        assert event(next(pieces))[0] == "ADDED"


def test_down_by_reset(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """The streams end with RST."""
    with watching(cluster, http) as (_, pieces):
        cluster.api.down(reset=True)
        with pytest.raises(ProtocolError, match="reset by peer"):
            next(pieces)


def test_frozen_it_accepts_and_says_nothing(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Neither new requests nor open watches get a byte; thawed, it catches up in order."""
    with watching(cluster, http) as (_, pieces):
        cluster.api.freeze()
        cluster.service("reviews.prod", replicas=1)
        cluster.service("other.prod", replicas=1)
        with pytest.raises(ReadTimeoutError):
            http.request("GET", cluster.url + "/readyz", timeout=0.1)
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(http.request("GET", cluster.url + "/readyz").status))
        thread.start()
        time.sleep(0.05)
        assert results == []
        cluster.api.thaw()
        thread.join()
        assert results == [200]
        assert [event(next(pieces))[1]["metadata"]["labels"]["kubernetes.io/service-name"] for _ in range(2)] == [
            "reviews",
            "other",
        ]


def test_a_frozen_server_can_be_closed_and_cut(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Going down ends frozen connections too."""
    cluster.api.freeze()
    with socket.create_connection(("127.0.0.1", int(cluster.url.rpartition(":")[2])), timeout=3.0) as sock:
        sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.03)
        cluster.api.down()
        assert sock.recv(1) == b""


def test_scripted_failures(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """In their order by count and verb, then the lasting one, until it heals."""
    cluster.api.fail(503)
    cluster.api.fail(429, retry_after=7, times=1, verb="list")
    cluster.api.fail(500, times=1)
    first, second, third = (ask(cluster, http) for _ in range(3))
    assert [answer.status for answer in (first, second, third)] == [429, 500, 503]
    assert first.headers["retry-after"] == "7"
    status = first.json()
    assert (status["kind"], status["reason"], status["details"]) == (
        "Status",
        "TooManyRequests",
        {"retryAfterSeconds": 7},
    )
    cluster.api.fail(403)
    assert ask(cluster, http).status == 403
    cluster.api.fail(418, verb="watch", body="I am a teapot")
    assert ask(cluster, http).status == 403
    cluster.api.heal()
    assert ask(cluster, http).status == 200


def test_failures_of_one_verb_leave_the_others(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """A watch fails, a list does not; a body of one's own is sent as it is."""
    cluster.api.fail(200, verb="watch", body=b"<html>proxy</html>")
    assert ask(cluster, http).status == 200
    assert ask(cluster, http, watch="true").data == b"<html>proxy</html>"
    cluster.api.fail(410, verb="watch", body={"kind": "Status", "code": 410})
    assert ask(cluster, http, watch="true").json() == {"kind": "Status", "code": 410}


def test_a_fault_that_no_request_would_meet(cluster: LocalCluster) -> None:
    """A misspelt verb is refused: a test would pass for want of the fault that it is about."""
    with pytest.raises(ValueError, match=r"api.forbid\(verb='wach'\): give one of list, watch"):
        cluster.api.forbid("wach", "prod")
    with pytest.raises(ValueError, match=r"api.fail\(verb='LIST'\): give one of list, watch"):
        cluster.api.fail(429, verb="LIST")
    with pytest.raises(TypeError, match=r"api.fail\('429'\): give an HTTP status"):
        cluster.api.fail("429")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="handler=5: give a function"):
        cluster.service("five.prod", handler=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="grpc=5: give True, or a function"):
        cluster.service("five.prod", grpc=5)  # type: ignore[arg-type]


def test_expire_leaves_open_watches(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """They go on; who begins from before is answered 410."""
    cluster.service("reviews.prod")
    version = str(cluster.api.resource_version)
    with watching(cluster, http, resourceVersion=version) as (_, pieces):
        cluster.api.expire()
        cluster.service("other.prod")
        assert event(next(pieces))[0] == "ADDED"
    kind, status = event(ask(cluster, http, watch="1", resourceVersion=version).data)
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


def test_history_is_limited(http: urllib3.PoolManager) -> None:
    """The oldest changes are forgotten by themselves."""
    with LocalCluster(history=5) as cluster:
        svc = cluster.service("reviews.prod")
        version = cluster.api.resource_version
        for _ in range(3):
            svc[0].not_ready()
            svc[0].ready()
        assert event(ask(cluster, http, watch="1", resourceVersion=str(version)).data)[0] == "ERROR"
        with watching(cluster, http, resourceVersion=str(version + 1)) as (_, pieces):
            assert len(next(pieces).splitlines()) == 5


@pytest.mark.parametrize("how", ["clean", "abrupt", "reset"])
def test_streams_end_in_three_ways(cluster: LocalCluster, http: urllib3.PoolManager, how: str) -> None:
    """With the last chunk and a connection that can be used again; without it; by RST."""
    with watching(cluster, http) as (_, pieces):
        assert cluster.api.cut_streams(how) == 1  # type: ignore[arg-type]
        if how == "clean":
            assert list(pieces) == []
        else:
            with pytest.raises(ProtocolError, match="reset by peer" if how == "reset" else "ended prematurely"):
                next(pieces)
    cluster.api.wait_for_watchers(0)
    assert ask(cluster, http).status == 200


def test_lines_of_nonsense(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Sent into open watches as they are, whole or in halves."""
    with watching(cluster, http) as (_, pieces):
        cluster.api.send_line(b'{"type":"WHAT","object":{}}')
        assert next(pieces) == b'{"type":"WHAT","object":{}}\n'
        cluster.api.send_bytes(b'{"type":')
        assert next(pieces) == b'{"type":'
        cluster.api.send_error(500, "etcd has gone", retry_after=1)
        kind, status = event(next(pieces))
        assert (kind, status["message"], status["details"]) == ("ERROR", "etcd has gone", {"retryAfterSeconds": 1})
        assert list(pieces) == []


def test_bookmarks_on_demand_and_by_the_clock(http: urllib3.PoolManager) -> None:
    """To those who asked for bookmarks, with the version of the whole cluster."""
    with LocalCluster(bookmark_interval=0.05) as cluster:
        with watching(cluster, http, allowWatchBookmarks="true") as (_, pieces):
            kind, found = event(next(pieces))
            assert (kind, found["metadata"]) == ("BOOKMARK", {"resourceVersion": str(cluster.api.resource_version)})
        with watching(cluster, http) as (_, pieces):
            cluster.api.bookmark_now()
            cluster.api.send_line(b"end")
            assert next(pieces) == b"end\n"
    with LocalCluster() as cluster, watching(cluster, http, allowWatchBookmarks="1") as (_, pieces):
        cluster.api.bookmark_now()
        assert event(next(pieces))[0] == "BOOKMARK"


def test_slow_answers(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Every answer waits; the request is on record meanwhile."""
    cluster.api.slow(0.1)
    began = time.monotonic()
    thread = threading.Thread(target=ask, args=(cluster, http))
    thread.start()
    until(lambda: len(cluster.api.requests) == 1)
    assert cluster.api.requests[0].status == 0
    thread.join()
    assert time.monotonic() - began >= 0.1
    assert cluster.api.requests[0].status == 200


def test_headers_held_back(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Until the first event, or until the time is over."""
    cluster.api.delay_headers(0.1)
    began = time.monotonic()
    with watching(cluster, http):
        assert 0.1 <= time.monotonic() - began < 5.0
    cluster.api.delay_headers(30.0)
    threading.Timer(0.05, cluster.service, ("reviews.prod",)).start()
    with watching(cluster, http) as (_, pieces):
        assert event(next(pieces))[0] == "ADDED"


def test_writes_in_pieces(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Every byte for itself: the same answer."""
    cluster.service("reviews.prod", replicas=3)
    whole = ask(cluster, http).json()
    cluster.api.split_writes(1)
    assert ask(cluster, http).json() == whole
    with watching(cluster, http) as (_, pieces):
        assert event(next(pieces))[0] == "ADDED"


def test_tokens_come_and_go(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Rotated in kubeconfig and token file, the old one revoked; revoked ones are 401, open watches go on."""
    old = cluster.token
    with watching(cluster, http) as (_, pieces):
        new = cluster.api.rotate_token()
        assert cluster.token == new != old
        with open(cluster.token_file) as file:
            assert file.read() == new
        with open(cluster.kubeconfig) as file:
            text = file.read()
        assert new in text
        assert old not in text
        assert ask(cluster, http, token=old).status == 401
        assert ask(cluster, http).status == 200
        cluster.api.revoke(new)
        assert ask(cluster, http).status == 401
        cluster.service("reviews.prod")
        assert event(next(pieces))[0] == "ADDED"


def test_old_tokens_may_be_kept(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """As in life, where they live until they expire."""
    old = cluster.token
    cluster.api.rotate_token(keep_old=True)
    assert ask(cluster, http, token=old).status == 200


def test_permissions_are_taken_away(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """From everybody, for a verb in a namespace; then given back."""
    cluster.api.forbid("watch", "prod")
    assert ask(cluster, http).status == 200
    answer = ask(cluster, http, watch="1")
    assert (answer.status, "cannot watch" in answer.json()["message"]) == (403, True)
    cluster.api.allow()
    cluster.api.forbid()
    assert ask(cluster, http).status == 403
    cluster.api.heal()
    assert ask(cluster, http).status == 200


def test_requests_are_on_record(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Verb, path, query, status and user; of the token nothing."""
    began = time.monotonic()
    ask(cluster, http, limit="5", labelSelector="a=b")
    ask(cluster, http, token="unknown")
    http.request("GET", cluster.url + "/readyz")
    first, second, third = cluster.api.requests
    assert (first.verb, first.method, first.path, first.namespace, first.resource) == (
        "list",
        "GET",
        SLICES,
        "prod",
        "endpointslices",
    )
    assert first.query == {"limit": "5", "labelSelector": "a=b"}
    assert (first.status, first.user) == (200, "system:serviceaccount:default:kubelb")
    assert began <= first.at <= time.monotonic()
    assert first.headers["authorization"] == "Bearer [redacted]"
    assert (second.status, second.user) == (401, None)
    assert (third.verb, third.user) == ("get", "system:anonymous")
    assert cluster.token not in repr(cluster.api.requests)
    cluster.api.clear_requests()
    assert cluster.api.requests == []


def test_a_watcher_that_leaves_is_noticed(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """Without an event that would have to be written to it."""
    with watching(cluster, http):
        assert cluster.api.watchers == 1
    cluster.api.wait_for_watchers(0)
    with pytest.raises(TimeoutError, match="0 of 1 watches"):
        cluster.api.wait_for_watchers(1, timeout=0.02)


@pytest.mark.slow
def test_two_hundred_watchers_see_ten_thousand_endpoints(cluster: LocalCluster) -> None:
    """A list of them, and a change of one at each of two hundred watches."""
    svc = cluster.service("big.prod", replicas=10_000, listen=False)
    http = urllib3.PoolManager(retries=False, timeout=10.0, maxsize=201)
    found = ask(cluster, http).json()
    assert sum(len(piece["endpoints"]) for piece in found["items"]) == 10_000
    headers = {"Authorization": f"Bearer {cluster.token}"}
    query = {"watch": "1", "resourceVersion": found["metadata"]["resourceVersion"]}
    responses = [
        http.request("GET", cluster.url + SLICES, fields=query, headers=headers, preload_content=False)
        for _ in range(200)
    ]
    cluster.api.wait_for_watchers(200)
    svc[1234].not_ready()
    lines = {next(response.stream(None)) for response in responses}
    assert len(lines) == 1
    assert event(lines.pop())[0] == "MODIFIED"
    for response in responses:
        response.close()
    http.clear()
