"""DnsDiscovery against a nameserver on loopback that says what real ones do not: from bytes to Snapshots."""

import socket
import struct
import threading

import pytest
from tests.stalls import elapsed

from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Skipped
from kubelb.discovery.dns import dialogue
from kubelb.discovery.dns.asker import AT_ONCE
from kubelb.discovery.dns.exchange import socket_address
from kubelb.discovery.dns.message import PAYLOAD
from kubelb.discovery.dns.nameservers import Nameservers
from kubelb.discovery.dns.steps import Config

from .build import authorities, ips
from .dns_by_hand import HOST, NAME
from .feeding import DnsReader
from .nameserver import Nameserver, Raw

WEB = [f"{NAME} 5 SRV 0 50 8080 a.{HOST}", f"{NAME} 5 SRV 0 50 8080 b.{HOST}"]
ALONG = [f"a.{HOST} 5 A 10.0.0.1", f"b.{HOST} 5 A 10.0.0.2"]


def srv(server):
    """The target, asked of this nameserver."""
    return f"dns+srv://{server.address[0]}:{server.address[1]}/{NAME[:-1]}"


def a(server):
    return f"dns://{server.address[0]}:{server.address[1]}/{HOST[:-1]}:8080"


def web(asked):
    return asked.answer(*WEB, extra=ALONG)


@pytest.fixture
def brief(monkeypatch):
    """Nameservers are waited for a twentieth of a second."""
    monkeypatch.setattr(dialogue, "TIMEOUTS", (0.05, 0.1))
    monkeypatch.setattr(dialogue, "TCP_TIMEOUT", 0.2)


# -- the ordinary


def test_srv(made):
    """One question over UDP with EDNS, one Snapshot, nothing to tell."""
    with Nameserver(web) as server:
        feed = DnsReader(made, srv(server))
        snapshot = feed.ips("10.0.0.1", "10.0.0.2")
        assert (snapshot.version, snapshot.ports, snapshot.problem) == (1, (":8080",), "")
        assert [str(asked) for asked in server.asked] == [f"SRV {NAME}"]
        message = server.asked[0].message
        assert (message.edns, message.payload) == (0, PAYLOAD)
        assert (feed.health.source, feed.health.synced, feed.health.error) == ("dns+srv", True, "")
        assert feed.health.age < 5
        assert feed.events == []


@pytest.mark.slow
def test_addresses(made):
    """A and AAAA; a name's case and the nameserver's family do not matter."""
    with Nameserver(host="::1") as server:
        server.zone = {f"A {HOST}": [f"{HOST.upper()} 5 A 10.0.0.1"], f"AAAA {HOST}": [f"{HOST} 5 AAAA fd00::1"]}
        target = f"dns://[::1]:{server.address[1]}/{HOST[:-1].upper()}:80"
        feed = DnsReader(made, target)
        feed.ips("10.0.0.1")
        assert feed.health.source == "dns"
        server.zone.pop(f"A {HOST}")
        feed.source.resync_now()
        assert authorities(feed.ips("fd00::1").endpoints) == ["[fd00::1]:80"]


def test_aliases_within_an_answer(made):
    """An answer may bring the chain; the least TTL of it counts."""
    with Nameserver() as server:
        server.zone[f"A {HOST}"] = [f"{HOST} 9 CNAME x.example.", "x.example. 3 A 192.0.2.1"]
        DnsReader(made, a(server)).ips("192.0.2.1")


def test_aliases_one_by_one(made):
    """Or each link has to be asked for."""
    with Nameserver() as server:
        server.zone = {f"SRV {NAME}": [f"{NAME} 5 CNAME other.example."]}
        server.zone["SRV other.example."] = ["other.example. 5 SRV 0 1 80 x.example."]
        server.zone["A x.example."] = ["x.example. 5 CNAME y.example."]
        server.zone["A y.example."] = ["y.example. 5 A 192.0.2.1"]
        DnsReader(made, srv(server)).ips("192.0.2.1")


