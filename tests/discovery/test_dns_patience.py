"""An answer is used when what matters has come: faults of the kind "the slowest question decides"."""

import pytest

from kubelb.discovery.dns.steps import Answer, Config, Trouble

from .dns_by_hand import EMPTY, GONE, HERE, HOST, NAME, SRV, A, a, authorities, ip, lookup, play, srv
from .feeding import DnsReader
from .nameserver import Nameserver
from .test_dns_wire import a as target_a
from .test_dns_wire import srv as target_srv

AAAA = f"AAAA {HOST}"


@pytest.mark.parametrize(("silent", "used"), [("AAAA", "10.0.0.1"), ("A", "fd00::1")])
def test_a_family_that_is_never_answered_keeps_nobody_waiting(made, silent, used):
    """The other one's addresses are there long before the first question would be repeated."""
    answers = {"A": f"{HOST} 5 A 10.0.0.1", "AAAA": f"{HOST} 5 AAAA fd00::1"}

    def handle(asked):
        return None if asked.kind == silent else asked.answer(answers[asked.kind])

    with Nameserver(handle) as server:
        feed = DnsReader(made, target_a(server))
        feed.ips(used)
        assert sorted(server.questions()) == [f"A {HOST}", f"AAAA {HOST}"]
        assert feed.events == []


@pytest.mark.slow
def test_the_slow_family_joins_later(made):
    """IPv4, which is preferred, is used as soon as its answer is there, in the same look-up."""
    with Nameserver(
        lambda asked: (
            asked.answer(f"{HOST} 30 AAAA fd00::1")
            if asked.kind == "AAAA"
            else asked.answer(f"{HOST} 30 A 10.0.0.1")
            if asked.number > 2
            else None
        )
    ) as server:
        feed = DnsReader(made, target_a(server))
        feed.ips("fd00::1")
        feed.ips("10.0.0.1")
        assert sum(asked.kind == "AAAA" for asked in server.asked) == 1


def test_a_target_that_is_never_answered_keeps_the_others_from_nothing(made):
    """Of two targets without their address one is silent: the other is used at once, and nothing is taken as gone."""
    records = [f"{NAME} 5 SRV 0 1 80 {label}.{HOST}" for label in "ab"]

    def handle(asked):
        if asked.kind == "SRV":
            return asked.answer(*records)
        if asked.name.startswith("b."):
            return None
        return asked.answer(f"{asked.name} 5 A 10.0.0.1") if asked.kind == "A" else asked.missing("NOERROR")

    with Nameserver(handle) as server:
        feed = DnsReader(made, target_srv(server))
        feed.ips("10.0.0.1")
        assert len(server.asked) == 5


def test_what_is_told_early_and_what_late():
    """By hand: first one family, then both; the rest is waited for until the first is due again."""
    told = []
    answers = {f"A {HOST}": a("10.0.0.1", ttl=7.0), AAAA: a("fd00::1")}
    finding, asked = play(lookup(A), answers, late=[AAAA], told=told)
    early, patience = told
    assert (early.early, dict(early.endpoints).keys(), early.warnings) == (True, {"IPv4"}, ())
    assert patience == 7.0
    assert (finding.early, authorities(finding, "IPv6")) == (False, ["[fd00::1]:8080"])
    assert asked == [[f"A {HOST}", AAAA]]


def test_nothing_is_told_early_where_all_comes():
    """No second snapshot for an ordinary service."""
    told = []
    play(lookup(A), {f"A {HOST}": a("10.0.0.1"), AAAA: EMPTY}, told=told)
    play(lookup(), {f"SRV {NAME}": srv("a", "b")}, told=told)
    assert told == []


def test_no_such_name_is_believed_of_one_family():
    """A search list costs no wait for AAAA at each of its names; but AAAA's NXDOMAIN alone is not believed."""
    config = Config(HERE.servers, ("x.",), 5)
    told = []
    finding, asked = play(
        lookup("dns:///web:80"), {"A web.": a("10.0.0.1")}, config, late=["AAAA web.x.", "AAAA web."], told=told
    )
    assert (authorities(finding), len(asked)) == (["10.0.0.1:80"], 2)
    assert next(each for each in told if not isinstance(each, float)).early
    finding, _ = play(lookup("dns:///web:80"), {"A web.x.": a("10.0.0.1")}, config, late=["A web.x."], told=told)
    assert authorities(finding) == ["10.0.0.1:80"]


def test_an_alias_of_one_family_is_followed_while_the_other_is_silent():
    """Both ways to an address count."""
    told = []
    answers = {f"A {HOST}": Answer(alias="x.", ttl=5.0), "A x.": a("10.0.0.1")}
    finding, asked = play(lookup(A), answers, late=[AAAA], told=told)
    assert authorities(told[0]) == authorities(finding) == ["10.0.0.1:8080"]
    assert asked == [[f"A {HOST}", AAAA], ["A x."]]


