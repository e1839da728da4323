"""The contract of the EndpointSlice API: what kubelb relies on, and what `kubelb.testing` promises to answer alike.

Each test takes `api`, an `ApiUnderTest`. The modules that import this suite say which one.
"""

from __future__ import annotations

import gzip
import json
import time

import pytest

from .adapter import ApiUnderTest, names, slices_path, version

SERVICE = "kubernetes.io/service-name"


# -- objects and versions


def test_a_list_is_typed_and_its_items_are_not(api: ApiUnderTest) -> None:
    """kind and apiVersion stand on the list; items carry what the server adds: uid, version, generation, time."""
    ns = api.namespace()
    api.put(api.slice(ns, "web-a"))
    found = api.list(ns)
    assert (found["kind"], found["apiVersion"]) == ("EndpointSliceList", "discovery.k8s.io/v1")
    (item,) = found["items"]
    assert "kind" not in item
    assert "apiVersion" not in item
    metadata = item["metadata"]
    assert metadata["namespace"] == ns
    assert metadata["generation"] == 1
    assert len(metadata["uid"]) == 36
    assert time.strptime(metadata["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
    assert item["endpoints"][0]["addresses"] == [api.address(0)]
    assert item["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert version(item) <= version(found)


def test_a_list_is_ordered_by_namespace_and_name(api: ApiUnderTest) -> None:
    """Whatever the order of creation."""
    ns = api.namespace()
    for name in ("web-c", "web-a", "web-b"):
        api.put(api.slice(ns, name))
    assert names(api.list(ns)) == ["web-a", "web-b", "web-c"]


def test_an_empty_list_has_items(api: ApiUnderTest) -> None:
    """Nothing is an empty array, with a version from which a watch can start."""
    found = api.list(api.namespace())
    assert found["items"] == []
    assert version(found) > 0


def test_versions_rise_over_the_whole_cluster(api: ApiUnderTest) -> None:
    """A write in one namespace raises the version that the next write in another namespace gets."""
    one, other = api.namespace(), api.namespace()
    versions = [version(api.put(api.slice(ns, "web-a", count=n))) for n, ns in enumerate((one, other, one), 1)]
    assert versions == sorted(set(versions))


def test_an_update_that_changes_nothing_is_no_write(api: ApiUnderTest) -> None:
    """The version stays, so that a watch sees nothing."""
    ns = api.namespace()
    first = api.put(api.slice(ns, "web-a"))
    second = api.put(api.slice(ns, "web-a"))
    assert version(first) == version(second)


def test_a_change_keeps_the_uid_and_raises_the_generation(api: ApiUnderTest) -> None:
    """An object that is deleted and created again is another one."""
    ns = api.namespace()
    first = api.put(api.slice(ns, "web-a"))
    second = api.put(api.slice(ns, "web-a", count=2))
    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert (first["metadata"]["generation"], second["metadata"]["generation"]) == (1, 2)
    api.delete(ns, "web-a")
    assert api.put(api.slice(ns, "web-a"))["metadata"]["uid"] != first["metadata"]["uid"]


def test_one_slice_by_name(api: ApiUnderTest) -> None:
    """A single object carries its kind."""
    ns = api.namespace()
    api.put(api.slice(ns, "web-a"))
    found = api.request(f"{slices_path(ns)}/web-a").json()
    assert (found["kind"], found["metadata"]["name"]) == ("EndpointSlice", "web-a")


def test_a_service_by_name(api: ApiUnderTest) -> None:
    """The Service of which slices speak can be read."""
    ns = api.namespace()
    api.service(ns, "web")
    found = api.request(f"/api/v1/namespaces/{ns}/services/web").json()
    assert (found["kind"], found["metadata"]["name"]) == ("Service", "web")
    assert found["spec"]["internalTrafficPolicy"] == "Cluster"
    assert found["spec"]["ports"][0]["port"] == 80


# -- selectors


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (f"{SERVICE}=web", ["a", "b"]),
        (f"{SERVICE}==web", ["a", "b"]),
        (f"{SERVICE}!=web", ["c"]),
        (f"{SERVICE} in (web,api)", ["a", "b", "c"]),
        (f"{SERVICE} in (api, other)", ["c"]),
        (f"{SERVICE} notin (web)", ["c"]),
        ("tier", ["b", "c"]),
        ("!tier", ["a"]),
        ("tier=front", ["b"]),
        ("tier!=front", ["a", "c"]),
        ("tier notin (front)", ["a", "c"]),
        (f"{SERVICE}=web,tier", ["b"]),
        (f"{SERVICE} in (web,api),tier in (front,back)", ["b", "c"]),
        ("tier=", []),
        ("nothing", []),
        ("", ["a", "b", "c"]),
    ],
)
def test_label_selectors(api: ApiUnderTest, selector: str, expected: list[str]) -> None:
    """Equality, sets and existence; what is absent is also unequal."""
    ns = api.namespace()
    api.put(api.slice(ns, "a"))
    api.put(api.slice(ns, "b", labels={"tier": "front"}))
    api.put(api.slice(ns, "c", service="api", labels={"tier": "back"}))
    assert names(api.list(ns, labelSelector=selector)) == expected


@pytest.mark.parametrize("selector", ["a b", "a in b", "=x", "a in (b", ","])
def test_a_selector_that_cannot_be_parsed_is_a_bad_request(api: ApiUnderTest, selector: str) -> None:
    """400 BadRequest."""
    status = api.refusal(slices_path(api.namespace()), {"labelSelector": selector})
    assert (status["code"], status["reason"]) == (400, "BadRequest")


def test_field_selectors(api: ApiUnderTest) -> None:
    """By name; other fields cannot be asked about."""
    ns = api.namespace()
    api.put(api.slice(ns, "a"))
    api.put(api.slice(ns, "b"))
    assert names(api.list(ns, fieldSelector="metadata.name=a")) == ["a"]
    assert names(api.list(ns, fieldSelector="metadata.name!=a")) == ["b"]
    assert api.refusal(slices_path(ns), {"fieldSelector": "addressType=IPv4"})["code"] == 400


def test_a_cluster_wide_list_has_every_namespace(api: ApiUnderTest) -> None:
    """In the order of their names."""
    spaces = sorted([api.namespace(), api.namespace()])
    for ns in spaces:
        api.put(api.slice(ns, "web-a", labels={"suite": spaces[0]}))
    found = api.list(None, labelSelector=f"suite={spaces[0]}")
    assert [item["metadata"]["namespace"] for item in found["items"]] == spaces


# -- pages


def test_pages_show_the_moment_of_the_first(api: ApiUnderTest) -> None:
    """What is written between two pages is in neither; the version is the first page's on all of them."""
    ns = api.namespace()
    for name in ("a", "b", "c", "d"):
        api.put(api.slice(ns, name))
    first = api.list(ns, limit="2")
    assert names(first) == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 2
    api.put(api.slice(ns, "c", count=2))
    api.put(api.slice(ns, "cc"))
    api.delete(ns, "d")
    second = api.list(ns, limit="2", continue_=first["metadata"]["continue"])
    assert names(second) == ["c", "d"]
    assert version(second) == version(first)
    assert len(second["items"][0]["endpoints"]) == 1
    assert "continue" not in second["metadata"]
    assert "remainingItemCount" not in second["metadata"]


def test_a_selection_does_not_say_how_much_remains(api: ApiUnderTest) -> None:
    """The server would have to look; and the page after it is selected too."""
    ns = api.namespace()
    for name in ("a", "b", "c"):
        api.put(api.slice(ns, name, service="web" if name != "b" else "api"))
    first = api.list(ns, limit="1", labelSelector=f"{SERVICE}=web")
    assert names(first) == ["a"]
    assert "remainingItemCount" not in first["metadata"]
    rest = api.list(ns, limit="5", labelSelector=f"{SERVICE}=web", continue_=first["metadata"]["continue"])
    assert names(rest) == ["c"]


def test_version_zero_ignores_the_limit(api: ApiUnderTest) -> None:
    """It is served from a cache, which does not page."""
    ns = api.namespace()
    for name in ("a", "b", "c"):
        last = version(api.put(api.slice(ns, name)))
    # The cache may be behind by a moment, so first wait for it.
    api.list(ns, resourceVersion=str(last), resourceVersionMatch="NotOlderThan")
    assert names(api.list(ns, resourceVersion="0", limit="1")) == ["a", "b", "c"]


def test_a_version_beside_a_continue_token_is_refused(api: ApiUnderTest) -> None:
    """The token holds a version already."""
    ns = api.namespace()
    for name in ("a", "b"):
        api.put(api.slice(ns, name))
    first = api.list(ns, limit="1")
    query = {"limit": "1", "continue": first["metadata"]["continue"], "resourceVersion": str(version(first))}
    assert api.refusal(slices_path(ns), query)["code"] == 400


def test_a_continue_token_of_ones_own_making_is_refused(api: ApiUnderTest) -> None:
    """400, as it is not valid."""
    status = api.refusal(slices_path(api.namespace()), {"limit": "1", "continue": "bm9uc2Vuc2U"})
    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert "continue key is not valid" in status["message"]


def test_an_expired_continue_token_comes_with_a_new_one(api: ApiUnderTest) -> None:
    """HTTP 410, and a token in its metadata by which the rest can be had as it is now."""
    ns = api.namespace()
    for name in ("a", "b"):
        api.put(api.slice(ns, name))
    token = api.list(ns, limit="1")["metadata"]["continue"]
    api.put(api.slice(ns, "c"))
    api.expire()
    status = api.refusal(slices_path(ns), {"limit": "1", "continue": token})
    assert (status["code"], status["reason"]) == (410, "Expired")
    assert "too old to display a consistent list result" in status["message"]
    assert names(api.list(ns, continue_=status["metadata"]["continue"])) == ["b", "c"]


# -- versions that a list may ask for


def test_an_exact_list_is_the_past(api: ApiUnderTest) -> None:
    """`Exact`, and by an old rule also a version with a limit and without a match."""
    ns = api.namespace()
    then = str(version(api.put(api.slice(ns, "a"))))
    api.put(api.slice(ns, "b"))
    found = api.list(ns, resourceVersion=then, resourceVersionMatch="Exact")
    assert (names(found), found["metadata"]["resourceVersion"]) == (["a"], then)
    assert names(api.list(ns, resourceVersion=then, limit="10")) == ["a"]


def test_a_list_not_older_than_is_the_present(api: ApiUnderTest) -> None:
    """With the match, and without it where there is no limit."""
    ns = api.namespace()
    then = str(version(api.put(api.slice(ns, "a"))))
    now = version(api.put(api.slice(ns, "b")))
    api.list(ns, resourceVersion=str(now), resourceVersionMatch="NotOlderThan")
    assert names(api.list(ns, resourceVersion=then, resourceVersionMatch="NotOlderThan")) == ["a", "b"]
    assert names(api.list(ns, resourceVersion=then)) == ["a", "b"]


def test_a_list_from_the_future_is_too_large(api: ApiUnderTest) -> None:
    """504 Timeout with the cause ResourceVersionTooLarge, and a hint when to come back."""
    ns = api.namespace()
    future = str(version(api.list(ns)) + 100_000)
    query = {"resourceVersion": future, "resourceVersionMatch": "NotOlderThan"}
    status = api.refusal(slices_path(ns), query)
    assert (status["code"], status["reason"]) == (504, "Timeout")
    assert status["details"]["retryAfterSeconds"] == 1
    assert [cause["reason"] for cause in status["details"]["causes"]] == ["ResourceVersionTooLarge"]
    assert status["message"].startswith(f"Timeout: Too large resource version: {future}, current: ")


def test_an_exact_list_that_is_too_old_is_expired(api: ApiUnderTest) -> None:
    """HTTP 410."""
    ns = api.namespace()
    then = str(version(api.put(api.slice(ns, "a"))))
    api.put(api.slice(ns, "b"))
    api.expire()
    status = api.refusal(slices_path(ns), {"resourceVersion": then, "resourceVersionMatch": "Exact"})
    assert (status["code"], status["reason"]) == (410, "Expired")
    assert names(api.list(ns, resourceVersion=then, resourceVersionMatch="NotOlderThan")) == ["a", "b"]


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ({"resourceVersionMatch": "Exact"}, 422, "resourceVersionMatch"),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 422, "resourceVersionMatch"),
        ({"resourceVersionMatch": "Newest", "resourceVersion": "1"}, 422, "resourceVersionMatch"),
        ({"sendInitialEvents": "true"}, 422, "sendInitialEvents"),
        ({"watch": "1", "sendInitialEvents": "true"}, 422, "resourceVersionMatch"),
        ({"watch": "1", "resourceVersionMatch": "NotOlderThan"}, 422, "resourceVersionMatch"),
        ({"resourceVersion": "abc"}, 400, None),
    ],
)
def test_options_that_exclude_each_other(
    api: ApiUnderTest, query: dict[str, str], code: int, field: str | None
) -> None:
    """422 Invalid names the field; what is no number is a bad request."""
    status = api.refusal(slices_path(api.namespace()), query)
    assert status["code"] == code, status
    if field is not None:
        assert status["reason"] == "Invalid"
        assert field in status["message"]
        assert field in [cause["field"] for cause in status["details"]["causes"]]


