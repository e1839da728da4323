"""List and watch against a scripted server, a fake clock and seeded dice: requests, waits and what was told."""

from itertools import pairwise

import pytest

from kubelb.discovery.kube.recovery import BLIND
from kubelb.discovery.kube.steps import RESYNC, Failure, Phase, Reply
from kubelb.discovery.kube.waits import BURST, SHORT

from .build import piece, row
from .server import bookmark, event, slice_list, status
from .world import BROKEN, MUTE, REFUSED, SILENT, Wait, World, line, no, ok

LONG = Wait(400)
A1 = piece("a", [row("10.0.0.1")], version=90)


def script(*answers):
    """One answer a request; the last one for ever."""
    left = list(answers)

    def server(asked):
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer(asked) if callable(answer) else answer

    return server


def lists_ok(*watches, version=100):
    """A server whose lists work and whose watches are these, the last one for ever."""
    left = list(watches)

    def server(asked):
        if not asked.watch:
            return ok(slice_list(A1, version=version))
        return left.pop(0) if len(left) > 1 else left[0]

    return server


# -- the plain course


def test_list_then_watch_from_its_version():
    """RV=0 first, then the watch from the list's version."""
    world = World(lists_ok([LONG]))
    assert world.run(requests=2) == ["list 0", "watch 100"]
    assert world.told == ["replace 1"]


def test_versions_advance_after_each_event():
    """ADDED, MODIFIED, DELETED and BOOKMARK move the version, each only after it was applied."""
    events = [
        line(event("ADDED", piece("b", version=101))),
        line(event("MODIFIED", piece("b", version=102))),
        line(event("DELETED", piece("b", version=103))),
        line(bookmark(110)),
        LONG,
    ]
    world = World(lists_ok(events, [LONG]))
    assert world.run(requests=3) == ["list 0", "watch 100", "watch 110"]
    assert world.told == ["replace 1", "upsert b", "upsert b", "delete b"]
    assert world.states == [("101", "100"), ("102", "101")]


def test_watch_parameters():
    """Bookmarks and a timeout of 300 to 600 s, drawn by each of 100 watchers for itself."""
    timeouts = set()
    for seed in range(100):
        world = World(lists_ok([LONG]), seed=seed)
        world.run(requests=2)
        query = world.asked[1].query
        assert (query["allowWatchBookmarks"], query["watch"]) == ("true", "1")
        assert 300 <= int(query["timeoutSeconds"]) <= 600
        timeouts.add(query["timeoutSeconds"])
    assert len(timeouts) > 60


def test_normal_end():
    """The next watch begins at once, from the last version, and nothing is told."""
    world = World(lists_ok([LONG]))
    assert world.run(requests=5) == ["list 0", *["watch 100"] * 4]
    assert world.sleeps == []
    assert world.told == ["replace 1"]


def test_chunks_need_not_be_lines():
    """Events cut in the middle are applied when they are whole, half of one at the end is dropped."""
    text = b"".join(line(event("ADDED", piece(name, version=101 + n))) for n, name in enumerate("bc"))
    world = World(lists_ok([text[:50], text[50:400], text[400:], text[:30], LONG], [LONG]))
    world.run(requests=3)
    assert world.told == ["replace 1", "upsert b", "upsert c"]


def test_several_services_share_a_selector():
    """A stream can be told of a set of services."""
    world = World(lists_ok([LONG]), services=("a", "b"))
    world.run(requests=1)
    assert world.asked[0].query["labelSelector"] == "kubernetes.io/service-name in (a,b)"


# -- expiry and versions


@pytest.mark.parametrize(
    "gone",
    [
        [line(event("ERROR", status(410, "Expired", "too old resource version: 1 (243)")))],
        [line(event("ERROR", status(410, "Gone")))],
        no(status(410, "Expired")),
        no(status(410, "Gone")),
    ],
    ids=["event Expired", "event Gone", "status Expired", "status Gone"],
)
def test_expired_watch(gone):
    """One relist, not older than what is known, after less than a second."""
    world = World(lists_ok(gone, [LONG]))
    assert world.run(requests=5) == ["list 0", "watch 100", "list 100+", "watch 100", "watch 100"]
    assert max(world.sleeps) < 1
    assert world.told == ["replace 1", "replace 1"]