@pytest.mark.slow
def test_many_questions_at_once_but_not_all(made):
    """Targets without their address are asked for side by side: the first few before any answer, no more than those."""
    labels = [f"p{number}" for number in range(60)]
    first = []

    def handle(asked):
        if asked.kind == "SRV":
            return asked.answer(*(f"{NAME} 5 SRV 0 1 80 {label}.{HOST}" for label in labels))
        if len(first) < AT_ONCE:  # silent until as many are there as may be; a second round brings their answers
            first.append(asked)
            return None
        if asked.kind == "AAAA":
            return asked.missing("NOERROR")
        return asked.answer(f"{asked.name} 5 A 10.1.0.{labels.index(asked.name.split('.')[0]) + 1}")

    with Nameserver(handle) as server:
        feed = DnsReader(made, srv(server))
        feed.until(lambda _: len(first) == AT_ONCE)
        assert len(server.asked) == 1 + AT_ONCE
        feed.until(lambda s: s and len(s.endpoints) == 60)
        assert len(server.asked) <= 121 + 2 * AT_ONCE  # those are asked for again, over UDP and over TCP


# -- truncation


def test_cut_off_over_udp_comes_over_tcp(made):
    """The whole answer, however the stream cuts it; the connection is not left open."""
    every = ips(300)
    records = [f"{HOST} 5 A {ip}" for ip in every]

    def handle(asked):
        if asked.kind == "AAAA":
            return asked.missing("NOERROR")
        if not asked.tcp:
            return asked.answer(*records[:20], tc=True)
        wire = asked.answer(*records)
        whole = struct.pack("!H", len(wire)) + wire
        return [Raw(whole[:1]), Raw(whole[1:2]), Raw(whole[2:700]), Raw(whole[700:])]

    with Nameserver(handle) as server:
        feed = DnsReader(made, a(server))
        feed.ips(*every)
        assert f"A {HOST} over TCP" in server.questions()
        assert feed.events == []


def test_cut_off_in_the_middle_of_a_record(made):
    """Bytes that end anywhere and say TC: TCP."""

    def handle(asked):
        return web(asked) if asked.tcp else asked.answer(*WEB, extra=ALONG, tc=True)[:-37]

    with Nameserver(handle) as server:
        DnsReader(made, srv(server)).ips("10.0.0.1", "10.0.0.2")
        assert server.questions() == [f"SRV {NAME}", f"SRV {NAME} over TCP"]


@pytest.mark.slow
def test_cut_off_over_tcp_too(made):
    """What is there is added, nothing is taken as gone, once it is said; a whole answer is believed again."""
    partial = threading.Event()

    def handle(asked):
        if not asked.tcp:
            return asked.answer(tc=True)
        if partial.is_set():
            return asked.answer(f"{NAME} 5 SRV 0 50 8080 c.{HOST}", extra=[f"c.{HOST} 5 A 10.0.0.3"], tc=True)
        return web(asked)

    with Nameserver(handle) as server:
        feed = DnsReader(made, srv(server))
        feed.ips("10.0.0.1", "10.0.0.2")
        partial.set()
        feed.source.resync_now()
        feed.ips("10.0.0.1", "10.0.0.2", "10.0.0.3")
        asked = len(server.asked)
        feed.source.resync_now()
        feed.until(lambda _: len(server.asked) >= asked + 2)
        partial.clear()
        feed.source.resync_now()
        feed.ips("10.0.0.1", "10.0.0.2")
        assert [event.what for event in feed.events] == ["a part of the SRV records"]


def test_no_tcp(made, brief):
    """A firewall that lets UDP pass alone: the reason names TCP."""
    with Nameserver(lambda asked: asked.answer(tc=True), tcp=False) as server:
        feed = DnsReader(made, srv(server))
        feed.until(lambda _: feed.events)
        assert "refused over TCP" in feed.health.error
        assert feed.events[0].kind == "unreachable"


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (lambda asked: [Raw(b"")], "closed the TCP connection"),
        (lambda asked: [Raw(b"\x00")], "closed the TCP connection"),
        (lambda asked: [Raw(b"\x00\x00" + 70_000 * b"x")], "an answer of no bytes"),
        (lambda asked: [Raw(b"\x00\x05hello")], "no answer to the question"),
        (lambda asked: [Raw(struct.pack("!H", 65535) + web(asked))], "closed the TCP connection"),
        (lambda asked: [asked.answer(*WEB, number=asked.message.id ^ 1)], "no answer to the question"),
        (lambda asked: None, "no answer within 0.2 s over TCP"),
    ],
)
def test_nonsense_over_tcp(made, brief, pieces, words):
    """Told as it is, and nothing hangs."""
    with Nameserver(lambda asked: pieces(asked) if asked.tcp else asked.answer(tc=True)) as server:
        feed = DnsReader(made, srv(server))
        feed.until(lambda _: words in feed.health.error)