def test_an_alias_to_nothing_waits_for_the_other_family():
    """What cannot be told yet is not told."""
    told = []
    answers = {f"A {HOST}": Answer(alias="x.", ttl=5.0), "A x.": EMPTY, AAAA: a("fd00::1")}
    finding, _ = play(lookup(A), answers, late=[AAAA], told=told)
    assert told == [float("inf")]
    assert authorities(finding, "IPv6") == ["[fd00::1]:8080"]


def test_a_known_address_of_a_silent_target_stays_in_the_early_finding():
    """And so in use."""
    looked, told = lookup(), []
    whole = {f"SRV {NAME}": srv("a", "b", also=False), f"A a.{HOST}": a(ip("a")), f"A b.{HOST}": a(ip("b"))}
    play(looked, whole)
    looked.renew()
    play(looked, whole, late=[f"A b.{HOST}", f"AAAA b.{HOST}"], told=told)
    assert (authorities(told[0]), told[0].partial) == (["10.0.0.1:8080", "10.0.0.2:8080"], True)


# -- how long what was asked for holds


def test_addresses_keep_a_ttl_of_their_own():
    """SRV for 5 s, addresses for 30 s: they are asked for once; the sooner of the two decides when to come back."""
    now = [0.0]
    looked = lookup(clock=lambda: now[0])
    answers = {f"SRV {NAME}": srv("a", "b", also=False), **{f"A {x}.{HOST}": a(ip(x), ttl=30.0) for x in "ab"}}
    batches = []
    for now[0] in (0.0, 5.0, 10.0, 15.0, 24.0, 29.0):
        finding, asked = play(looked, answers)
        assert authorities(finding) == ["10.0.0.1:8080", "10.0.0.2:8080"]
        assert (finding.ttl, finding.partial) == (5.0, False)
        batches.append(len(asked))
    assert batches == [2, 1, 1, 1, 2, 1]


def test_the_shortest_ttl_matters():
    """An address that holds for 2 s below SRV records that hold for 30 s."""
    finding, _ = play(lookup(), {f"SRV {NAME}": srv("a", also=False, ttl=30.0), f"A a.{HOST}": a(ip("a"), ttl=2.0)})
    assert finding.ttl == 2.0


def test_a_renewal_asks_for_everything():
    """Where somebody wants it now, no TTL counts."""
    looked = lookup()
    answers = {f"SRV {NAME}": srv("a", also=False), f"A a.{HOST}": a(ip("a"), ttl=30.0)}
    play(looked, answers)
    assert len(play(looked, answers)[1]) == 1
    looked.renew()
    assert len(play(looked, answers)[1]) == 2


# -- families that are not wanted


@pytest.mark.parametrize(("family", "kind"), [("IPv4", "A"), ("IPv6", "AAAA")])
def test_one_family_alone_is_asked_for(family, kind):
    """And the absence of records names what is not asked for."""
    looked = lookup(A, families=(family,))
    finding, asked = play(looked, {f"{kind} {HOST}": EMPTY})
    assert asked == [[f"{kind} {HOST}"]]
    assert finding.absent == f"no {kind} record, and families= keeps kubelb from asking for " + (
        "AAAA" if kind == "A" else "A"
    )


def test_no_aaaa():
    """An option of resolv.conf (glibc 2.36); it does not empty a load balancer that wants IPv6 alone."""
    config = HERE._replace(no_aaaa=True)
    finding, asked = play(lookup(A), {f"A {HOST}": EMPTY}, config)
    assert asked == [[f"A {HOST}"]]
    assert "no-aaaa" in finding.absent
    assert play(lookup(A, families=("IPv6",)), {}, config)[1] == [[AAAA]]


def test_srv_records_that_lead_to_the_other_family_only():
    """Told with the addresses there are, and the option."""
    with pytest.raises(Trouble) as caught:
        play(lookup(SRV, families=("IPv6",)), {f"SRV {NAME}": srv("a")})
    failure = caught.value.failure
    assert failure.reason.endswith("lead to no IPv6 address, only to 10.0.0.1")
    assert "families=" in failure.cure


def test_gone_is_gone():
    """NXDOMAIN for both is what it was."""
    assert play(lookup(A), {f"A {HOST}": GONE, AAAA: GONE})[0].absent == "NXDOMAIN"


@pytest.mark.slow
def test_a_resync_does_not_wait_for_a_silent_family(made):
    """Whoever wants to know now is not kept waiting by a question that nobody answers; a second is kept, as ever."""
    addresses = ["10.0.0.1"]

    def handle(asked):
        return None if asked.kind == "AAAA" else asked.answer(*(f"{HOST} 30 A {ip}" for ip in addresses))

    with Nameserver(handle) as server:
        feed = DnsReader(made, target_a(server))
        feed.ips("10.0.0.1")
        addresses[:] = ["10.0.0.2"]
        feed.source.resync_now()
        feed.ips("10.0.0.2")
        assert sum(asked.kind == "AAAA" and not asked.tcp for asked in server.asked) <= 4