def test_expired_again_and_again_is_a_failure():
    """A server that never accepts a version costs few lists."""
    world = World(lists_ok([line(event("ERROR", status(410, "Expired")))]))
    world.run(seconds=60)
    assert sum(not asked.watch for asked in world.asked) <= 9


def test_expired_list():
    """A list with a version that is too old is followed by one of etcd itself."""
    world = World(
        script(
            ok(slice_list(A1)),
            no(status(410, "Expired")),
            no(status(410, "Expired")),
            ok(slice_list(A1)),
            [LONG],
        )
    )
    assert world.run(requests=5) == ["list 0", "watch 100", "list 100+", "list -", "watch 100"]


@pytest.mark.parametrize("code", [504, 429])
def test_version_too_new(code):
    """The server is behind: asked for the newest instead."""
    late = no(status(code, "Timeout", "Too large resource version: 100, current: 90", 1, "ResourceVersionTooLarge"))
    world = World(script(ok(slice_list(A1)), no(status(410, "Expired")), late, ok(slice_list(A1)), [LONG]))
    assert world.run(requests=5) == ["list 0", "watch 100", "list 100+", "list -", "watch 100"]


def test_expired_continue():
    """The second page is gone: one full list, and the first page was never shown."""
    world = World(
        script(
            ok(slice_list(A1, more="tok")),
            no(status(410, "Expired")),
            ok(slice_list(A1, piece("b", version=91))),
            [LONG],
        )
    )
    assert world.run(requests=4) == ["list 0", "list - continue=tok", "list 0", "watch 100"]
    assert "limit" not in world.asked[2].query
    assert world.told == ["replace 2"]


def test_pages():
    """50 000 endpoints in pages, no version beside a continue token, published as one."""
    pages = [
        ok(slice_list(*[piece(f"s-{n}-{m}", version=5) for m in range(50)], more=None if n == 9 else f"t{n}"))
        for n in range(10)
    ]
    world = World(script(*pages, [LONG]))
    asked = world.run(requests=11)
    assert asked == ["list 0", *[f"list - continue=t{n}" for n in range(9)], "watch 100"]
    assert {each.query["limit"] for each in world.asked[1:10]} == {"500"}
    assert world.told == ["replace 500"]


def test_limit_only_where_it_is_harmless():
    """A limit beside a version would be an exact read of etcd, so there is none."""
    world = World(lists_ok(no(status(410, "Expired")), [LONG]))
    world.run(requests=3)
    assert "limit" in world.asked[0].query
    assert "limit" not in world.asked[2].query


def test_an_older_list_needs_a_witness():
    """A list older than what is known is not shown; the next one, of etcd itself, decides."""
    behind = ok(slice_list(A1, version=50))
    good = ok(slice_list(A1, version=120))
    world = World(script(ok(slice_list(A1)), no(status(410, "Expired")), behind, good, [LONG]))
    assert world.run(requests=5) == ["list 0", "watch 100", "list 100+", "list -", "watch 120"]
    assert world.told[0] == "replace 1"
    assert world.told[1].startswith("skipped a list: version 50 is older than 100")
    assert world.told[2:] == ["replace 1"]


def test_a_restored_etcd():
    """When the second list says so too, history was restored: it is accepted, and watched from there."""
    behind = ok(slice_list(A1, version=50))
    world = World(script(ok(slice_list(A1)), no(status(410, "Expired")), behind, behind, [LONG]))
    assert world.run(requests=5)[2:] == ["list 100+", "list -", "watch 50"]
    assert world.told.count("replace 1") == 2