# -- watches


def test_a_watch_goes_on_from_a_list(api: ApiUnderTest) -> None:
    """Creation, change and deletion, each with its object; a deletion shows the last state under its own version."""
    ns = api.namespace()
    api.put(api.slice(ns, "a"))
    start = version(api.list(ns))
    with api.watch(ns, resourceVersion=str(start)) as watch:
        api.put(api.slice(ns, "b"))
        api.put(api.slice(ns, "b", count=2))
        api.delete(ns, "b")
        events = watch.take(3)
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert all(event["object"]["kind"] == "EndpointSlice" for event in events)
    assert all(event["object"]["metadata"]["name"] == "b" for event in events)
    assert [len(event["object"]["endpoints"]) for event in events] == [1, 2, 2]
    versions = [start, *(version(event["object"]) for event in events)]
    assert versions == sorted(set(versions))


def test_a_watch_shows_what_happened_before_it_began(api: ApiUnderTest) -> None:
    """Everything after its version, in order."""
    ns = api.namespace()
    start = version(api.put(api.slice(ns, "a")))
    api.put(api.slice(ns, "a", count=2))
    api.delete(ns, "a")
    with api.watch(ns, resourceVersion=str(start)) as watch:
        assert [event["type"] for event in watch.take(2)] == ["MODIFIED", "DELETED"]