# -- spoofing and lies


def test_wrong_numbers_and_questions_are_dropped(made):
    """What has not the query's number, question and direction never was; the real answer after it counts."""

    def lies(asked):
        wrong = [f"{NAME} 5 SRV 0 50 8080 evil.{HOST}"], [f"evil.{HOST} 5 A 192.0.2.66"]
        query = bytearray(asked.answer(*wrong[0], extra=wrong[1]))
        query[2] &= 0x7F
        return [
            asked.answer(*wrong[0], extra=wrong[1], number=asked.message.id ^ 0x5555),
            asked.answer(*wrong[0], extra=wrong[1], name=f"_http._tcp.other.{HOST}"),
            asked.answer(*wrong[0], extra=wrong[1], tc=True, number=asked.message.id ^ 0x5555),
            bytes(query),
            b"",
            b"\x00" * 40,
            asked.message.id.to_bytes(2, "big") + b"\xff" * 30,
            web(asked),
        ]

    with Nameserver(lies) as server:
        feed = DnsReader(made, srv(server))
        feed.ips("10.0.0.1", "10.0.0.2")
        assert len(server.asked) == 1
        assert feed.events == []


def test_another_source_is_dropped(made):
    """The right number from another port: the kernel drops it, because the socket is connected."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))

        def handle(asked):
            evil = asked.answer(f"{NAME} 5 SRV 0 50 8080 e.{HOST}", extra=[f"e.{HOST} 5 A 192.0.2.66"])
            stranger.sendto(evil, asked.peer)
            return web(asked)

        with Nameserver(handle) as server:
            feed = DnsReader(made, srv(server))
            feed.ips("10.0.0.1", "10.0.0.2")
            assert len(feed.all) == 1


@pytest.mark.slow
def test_each_question_has_a_port_and_a_number_of_its_own(made):
    """Nothing to guess from the one before."""
    with Nameserver() as server:
        server.zone[f"A {HOST}"] = [f"{HOST} 1 A 10.0.0.1"]
        feed = DnsReader(made, a(server))
        feed.until(lambda _: len(server.asked) >= 4)
        assert len({(asked.message.id, asked.peer) for asked in server.asked}) == len(server.asked)
        assert server.asked[0].peer != server.asked[1].peer


def test_addresses_of_other_names_do_not_count(made):
    """Only a target's records in the additional section."""
    extra = [*ALONG, f"c.{HOST} 5 A 192.0.2.66", "www.bank.example. 5 A 192.0.2.66"]
    with Nameserver(lambda asked: asked.answer(*WEB, extra=extra)) as server:
        DnsReader(made, srv(server)).ips("10.0.0.1", "10.0.0.2")