def test_a_restored_etcd_that_stays_silent():
    """A watch from the future is accepted and never says anything; silence twice brings a list."""
    world = World(lists_ok([SILENT], [SILENT], [LONG]))
    assert world.run(requests=4) == ["list 0", "watch 100", "watch 100", "list -"]


def test_versions_that_cannot_be_compared():
    """What is no number is accepted as it comes."""
    world = World(script(ok(slice_list(A1, version="zz")), no(status(410)), ok(slice_list(A1, version="aa")), [LONG]))
    assert world.run(requests=4) == ["list 0", "watch zz", "list zz+", "watch aa"]


# -- failures


def test_short_watches():
    """A server that closes every watch at once gets at most 8 of them a minute, and no relist."""
    world = World(lists_ok([]))
    world.run(seconds=60)
    assert sum(asked.watch for asked in world.asked) <= 8
    assert sum(not asked.watch for asked in world.asked) == 1
    assert world.told.count("failed server-error") >= 5
    assert "recovered" not in world.told


def test_short_watches_with_an_event_each():
    """One that closes after each event is asked once a second, not as fast as it answers."""
    world = World(lists_ok([line(bookmark(101))]))
    world.run(seconds=60)
    assert len(world.asked) <= 62
    assert "failed server-error" not in world.told


def test_refused():
    """At most 10 connects in the first minute, delays doubling from 0.8 to 30 s times [1, 2), anew each two minutes."""
    world = World(script(REFUSED))
    world.run(seconds=60)
    assert len(world.asked) <= 10
    world.run(seconds=3600)
    for number, delay in enumerate(world.sleeps[:4]):
        assert 0.8 * 2**number <= delay < 1.6 * 2**number
    assert len(world.asked) <= 3660 / 120 * 10
    assert max(world.sleeps) < 60