@pytest.mark.parametrize("start", ["", "0"])
def test_a_watch_without_a_version_begins_with_what_is_there(api: ApiUnderTest, start: str) -> None:
    """An ADDED for each object, then what happens."""
    ns = api.namespace()
    for name in ("a", "b"):
        last = version(api.put(api.slice(ns, name)))
    api.list(ns, resourceVersion=str(last), resourceVersionMatch="NotOlderThan")
    with api.watch(ns, resourceVersion=start) as watch:
        events = watch.take(2)
        api.delete(ns, "a")
        events += watch.take(1)
    assert sorted(event["object"]["metadata"]["name"] for event in events[:2]) == ["a", "b"]
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "DELETED"]


def test_a_watch_sees_objects_enter_and_leave_its_selector(api: ApiUnderTest) -> None:
    """Relabelled into it: ADDED. Out of it: DELETED, as last seen, under the version of the change."""
    ns = api.namespace()
    start = version(api.list(ns))
    with api.watch(ns, resourceVersion=str(start), labelSelector=f"{SERVICE}=web") as watch:
        api.put(api.slice(ns, "a", service="api"))
        entered = api.put(api.slice(ns, "a", service="web"))
        left = api.put(api.slice(ns, "a", service="api", count=2))
        api.delete(ns, "a")
        api.put(api.slice(ns, "b"))
        events = watch.take(3)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
    ]
    assert version(events[0]["object"]) == version(entered)
    assert version(events[1]["object"]) == version(left)
    assert events[1]["object"]["metadata"]["labels"][SERVICE] == "web"
    assert len(events[1]["object"]["endpoints"]) == 1