def test_circles_of_aliases_end(made):
    """Within an answer and over several: a failure in words, then a wait."""
    circle = ["x. 5 CNAME y.", "y. 5 CNAME x."]

    def within(asked):
        return asked.answer(f"{NAME} 5 CNAME x.", *circle)

    def over_several(asked):
        return asked.answer(f"{asked.name} 5 CNAME {'y.' if asked.name == 'x.' else 'x.'}")

    for handle, words in ((within, "go in circles"), (over_several, "do not come to an end")):
        with Nameserver(handle) as server:
            feed = DnsReader(made, srv(server))
            feed.until(lambda _, feed=feed, words=words: words in feed.health.error)
            assert feed.events[0].kind == "malformed"
            assert len(server.asked) < 12
            feed.source.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda asked: asked.answer(*WEB, rcode="NXDOMAIN"), "it says both"),
        (lambda asked: asked.answer(f"{NAME} 5 SRV 0 1 0 a.{HOST}", extra=ALONG), "lead to no address and port"),
        (lambda asked: asked.answer(*WEB, extra=[f"a.{HOST} 5 A 0.0.0.0", f"b.{HOST} 5 A 224.0.0.1"]), "not dialled"),
    ],
)
def test_a_lie_does_not_empty_what_is_known(made, lie, words):
    """It is told, and the set stays."""
    answer = [web]
    with Nameserver(lambda asked: answer[0](asked) if asked.kind == "SRV" else asked.missing()) as server:
        feed = DnsReader(made, srv(server))
        feed.ips("10.0.0.1", "10.0.0.2")
        answer[0] = lie
        feed.source.resync_now()
        feed.until(lambda _: words in feed.health.error)
        assert len(feed.all) == 1
        answer[0] = web
        feed.source.resync_now()
        feed.until(lambda _: not feed.health.error)
        assert isinstance(feed.events[-1], DiscoveryRecovered)


@pytest.mark.slow
def test_a_virtual_address_is_told_once(made):
    """A target that is the service itself."""
    vip = [f"{NAME} 1 SRV 0 100 80 {HOST}"]
    with Nameserver(lambda asked: asked.answer(*vip, extra=[f"{HOST} 1 A 10.96.0.7"])) as server:
        feed = DnsReader(made, srv(server))
        feed.ips("10.96.0.7")
        feed.until(lambda _: len(server.asked) >= 3)
        assert "10.96.0.7 (a VIP), not to pods" in feed.health.error
        assert "make the Service headless" in feed.health.cure
        assert [type(event) for event in feed.events] == [Skipped]


# -- nameservers that fail


@pytest.mark.slow
@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTAUTH"])
def test_refusals_keep_the_set(made, rcode):
    """Told with the nameserver's word; nothing is emptied; the pause grows, so that a storm does not feed itself."""
    well = [True]
    with Nameserver(lambda asked: web(asked) if well[0] else asked.answer(rcode=rcode)) as server:
        feed = DnsReader(made, srv(server))
        feed.ips("10.0.0.1", "10.0.0.2")
        well[0] = False
        asked = len(server.asked)
        feed.source.resync_now()
        feed.until(lambda _: feed.events)
        event = feed.events[0]
        assert isinstance(event, DiscoveryFailed)
        assert event.kind == "server-error"
        assert event.reason.endswith(f"(127.0.0.1:{server.address[1]}: {rcode})")
        assert len(server.asked) == asked + 1
        assert feed.health.synced
        assert len(feed.all) == 1


def test_a_server_without_edns(made):
    """FORMERR to EDNS: the same question without it."""

    def handle(asked):
        if asked.message.edns >= 0:
            return asked.answer(rcode="FORMERR", plain=True)
        return web(asked)

    with Nameserver(handle) as server:
        DnsReader(made, srv(server)).ips("10.0.0.1", "10.0.0.2")
        assert len(server.asked) == 2
    with Nameserver(lambda asked: asked.answer(rcode="FORMERR", plain=True)) as server:
        feed = DnsReader(made, srv(server))
        feed.until(lambda _: "FORMERR" in feed.health.error)
        assert len(server.asked) == 2


def test_nobody_listens(made):
    """Refused at once, by name and port."""
    with Nameserver(tcp=False) as server:
        target = srv(server)
    feed = DnsReader(made, target)
    feed.until(lambda _: feed.events)
    assert f"127.0.0.1:{server.address[1]}: connection refused over UDP" in feed.health.error
    assert feed.events[0].kind == "unreachable"
    assert not feed.health.synced


def test_a_nameserver_on_a_link_is_dialled_on_that_link():
    """resolv.conf of an IPv6-only network: without the link's number the address means nothing (RFC 4007)."""
    number, name = socket.if_nameindex()[0]
    assert socket_address((f"fe80::1%{name}", 53)) in (
        (f"fe80::1%{name}", 53, 0, number),
        ("fe80::1", 53, 0, number),
    )
    assert socket_address(("fd00::10", 53)) == ("fd00::10", 53)