def test_a_backoff_is_forgotten_after_its_start_and_not_after_a_time_of_health():
    """client-go's rule: two minutes after the last start the next wait is a first one, however often it failed since.

    By the other rule, two minutes *without* a failure, a server that is away for five seconds every minute and a half
    was asked 45 s late after the fifth time.
    """

    def away(asked):
        if asked.at > 60 and asked.at % 90 < 5:
            return REFUSED
        if not asked.watch:
            return ok(slice_list(A1))
        return [Wait(90 - asked.at % 90), BROKEN]

    blind = []
    for seed in range(50):
        world = World(away, seed=seed)
        world.run(seconds=1000)
        for outage in range(5, 11):
            back = next(asked.at for asked in world.asked if asked.at >= 90 * outage + 5)
            blind.append(back - 90 * outage - 5)
    blind.sort()
    assert blind[len(blind) // 2] < 5
    assert blind[-1] < 15


def test_a_killed_server():
    """SIGKILL and back within 10 s: few requests, seen within one more wait, by one list.

    A version from before the restart would be too old, which a server says only a second after it accepted the watch.
    """

    def server(asked):
        if 100 <= asked.at < 110:
            return REFUSED
        if not asked.watch:
            return ok(slice_list(A1))
        return [Wait(100 - asked.at), BROKEN] if asked.at < 100 else [line(bookmark(101)), LONG]

    world = World(server)
    world.run(seconds=130)
    tries = [asked.at for asked in world.asked if 100 <= asked.at < 110]
    back = next(asked.at for asked in world.asked if asked.at >= 110)
    assert len(tries) <= 5
    assert back < 110 + 12.8
    assert [repr(asked) for asked in world.asked if asked.at >= 110] == ["list -", "watch 100"]
    assert world.told[-2:] == ["replace 1", "recovered"]


@pytest.mark.parametrize("as_event", [False, True])
@pytest.mark.parametrize("retry", [0, 5, 40])
def test_throttled_watch(as_event, retry):
    """429 on a watch waits for the longer of Retry-After and the backoff, and the next request is a watch again.

    When that is accepted all is well, if the version is young; else a list makes sure.
    """
    said = status(429, "TooManyRequests", retry=retry)
    answer = [line(event("ERROR", said))] if as_event else no(status(429), retry_after=retry)
    world = World(lists_ok(answer, [LONG]))
    sure = ["list -", "watch 100"] if retry == 40 and not as_event else []
    assert world.run(requests=3 + len(sure)) == ["list 0", "watch 100", "watch 100", *sure]
    assert world.asked[2].at >= max(0.8, retry)
    assert world.told == ["replace 1", "failed throttled", *(["replace 1"] if sure else []), "recovered"]


@pytest.mark.parametrize("code", [500, 502, 503])
def test_server_errors(code):
    """5xx waits at least Retry-After, however short the backoff; HTML from a proxy is no crash."""
    world = World(script(Reply(code, b"<html>bad gateway", 7.0), ok(slice_list(A1)), Reply(code, b"", 9.0), [LONG]))
    assert world.run(requests=4) == ["list 0", "list -", "watch 100", "watch 100"]
    assert world.sleeps[0] >= 7
    assert world.sleeps[1] >= 9


def test_retry_after_a_year():
    """No server or proxy decides to be forgotten."""
    world = World(script(Reply(503, b"", 3e7), ok(slice_list(A1)), [LONG]))
    world.run(requests=2)
    assert world.sleeps == [300]


def test_forbidden():
    """The first waits are short, the cap comes after three in a row over 5 s; verb and resource are named."""
    world = World(lists_ok(no(status(403, "Forbidden", 'User "x" cannot watch resource'))))
    world.run(seconds=600)
    assert world.sleeps[0] < 1.6
    assert world.sleeps[1] < 3.2
    assert all(delay >= 30 for delay in world.sleeps[4:] if delay > 1)
    assert set(world.told) == {"replace 1", "failed forbidden"}
    assert "watch endpointslices.discovery.k8s.io in namespace prod" in world.trouble.reason
    assert 'verbs ["list", "watch"]' in world.trouble.cure
    assert sum(not asked.watch for asked in world.asked) <= 1 + 600 / BLIND


@pytest.mark.parametrize(
    "watch",
    [
        no(status(403, "Forbidden")),
        no(status(500, "InternalError")),
        [line(event("ERROR", status(500, "InternalError")))],
        [Wait(0.3)],
        [Wait(0.3), BROKEN],
        MUTE,
    ],
    ids=["forbidden", "error", "error event", "closed at once", "broken at once", "no answer"],
)
def test_lists_stand_in_for_a_watch_that_never_works(watch):
    """What is known follows the server, if slowly, and the trouble lasts; when a watch works it is over."""
    world = World(lists_ok(watch))
    world.run(seconds=600)
    lists = [asked.at for asked in world.asked if not asked.watch]
    assert all(BLIND <= later - before < BLIND + 60 + 70 for before, later in pairwise(lists))
    assert 3 <= len(lists) <= 1 + 600 / BLIND
    assert "recovered" not in world.told
    world.server = lists_ok([line(bookmark(101)), LONG])
    world.run(seconds=700)
    assert world.told[-1] == "recovered"


def test_a_watch_that_breaks_at_once_is_a_failure_the_second_time():
    """Told the first time, it would last on a quiet service although the next watch works: nothing comes to mend it."""
    world = World(lists_ok([Wait(0.3), BROKEN], [LONG]))
    world.run(seconds=100)
    assert world.told == ["replace 1"]
    first, second = (asked.at for asked in world.asked if asked.watch)
    assert 1 <= second - first <= 1.3
    world = World(lists_ok([Wait(0.3), BROKEN], [Wait(0.3), BROKEN], [line(bookmark(101)), LONG]))
    world.run(seconds=100)
    assert world.told == ["replace 1", "failed unreachable", "recovered"]


def test_no_lists_while_the_server_is_away_or_asks_to_wait():
    """An hour of 429, and then the watch goes on where it was; accepted, it is followed by the one list that is due."""

    def server(asked):
        if not asked.watch:
            return ok(slice_list(A1))
        return no(status(429)) if asked.at < 3600 else [LONG]

    world = World(server)
    world.run(seconds=3700)
    assert sum(not asked.watch for asked in world.asked) == 2
    assert next(asked.at for asked in world.asked[1:] if not asked.watch) >= 3600
    assert world.told[-2:] == ["replace 1", "recovered"]


def test_forbidden_for_a_moment():
    """A server that starts says 403 before it has read its roles; that costs seconds and not half a minute."""
    forbidden = no(status(403))
    world = World(lists_ok(forbidden, forbidden, [LONG]))
    world.run(requests=5)
    assert world.asked[3].at < 5


def test_forbidden_twice_is_not_yet_for_long():
    """Two in a row, however far apart, are waited after as any failure; the third one over 5 s makes it the cap."""
    world = World(lists_ok(no(status(403), retry_after=6.0)))
    world.run(requests=4)
    assert world.sleeps[:2] == [6.0, 6.0]
    assert sum(world.sleeps[2:]) >= 30


def test_unauthorized():
    """Read again and tried at once, then after waits, reading again each time until it works."""
    refused = no(status(401, "Unauthorized"))
    world = World(script(refused, refused, refused, REFUSED, ok(slice_list(A1)), [LONG]))
    world.run(requests=7)
    assert [asked.fresh for asked in world.asked[:6]] == [False, True, True, True, True, False]
    assert world.asked[1].at == 0.0
    assert world.sleeps[0] >= 0.8
    assert world.told[-2:] == ["replace 1", "recovered"]
    assert "the test" in repr(world.trouble.reason) or world.trouble.kind == "unreachable"


def test_unauthorized_names_where_the_credentials_are_from():
    """The reason says which server and which credentials."""
    world = World(script(no(status(401, "Unauthorized"))))
    world.run(requests=2)
    assert "does not accept the credentials from the test" in world.trouble.reason


def test_credentials_that_cannot_be_read():
    """No request is made without them; the reason is the reader's."""
    world = World(script(Failure(Phase.CREDENTIALS, "token is missing", "mount it"), ok(slice_list(A1)), [LONG]))
    world.run(requests=3)
    assert (world.trouble.kind, world.trouble.cure) == ("credentials", "mount it")
    assert world.asked[1].fresh


def test_silence_is_normal_once():
    """A stream that says nothing for the read timeout is resumed at once, without a word and without a list."""
    world = World(lists_ok([Wait(70), SILENT], [line(bookmark(101)), Wait(70), SILENT], [LONG]))
    assert world.run(requests=4) == ["list 0", "watch 100", "watch 100", "watch 101"]
    assert world.sleeps == []
    assert world.told == ["replace 1"]


def test_a_frozen_server_is_a_failure():
    """Connected and no answer at all is told and waited after, at whatever phase; classified by phase."""
    world = World(lists_ok(MUTE, [LONG]))
    assert world.run(requests=3) == ["list 0", "watch 100", "watch 100"]
    assert world.told == ["replace 1", "failed silent", "recovered"]
    handshake = Failure(Phase.TLS, "in the TLS handshake with x: no answer in time", silent=True)
    world = World(lists_ok(handshake, [LONG]))
    world.run(requests=3)
    assert world.told == ["replace 1", "failed unreachable", "replace 1", "recovered"]
    assert world.sleeps[0] >= 0.8


def test_headers_that_come_late():
    """A proxy that holds the headers back until the first event makes no short watch of it."""
    world = World(None)

    def server(asked):
        if not asked.watch:
            return ok(slice_list(A1))
        world.now += 300
        return []

    world.server = server
    assert world.run(requests=4) == ["list 0", *["watch 100"] * 3]
    assert world.told == ["replace 1"]


def test_an_hour_away():
    """Nothing is taken back, few requests, and what comes back is seen within a minute."""

    def server(asked):
        if asked.at < 3600:
            return REFUSED if asked.at > 0 else (ok(slice_list(A1)) if not asked.watch else [BROKEN])
        return [line(bookmark(200)), LONG] if asked.watch else ok(slice_list(A1))

    world = World(server)
    world.run(seconds=3700)
    assert world.store == {"a": "90"}
    assert world.told.count("replace 1") == 2
    assert len(world.asked) < 3600 / 120 * 10
    assert next(asked.at for asked in world.asked if asked.at >= 3600) < 3660


def test_resync_ends_a_wait():
    """At once, and with a list from etcd itself."""
    world = World(script(REFUSED, REFUSED, REFUSED, ok(slice_list(A1)), [LONG]))
    world.resync_at = 5.0
    world.run(requests=4)
    assert world.asked[3].at == 5.0
    assert repr(world.asked[3]) == "list -"


def test_resync_ends_a_watch_and_a_list_a_second_is_enough():
    """A running watch is given up for a list; who asks all the time gets five at once, then one a second."""
    world = World(lists_ok([RESYNC]))
    world.run(seconds=10)
    lists = [asked for asked in world.asked if not asked.watch]
    assert [repr(asked) for asked in lists[:2]] == ["list 0", "list -"]
    assert [asked.at for asked in lists[: 1 + BURST]] == [0.0] * (1 + BURST)
    assert all(later.at - before.at >= SHORT for before, later in pairwise(lists[BURST:]))


@pytest.mark.parametrize("server", [script(REFUSED), lists_ok(no(status(500))), lists_ok([Wait(0.1)])])
def test_who_asks_all_the_time_does_not_end_every_wait(server):
    """resync_now for each failed request, while the server is away: its requests stay bounded."""

    class Asking(World):
        resync_at = property(lambda self: self.now, lambda self, value: None)

    world = Asking(server)
    world.run(seconds=30)
    assert len(world.asked) <= 2 * (BURST + 31)


# -- what makes no sense


def test_malformed_line():
    """The watch is resumed from the last version after a wait; the second time there is a list."""
    world = World(lists_ok([b"{nonsense\n"], [b"\xff\xfe\n"], [LONG]))
    assert world.run(requests=4) == ["list 0", "watch 100", "watch 100", "list -"]
    assert world.told[:3] == ["replace 1", "failed malformed", "failed malformed"]


def test_malformed_between_good_events():
    """Events in between start the count anew."""
    good = line(event("ADDED", piece("b", version=101)))
    world = World(lists_ok([good, b"{\n"], [good, b"{\n"], [good, b"{\n"], [LONG]))
    assert world.run(requests=5) == ["list 0", "watch 100", *["watch 101"] * 3]


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        (event("PATCHED", piece("b", version=101)), "type"),
        (event("ADDED", {"kind": "Pod", "metadata": {"name": "p", "resourceVersion": "101"}}), "kind"),
        (event("ADDED", {"kind": "Table", "metadata": {"resourceVersion": "101"}, "rows": []}), "kind"),
        (event("ADDED", piece("b", version=101) | {"endpoints": "none"}), "Expected"),
        ([1, 2], "Expected"),
        (event("ADDED", None), "Expected"),
    ],
)
def test_odd_events(odd, word):
    """Unknown types, wrong kinds, tables and wrong shapes are skipped with a word, and the watch goes on."""
    world = World(lists_ok([line(odd), line(event("ADDED", piece("c", version=102))), LONG], [LONG]))
    assert world.run(requests=3) == ["list 0", "watch 100", "watch 102"]
    assert world.told[1].startswith("skipped a watch event")
    assert word in world.told[1]
    assert world.told[2:] == ["upsert c"]