def test_a_watch_of_a_set_sees_a_label_change_inside_it_as_a_modification(api: ApiUnderTest) -> None:
    """From one member to another: MODIFIED, with the new label alone. Out of the set: DELETED, with the old one."""
    ns = api.namespace()
    start = version(api.put(api.slice(ns, "a", service="web")))
    with api.watch(ns, resourceVersion=str(start), labelSelector=f"{SERVICE} in (api,web)") as watch:
        api.put(api.slice(ns, "a", service="api"))
        api.put(api.slice(ns, "b", service="other"))
        left = api.put(api.slice(ns, "a", service="other"))
        api.put(api.slice(ns, "b", service="web"))
        events = watch.take(3)
    seen = [(event["type"], event["object"]["metadata"]["labels"][SERVICE]) for event in events]
    assert seen == [("MODIFIED", "api"), ("DELETED", "api"), ("ADDED", "web")]
    assert version(events[1]["object"]) == version(left)


def test_a_wider_watch_begins_where_a_narrower_one_has_come_to(api: ApiUnderTest) -> None:
    """From the version of its last event, or of a list before it: what came after is told, and nothing twice over."""
    ns = api.namespace()
    start = str(version(api.put(api.slice(ns, "a", service="web"))))
    with api.watch(ns, resourceVersion=start, labelSelector=f"{SERVICE}=web") as narrow:
        api.put(api.slice(ns, "b", service="api"))
        api.put(api.slice(ns, "a", service="web", count=2))
        seen = str(version(narrow.take(1)[0]["object"]))
        api.put(api.slice(ns, "c", service="api"))
    wide = {"labelSelector": f"{SERVICE} in (api,web)"}
    with api.watch(ns, resourceVersion=seen, **wide) as later, api.watch(ns, resourceVersion=start, **wide) as earlier:
        assert [event["object"]["metadata"]["name"] for event in later.take(1)] == ["c"]
        assert [event["object"]["metadata"]["name"] for event in earlier.take(3)] == ["b", "a", "c"]