def test_silence(made, brief):
    """Two rounds, the second over TCP, too; then a failure that says for how long it was waited."""
    with Nameserver(lambda asked: None) as server:
        feed = DnsReader(made, srv(server))
        feed.until(lambda _: feed.events)
        assert feed.events[0].kind == "silent"
        assert "no answer within 0.1 s over UDP" in feed.health.error
        assert sorted(server.questions()) == [f"SRV {NAME}", f"SRV {NAME}", f"SRV {NAME} over TCP"]


def test_a_lost_datagram(made, brief):
    """The second round finds it."""
    with Nameserver(lambda asked: web(asked) if asked.number > 1 else None) as server:
        feed = DnsReader(made, srv(server))
        feed.ips("10.0.0.1", "10.0.0.2")
        assert feed.events == []


def test_one_family_may_fail(made):
    """A that SERVFAILs for AAAA is used, and it is told."""

    def handle(asked):
        return asked.answer(rcode="SERVFAIL") if asked.kind == "AAAA" else asked.answer(f"{HOST} 5 A 10.0.0.1")

    with Nameserver(handle) as server:
        feed = DnsReader(made, a(server))
        feed.ips("10.0.0.1")
        assert [event.what for event in feed.events] == ["the other family"]


# -- resolv.conf


def resolv(path, *servers, search="", ndots=1):
    path.write_text(
        "".join(f"nameserver {server}\n" for server in servers) + f"search {search}\noptions ndots:{ndots}\n"
    )
    return str(path)


@pytest.mark.slow
def test_a_dead_first_nameserver_costs_one_wait(made, brief, monkeypatch):
    """Then the one that answered comes first."""
    with Nameserver(lambda asked: None) as dead, Nameserver(web) as alive:
        both = (dead.address, alive.address)
        monkeypatch.setattr(Nameservers, "_read", lambda self: Config(both))
        feed = DnsReader(made, f"dns+srv:///{NAME[:-1]}")
        feed.ips("10.0.0.1", "10.0.0.2")
        for count in (2, 3):
            feed.source.resync_now()
            feed.until(lambda _, count=count: len(alive.asked) >= count)
        assert len(dead.asked) == 1


@pytest.mark.slow
def test_resolv_conf_is_read_again(made, tmp_path):
    """A change of the search list counts at the next refresh; a file that is gone changes nothing."""
    with Nameserver() as server:
        server.zone = {"A web.one.": ["web.one. 1 A 10.0.0.1"], "A web.two.": ["web.two. 1 A 10.0.0.2"]}
        path = tmp_path / "resolv.conf"
        conf = resolv(path, "127.0.0.1", search="none.", ndots=5)
        feed = DnsReader(made, f"dns://127.0.0.1:{server.address[1]}/web:80", resolv_conf=conf)
        feed.until(lambda s: s and "no address for web" in s.problem)
        resolv(path, "127.0.0.1", search="none. two. one.", ndots=5)
        feed.source.resync_now()
        feed.ips("10.0.0.2")
        path.unlink()
        asked = len(server.asked)
        feed.until(lambda _: len(server.asked) > asked)
        assert feed.events == []


@pytest.mark.parametrize(
    "odd", [b"nameserver not-an-address", b"search two..dots one.", b"# caf\xe9", b"nameserver 127.0.0.1#53"]
)
def test_a_line_that_makes_no_sense_costs_itself(tmp_path, odd):
    """As with the C library: the other nameservers and domains are used."""
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"search one.\n" + odd + b"\nnameserver 127.0.0.2\n\noptions ndots:5\n")
    assert Nameservers(path=str(path)).config() == Config((("127.0.0.2", 53),), ("one.",), 5)


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("search one two.", ("one.", "two.")),
        ("domain one two", ("one.",)),
        ("search one\ndomain two", ("two.",)),
        ("domain one\nsearch TWO three", ("two.", "three.")),
        ("search .", ()),
        ("", ("prod.example.",)),
    ],
)
def test_where_names_are_looked_for(tmp_path, monkeypatch, text, search):
    """The last line counts, as resolv.conf(5) says; without one the machine's own domain."""
    monkeypatch.setattr("socket.gethostname", lambda: "web-0.prod.example")
    path = tmp_path / "resolv.conf"
    path.write_text(f"# a comment\n{text}\n; another\nnameserver fe80::1%eth0\nnameserver 10.0.0.10 10.0.0.11\n")
    found = Nameservers(path=str(path)).config()
    assert (found.servers, found.search) == ((("fe80::1%eth0", 53), ("10.0.0.10", 53)), search)
    assert Nameservers(("127.0.0.1", 53), str(path)).config() == found._replace(servers=(("127.0.0.1", 53),))