@pytest.mark.parametrize("said", [{}, None, {"kind": "Status"}, status(0, "InternalError"), "oops"])
def test_an_error_without_a_reason(said):
    """An ERROR event that says nothing is told, waited after, and followed by a list."""
    world = World(lists_ok([line(event("ERROR", said))], [LONG]))
    assert world.run(requests=3) == ["list 0", "watch 100", "list -"]
    assert world.told[:2] == ["replace 1", "failed server-error"]
    assert world.sleeps[0] >= 0.8


@pytest.mark.parametrize(
    "body",
    [
        b"<html>please log in</html>",
        b"[]",
        b"",
        b'{"kind":"Table","metadata":{"resourceVersion":"5"},"rows":[]}',
        b'{"kind":"EndpointSliceList","metadata":{}}',
        b'{"kind":"Status","metadata":{},"code":200}',
    ],
)
def test_lists_that_are_none(body):
    """Whatever else is answered 200 changes nothing, and is asked for again later."""
    world = World(script(Reply(200, body), ok(slice_list(A1)), [LONG]))
    assert world.run(requests=3) == ["list 0", "list -", "watch 100"]
    assert world.told == ["failed malformed", "replace 1", "recovered"]


def test_one_odd_item():
    """An item of a list that makes no sense costs itself."""
    world = World(script(ok(slice_list(A1, {"metadata": 7}, piece("b", version=91))), [LONG]))
    world.run(requests=2)
    assert world.told[0].startswith("skipped an item")
    assert world.told[1] == "replace 2"