@pytest.mark.parametrize("count", [100, 200])
def test_many_names_in_one_selector(api: ApiUnderTest, count: int) -> None:
    """A set of long names, as long as a request can be that proxies let through, and longer."""
    ns = api.namespace()
    api.put(api.slice(ns, "a", service="web"))
    values = ",".join(["web", *(f"{'service-with-a-long-name':-<40}{n:03}" for n in range(count))])
    assert names(api.list(ns, labelSelector=f"{SERVICE} in ({values})")) == ["a"]


def test_whatever_belongs_to_a_service(api: ApiUnderTest) -> None:
    """The label's key alone selects all that carry it."""
    ns = api.namespace()
    api.put(api.slice(ns, "a", service="web"))
    api.put(api.slice(ns, "b", service="api"))
    assert names(api.list(ns, labelSelector=SERVICE)) == ["a", "b"]


def test_a_watch_of_a_namespace_sees_no_other(api: ApiUnderTest) -> None:
    """And a cluster-wide one sees all."""
    one, other = api.namespace(), api.namespace()
    start = str(version(api.list(one)))
    # In the whole cluster others write, too: a real server its own slice, a controller those of other tests.
    ours = {"suite": one}
    with (
        api.watch(one, resourceVersion=start) as narrow,
        api.watch(None, resourceVersion=start, labelSelector=f"suite={one}") as wide,
    ):
        api.put(api.slice(other, "b", labels=ours))
        api.put(api.slice(one, "a", labels=ours))
        assert narrow.take(1)[0]["object"]["metadata"]["name"] == "a"
        seen = [event["object"]["metadata"]["name"] for event in wide.take(2)]
    assert seen == ["b", "a"]


@pytest.mark.slow
def test_a_watch_ends_when_its_time_is_over(api: ApiUnderTest) -> None:
    """Cleanly: the last chunk comes, and the connection can be used again."""
    ns = api.namespace()
    began = time.monotonic()
    with api.watch(ns, resourceVersion=str(version(api.list(ns))), timeoutSeconds="1") as watch:
        assert watch.rest() == []
    assert 0.9 < time.monotonic() - began < 6.0  # and not the eight seconds of the others