def test_a_file_that_cannot_be_read_for_a_moment(tmp_path):
    """What was read before holds, also for a nameserver that was named; without that, it alone."""
    path = tmp_path / "resolv.conf"
    path.write_text("search one\nnameserver 10.0.0.10\n")
    for given in (None, ("127.0.0.1", 53)):
        nameservers = Nameservers(given, str(path))
        before = nameservers.config()
        nameservers._stamp = None
        nameservers._read = lambda: None
        assert nameservers.config() == before
    never = Nameservers(("127.0.0.1", 53), str(tmp_path))
    assert never.config() == Config((("127.0.0.1", 53),))
    path.write_text("search one two\n")
    assert Nameservers(("127.0.0.1", 53), str(path)).config().search == ("one.", "two.")


@pytest.mark.parametrize("content", [None, "", "nameserver not-an-address\n"])
def test_no_nameserver_is_known(made, tmp_path, content):
    """Told with the file's name and the cure."""
    path = tmp_path / "resolv.conf"
    if content is not None:
        path.write_text(content)
    feed = DnsReader(made, f"dns+srv:///{NAME[:-1]}", resolv_conf=str(path))
    feed.until(lambda _: feed.events)
    assert str(path) in feed.health.error
    assert feed.health.cure
    assert feed.events[0].kind == "unreachable"


def test_before_the_first_answer(made):
    """While nothing has failed yet, health says what is being waited for."""
    with Nameserver(lambda asked: None) as server:
        feed = DnsReader(made, srv(server))
        assert feed.health.error == "no answer yet from a nameserver"
        feed.source.stop()
        assert feed.health.error == "not started"
        assert "synced=False" in repr(feed.source)


def test_stale_exactly_then(made):
    """The age grows while nothing is heard, and passes max_stale at max_stale."""
    clock = [1000.0]
    with Nameserver(lambda asked: asked.answer(f"{HOST} 30 A 10.0.0.1") if asked.kind == "A" else asked.missing()) as s:
        feed = DnsReader(made, a(s), max_stale=60.0, clock=lambda: clock[0])
        feed.ips("10.0.0.1")
        clock[0] += 59.9
        assert not feed.health.stale
        clock[0] += 0.1
        assert (feed.health.age, feed.health.stale) == (pytest.approx(60), True)
        assert feed.source.poll(clock[0])[0] is None


def test_the_largest_answer(made):
    """The largest answer there is: nearly 64 KiB of A records."""
    every = ips(4000)
    records = [f"{HOST} 5 A {ip}" for ip in every]

    def handle(asked):
        if asked.kind == "AAAA":
            return asked.missing("NOERROR")
        return asked.answer(*records) if asked.tcp else asked.answer(tc=True)

    with Nameserver(handle) as server:
        took = elapsed(lambda: DnsReader(made, a(server)).until(lambda s: s and len(s.endpoints) == 4000))
        assert took.own < 3.0


def test_rubbish_keeps_no_question_open(made, brief):
    """A flood of answers to something else ends with the time of the try, as silence does."""

    def handle(asked):
        return [asked.answer(*WEB, number=asked.message.id ^ (number + 1)) for number in range(50)]

    with Nameserver(handle) as server:
        feed = DnsReader(made, srv(server))
        feed.until(lambda _: feed.events)
        assert feed.events[0].kind == "silent"