def test_a_list_without_items():
    """Null items are none."""
    world = World(script(ok(slice_list() | {"items": None}), [LONG]))
    world.run(requests=2)
    assert world.told == ["replace 0"]


def test_not_found_says_what_to_check():
    """A server without EndpointSlices, or no API server at all, is named as such."""
    world = World(script(no(status(404, "NotFound", "the server could not find the requested resource"))))
    world.run(requests=2)
    assert "1.21" in world.trouble.cure


def test_a_broken_run_can_be_run_again():
    """The driver may begin again after a mistake: it lists, not older than before."""
    world = World(lists_ok([LONG]))
    world.run(requests=2)
    assert world.run(requests=4) == ["list 0", "watch 100", "list 100+", "watch 100"]


def test_streams_that_break_at_once():
    """Accepted and reset within a second, again and again, is a failure like being closed."""
    world = World(lists_ok([BROKEN]))
    world.run(seconds=60)
    assert sum(asked.watch for asked in world.asked) <= 8
    assert world.told[:2] == ["replace 1", "failed unreachable"]
    world = World(lists_ok([line(bookmark(101)), BROKEN]))
    world.run(seconds=60)
    assert len(world.asked) <= 62


def test_a_replaced_token_is_nothing_to_tell():
    """One 401 that the token file had an answer to leaves no event behind."""
    world = World(lists_ok(no(status(401)), [LONG]))
    assert world.run(requests=3) == ["list 0", "watch 100", "watch 100"]
    assert (world.told, world.sleeps) == (["replace 1"], [])