@pytest.mark.slow
def test_bookmarks_come_to_those_who_ask(api: ApiUnderTest) -> None:
    """One before the end, with nothing in it but how far the watch has come; and only to them."""
    ns = api.namespace()
    api.put(api.slice(ns, "a"))
    start = version(api.list(ns))
    # A real server promises none: about two seconds before the end it sends one, mostly.
    for seconds in ("3", "6", "10"):
        query = {"resourceVersion": str(start), "timeoutSeconds": seconds}
        with api.watch(ns, allowWatchBookmarks="true", **query) as watch, api.watch(ns, **query) as other:
            api.put(api.slice(api.namespace(), "elsewhere"))
            event = watch.next()
            if event is not None:
                assert other.rest() == []
                break
    assert event is not None
    assert event["type"] == "BOOKMARK"
    found = event["object"]
    assert (found["kind"], found["apiVersion"]) == ("EndpointSlice", "discovery.k8s.io/v1")
    assert found["metadata"].keys() == {"resourceVersion"}
    assert found["endpoints"] is None
    assert version(found) >= start


def test_a_watch_from_a_forgotten_version_is_accepted_and_fails(api: ApiUnderTest) -> None:
    """HTTP 200, one ERROR event with a Status 410 Expired, and the end."""
    ns = api.namespace()
    start = str(version(api.put(api.slice(ns, "a"))))
    api.put(api.slice(ns, "b"))
    api.expire()
    with api.watch(ns, resourceVersion=start) as watch:
        (event,) = watch.rest()
    assert event["type"] == "ERROR"
    status = event["object"]
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
    assert status["message"].startswith(f"too old resource version: {start} (")


def test_a_list_after_expiry_is_a_version_to_watch_from(api: ApiUnderTest) -> None:
    """So that a relist recovers."""
    ns = api.namespace()
    api.put(api.slice(ns, "a"))
    api.expire()
    start = str(version(api.list(ns)))
    with api.watch(ns, resourceVersion=start) as watch:
        api.put(api.slice(ns, "b"))
        assert watch.take(1)[0]["object"]["metadata"]["name"] == "b"


@pytest.mark.slow
def test_a_watch_from_the_future_is_silent(api: ApiUnderTest) -> None:
    """HTTP 200, and nothing of what happens before the cluster has come that far."""
    ns = api.namespace()
    future = str(version(api.list(ns)) + 100_000)
    with api.watch(ns, resourceVersion=future, timeoutSeconds="1") as watch:
        api.put(api.slice(ns, "a"))
        assert watch.rest() == []


# -- WatchList

WATCH_LIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