# -- what counts as recovered


EXPIRED = [line(event("ERROR", status(410, "Expired", "too old resource version: 1 (243)")))]


@pytest.mark.parametrize(
    "trouble",
    [
        REFUSED,
        MUTE,
        no(status(403, "Forbidden")),
        no(status(500)),
        no(status(401)),
        no(status(429, retry=12)),
        Failure(Phase.TLS, "handshake", silent=True),
    ],
    ids=["refused", "mute", "403", "500", "401", "429", "tls"],
)
def test_a_watch_that_is_accepted_after_an_outage_is_no_recovery(trouble):
    """The kind: a 200 counts as knowing everything. A server that was restarted accepts a watch, and then says 410.

    Told before the list, "recovered" had the ladder publish the pods from before the outage.
    """

    def server(asked):
        if asked.at < 300:
            return [Wait(300 - asked.at), BROKEN] if asked.watch else ok(slice_list(A1))
        if asked.at < 340:
            return trouble
        if not asked.watch:
            return ok(slice_list(A1, piece("new", version=195), version=200))
        return EXPIRED if int(asked.query["resourceVersion"]) < 200 else [LONG]

    world = World(server)
    world.run(seconds=500)
    assert "failed" in "".join(world.told)
    assert world.told.index("recovered") == world.told.index("replace 2") + 1
    assert world.told.count("recovered") == 1


@pytest.mark.parametrize("trouble", [REFUSED, MUTE, no(status(403, "Forbidden")), no(status(429, retry=12))])
@pytest.mark.parametrize("first", [0, 40])
def test_a_cache_that_is_behind_is_not_believed_after_an_outage(trouble, first):
    """The kind: a list that is not older than what we know, and is older than what DNS told while we knew nothing.

    A server that stood still answers at once, from a cache as of then: to "any" as to "not older than" version 100. So
    it is with a process that began while the server was away (`first` is 0).
    """

    def server(asked):
        if asked.at < first:
            return [Wait(first - asked.at), BROKEN] if asked.watch else ok(slice_list(A1))
        if asked.at < first + 30:
            return trouble
        if asked.watch:
            return [LONG]
        newest = "resourceVersion" not in asked.query
        return ok(slice_list(A1, piece("new", version=195), version=200) if newest else slice_list(A1))

    world = World(server)
    world.run(seconds=first + 200)
    assert world.told.count("replace 1") == (1 if first else 0)
    assert world.told.index("recovered") == world.told.index("replace 2") + 1


def test_an_old_watch_that_begins_with_an_event_is_followed_by_a_list():
    """A replay says one thing after the other, and the first of them is not all; a bookmark says that it was all."""

    def server(first):
        def answer(asked):
            if not asked.watch:
                return ok(slice_list(A1, version=200 if asked.at else 100))
            if asked.at < 30:
                return [Wait(0.5), line(event("ERROR", status(500, "InternalError")))]
            return [Wait(0.5), line(first), LONG]

        return answer

    world = World(server(event("ADDED", piece("b", version=101))))
    world.run(requests=12)
    after = world.told[world.told.index("upsert b") :]
    assert after[:3] == ["upsert b", "replace 1", "recovered"]
    world = World(server(bookmark(101)))
    world.run(requests=12)
    assert world.told[-1] == "recovered"
    assert world.told.count("replace 1") == 1


# -- what a server says while it starts


def test_a_403_where_it_was_allowed_before():
    """It gets a free try, without a word; it never jumps to the cap; and its cure does not blame the Role alone."""
    world = World(lists_ok([Wait(400)], no(status(403)), [LONG]))
    world.run(requests=4)
    assert world.told == ["replace 1"]
    assert world.asked[3].at - world.asked[2].at <= 1

    def server(asked):
        return no(status(403)) if 400 <= asked.at < 460 else ok(slice_list(A1)) if not asked.watch else [Wait(400)]

    world = World(server)
    world.run(seconds=900)
    tries = [asked.at for asked in world.asked if 400 <= asked.at < 460]
    assert len(tries) >= 6
    assert max(later - before for before, later in pairwise(tries)) < 26
    assert "it was allowed before" in world.trouble.cure
    assert 'verbs ["list", "watch"]' in world.trouble.cure
    assert world.told[-2:] == ["replace 1", "recovered"]


def test_a_watch_that_is_closed_at_once_gets_a_free_try():
    """A server that goes down closes it cleanly; said once, it is no failure."""
    world = World(lists_ok([Wait(400)], [Wait(0.2)], [LONG]))
    world.run(requests=4)
    assert world.told == ["replace 1"]
    assert world.asked[3].at - world.asked[2].at <= 1.3


def test_two_410_with_a_good_list_between_them():
    """They are not the same one twice: a server that is restarted again says it again; and so it is hours later."""
    world = World(lists_ok([Wait(1.1), *EXPIRED], [Wait(1.1), *EXPIRED], [LONG]))
    world.run(requests=6)
    assert world.told == ["replace 1"] * 3
    assert max(world.sleeps) <= 1
    world = World(lists_ok(*[[Wait(50), *EXPIRED]] * 20, [LONG]))
    world.run(requests=42)
    assert set(world.told) == {"replace 1"}