def test_a_watch_list_says_when_it_is_complete(api: ApiUnderTest) -> None:
    """ADDED for what is there, a BOOKMARK with the annotation, then what happens, on one stream."""
    ns = api.namespace()
    for name in ("a", "b"):
        last = version(api.put(api.slice(ns, name)))
    with api.watch(ns, resourceVersion="", **WATCH_LIST) as watch:
        events = watch.take(3)
        api.delete(ns, "a")
        (after,) = watch.take(1)
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "BOOKMARK"]
    assert events[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert version(events[2]["object"]) >= last
    assert (after["type"], after["object"]["metadata"]["name"]) == ("DELETED", "a")


def test_a_watch_list_of_nothing_is_complete_at_once(api: ApiUnderTest) -> None:
    """The bookmark alone."""
    ns = api.namespace()
    with api.watch(ns, labelSelector=f"{SERVICE}=nobody", **WATCH_LIST) as watch:
        (event,) = watch.take(1)
    assert event["type"] == "BOOKMARK"
    assert event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"


def test_a_server_without_watch_list_says_so(api: ApiUnderTest) -> None:
    """422 Invalid that names sendInitialEvents, by which a client falls back to a list."""
    api.without_watch_list()
    status = api.refusal(slices_path(api.namespace()), {"watch": "1", **WATCH_LIST})
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert "sendInitialEvents" in status["message"]


# -- who may


def test_an_unknown_token_is_unauthorized(api: ApiUnderTest) -> None:
    """401, for lists and watches alike."""
    ns = api.namespace()
    for query in ({}, {"watch": "1"}):
        status = api.refusal(slices_path(ns), query, token="nobody-knows-me")
        assert (status["code"], status["reason"], status["message"]) == (401, "Unauthorized", "Unauthorized")


def test_no_token_is_an_anonymous_user(api: ApiUnderTest) -> None:
    """Who is forbidden everything."""
    ns = api.namespace()
    status = api.refusal(slices_path(ns), token=None)
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert 'User "system:anonymous" cannot list' in status["message"]


def test_a_403_is_a_whole_sentence(api: ApiUnderTest) -> None:
    """It names user, verb, resource, group and scope, and says the kind in its details."""
    allowed, other = api.namespace(), api.namespace()
    token, user = api.limited_token([allowed], ["list"])
    assert api.request(slices_path(allowed), token=token).status == 200
    sentence = (
        'endpointslices.discovery.k8s.io is forbidden: User "{}" cannot {} resource "endpointslices" '
        'in API group "discovery.k8s.io" {}'
    )
    for path, query, verb, where in (
        (slices_path(other), {}, "list", f'in the namespace "{other}"'),
        (slices_path(allowed), {"watch": "1"}, "watch", f'in the namespace "{allowed}"'),
        (slices_path(None), {}, "list", "at the cluster scope"),
    ):
        status = api.refusal(path, query, token=token)
        assert (status["code"], status["reason"]) == (403, "Forbidden")
        assert status["message"] == sentence.format(user, verb, where)
        assert status["details"] == {"group": "discovery.k8s.io", "kind": "endpointslices"}


def test_a_review_says_what_a_token_may(api: ApiUnderTest) -> None:
    """POST selfsubjectaccessreviews: 201, allowed or not."""
    ns = api.namespace()
    token, _ = api.limited_token([ns], ["list", "watch"])
    answers = []
    for verb in ("watch", "delete"):
        attributes = {"namespace": ns, "verb": verb, "resource": "endpointslices", "group": "discovery.k8s.io"}
        body = {
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        response = api.request(path, token=token, method="POST", body=body)
        assert response.status == 201
        answers.append(response.json()["status"]["allowed"])
    assert answers == [True, False]


# -- the rest


def test_what_is_not_there_is_not_found(api: ApiUnderTest) -> None:
    """404 with a Status: no such object, no such resource."""
    ns = api.namespace()
    status = api.refusal(f"{slices_path(ns)}/nothing")
    assert (status["code"], status["reason"]) == (404, "NotFound")
    assert status["message"] == 'endpointslices.discovery.k8s.io "nothing" not found'
    assert status["details"] == {"name": "nothing", "group": "discovery.k8s.io", "kind": "endpointslices"}
    status = api.refusal(f"/apis/discovery.k8s.io/v1/namespaces/{ns}/nonsense")
    assert (status["code"], status["reason"]) == (404, "NotFound")
    assert status["message"] == "the server could not find the requested resource"


def test_the_server_says_that_it_is_ready_and_what_it_is(api: ApiUnderTest) -> None:
    """/readyz and /version."""
    ready = api.request("/readyz")
    assert (ready.status, ready.data) == (200, b"ok")
    found = api.request("/version").json()
    assert found["gitVersion"].startswith("v1.")
    assert found["major"] == "1"


def test_large_lists_are_compressed_for_those_who_ask(api: ApiUnderTest) -> None:
    """From 128 KiB on; never unasked, never small ones."""
    ns = api.namespace()

    def encoding(**headers: str) -> tuple[str | None, bytes]:
        response = api.http.request(
            "GET",
            api.url + slices_path(ns),
            headers={"Authorization": f"Bearer {api.token}", **headers},
            decode_content=False,
        )
        return response.headers.get("content-encoding"), response.data

    api.put(api.slice(ns, "a"))
    assert encoding(**{"Accept-Encoding": "gzip"})[0] is None
    for number in range(3):
        api.put(api.slice(ns, f"big-{number}", count=900))
    plain, body = encoding(**{"Accept-Encoding": "identity"})
    assert plain is None
    assert len(body) > 128 * 1024
    packed, squeezed = encoding(**{"Accept-Encoding": "gzip"})
    assert packed == "gzip"
    assert json.loads(gzip.decompress(squeezed))["items"] == json.loads(body)["items"]
