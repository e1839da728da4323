"""What is asked, and what the answers mean together: by hand, without a socket."""

import random
from collections import Counter

import dns.rdtypes.IN.SRV
import pytest
from dns.rdtypes.util import weighted_processing_order

from kubelb.discovery.dns.steps import Answer, Config, Srv, Trouble
from kubelb.discovery.dns.targets import LOOKUPS
from kubelb.discovery.dns.wording import why_empty
from kubelb.target import parse_target

from .dns_by_hand import EMPTY, FAILED, GONE, HERE, HOST, NAME, SRV, A, a, authorities, ip, lookup, play, srv

POD = Config(HERE.servers, ("prod.svc.cluster.local.", "svc.cluster.local.", "cluster.local."), 5)


# -- SRV


def test_one_question_where_all_addresses_come_along():
    """Address, port and the pod's name; nothing more is asked."""
    finding, asked = play(lookup(), {f"SRV {NAME}": srv("a", "b")})
    assert asked == [[f"SRV {NAME}"]]
    assert authorities(finding) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert [endpoint.hostname for endpoint in finding.endpoints["IPv4"]] == ["a", "b"]
    assert finding.endpoints["IPv6"] == ()
    assert (finding.ttl, finding.partial, finding.absent, finding.warnings) == (5.0, False, "", ())


def test_missing_addresses_are_asked_for_together():
    """Two questions for each target that did not come along, all at the same time; the least TTL counts."""
    answers = {
        f"SRV {NAME}": srv("a", "b", "c")._replace(also={f"a.{HOST}": ("10.0.0.1",)}),
        f"A b.{HOST}": a("10.0.0.2", ttl=2.0),
        f"AAAA c.{HOST}": a("fd00::3"),
    }
    finding, asked = play(lookup(), answers)
    assert asked[1:] == [[f"A b.{HOST}", f"AAAA b.{HOST}", f"A c.{HOST}", f"AAAA c.{HOST}"]]
    assert authorities(finding) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert authorities(finding, "IPv6") == ["[fd00::3]:8080"]
    assert finding.ttl == 2.0


def test_a_target_that_nobody_could_tell():
    """Its address from before stays in use, and nothing is taken as gone; one that has none is left out, and told."""
    looked = lookup()
    whole = {f"SRV {NAME}": srv("a", "b", also=False), f"A a.{HOST}": a(ip("a")), f"A b.{HOST}": a(ip("b"))}
    play(looked, whole)
    looked.renew()
    finding, _ = play(looked, {**whole, f"A b.{HOST}": FAILED, f"AAAA b.{HOST}": FAILED})
    assert authorities(finding) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert finding.partial
    looked.renew()
    finding, _ = play(looked, {**whole, f"A b.{HOST}": GONE})
    assert authorities(finding) == ["10.0.0.1:8080"]
    assert not finding.partial
    assert finding.warnings == (("an SRV record", f"its target b.{HOST} has no address"),)


def test_a_family_that_was_not_answered_keeps_its_addresses():
    """The kind: silence about one family of a target counts as word that it has none. Of two families one is used."""
    looked = lookup()
    both = {f"A a.{HOST}": a(ip("a")), f"AAAA a.{HOST}": a("fd00::1")}
    both |= {f"A b.{HOST}": a(ip("b")), f"AAAA b.{HOST}": a("fd00::2")}
    whole = {f"SRV {NAME}": srv("a", "b", also=False), **both}
    play(looked, whole)
    looked.renew()
    finding, _ = play(looked, {**whole, f"A b.{HOST}": FAILED, f"AAAA b.{HOST}": a("fd00::7")})
    assert authorities(finding) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert authorities(finding, "IPv6") == ["[fd00::1]:8080", "[fd00::7]:8080"]
    looked.renew()
    finding, _ = play(looked, {**whole, f"A b.{HOST}": GONE})
    assert authorities(finding) == ["10.0.0.1:8080"]


def test_very_many_missing_addresses_are_spread():
    """Those not known yet come first, so that all are known soon; meanwhile nothing is taken as gone."""
    labels = [f"p{number}" for number in range(LOOKUPS + 50)]
    records = Answer(tuple(Srv(0, 1, 80, f"{label}.{HOST}") for label in labels), ttl=30.0)
    answers = {f"A {label}.{HOST}": a(f"10.1.0.{number}") for number, label in enumerate(labels)}
    looked = lookup()
    finding, asked = play(looked, {f"SRV {NAME}": records, **answers})
    assert len(asked[1]) == 2 * LOOKUPS
    assert (len(finding.endpoints["IPv4"]), finding.partial, finding.ttl) == (LOOKUPS, True, 0.0)
    finding, asked = play(looked, {f"SRV {NAME}": records, **answers})
    assert {f"A {label}.{HOST}" for label in labels[LOOKUPS:]} <= set(asked[1])
    assert (len(finding.endpoints["IPv4"]), finding.ttl) == (LOOKUPS + 50, 5.0)


def test_no_target_waits_for_ever():
    """With more targets than are asked for at once and short TTLs, each has its turn: the one that is due longest.

    Those that are silent have theirs no more often, and one that is not known yet is asked for first, also when all are
    to be asked for again.
    """
    labels = [f"p{number}" for number in range(2 * LOOKUPS + 50)]
    records = Answer(tuple(Srv(0, 1, 80, f"{label}.{HOST}") for label in labels), ttl=1.0)
    answers = {f"A {label}.{HOST}": a(f"10.1.{n // 250}.{n % 250 + 1}", ttl=1.0) for n, label in enumerate(labels)}
    now = [0.0]
    looked = lookup(clock=lambda: now[0])
    last = dict.fromkeys(labels, 0.0)
    for number in range(12):
        now[0] = number + 1.0
        _, asked = play(looked, {f"SRV {NAME}": records, **answers})
        last.update((question[2:].split(".")[0], now[0]) for question in asked[1] if question.startswith("A "))
    assert min(last.values()) >= now[0] - 2
    silent = {f"{kind} {label}.{HOST}": FAILED for label in labels[:LOOKUPS] for kind in ("A", "AAAA")}
    last = dict.fromkeys(labels[LOOKUPS:], now[0])
    for _ in range(12):
        now[0] += 1.0
        _, asked = play(looked, {f"SRV {NAME}": records, **answers, **silent})
        last.update((label, now[0]) for label in last if f"A {label}.{HOST}" in asked[1])
    assert min(last.values()) >= now[0] - 2
    looked.renew()
    more = records._replace(srv=(*records.srv, Srv(0, 1, 80, f"new.{HOST}")))
    _, asked = play(looked, {f"SRV {NAME}": more, **answers})
    assert f"A new.{HOST}" in asked[1]


def test_the_root_as_target_means_decidedly_none():
    """RFC 2782: a target of "." says that there is no such service."""
    finding, _ = play(lookup(), {f"SRV {NAME}": Answer((Srv(0, 0, 0, "."),), ttl=5.0)})
    assert finding.none
    assert not any(finding.endpoints.values())


def test_a_cluster_ip():
    """A target that is the service itself is a VIP."""
    answer = Answer((Srv(0, 100, 80, HOST),), ttl=5.0, also={HOST: ("10.96.0.7",)})
    finding, _ = play(lookup(), {f"SRV {NAME}": answer})
    assert (authorities(finding), finding.virtual) == (["10.96.0.7:80"], "10.96.0.7")


def test_a_pod_without_a_name_has_no_hostname():
    """CoreDNS makes a label of its address then, which says nothing."""
    labels = {"10-0-0-1": "10.0.0.1", "fd00--1": "fd00::1", "fd00--0": "fd00::", "10-0-0-9": "10.0.0.2"}
    records = tuple(Srv(0, 1, 80, f"{label}.{HOST}") for label in labels)
    also = {f"{label}.{HOST}": (address,) for label, address in labels.items()}
    finding, _ = play(lookup(), {f"SRV {NAME}": Answer(records, ttl=5.0, also=also)})
    assert [each.hostname for family in finding.endpoints.values() for each in family] == ["", "10-0-0-9", "", ""]


def test_priority_is_a_tier_and_weight_a_share():
    """Weights are relative to the largest of their tier, so that CoreDNS's equal ones are 1 however many there are."""
    records = (Srv(0, 30, 80, f"a.{HOST}"), Srv(0, 60, 80, f"b.{HOST}"), Srv(0, 0, 80, f"c.{HOST}"))
    records += (Srv(5, 0, 80, f"d.{HOST}"), Srv(9, 1, 80, f"a.{HOST}"))
    also = {f"{label}.{HOST}": (ip(label),) for label in "abcd"}
    finding, _ = play(lookup(), {f"SRV {NAME}": Answer(records, ttl=5.0, also=also)})
    shares = {each.hostname: (each.priority, each.weight) for each in finding.endpoints["IPv4"]}
    assert shares == {"a": (0, 0.5), "b": (0, 1.0), "c": (0, pytest.approx(0.1 / 60)), "d": (5, 1.0)}


def test_weights_share_as_rfc_2782_says():
    """First choices by our weights and by dnspython's order of the RFC: the same distribution, by chi-square."""
    weights = {"a": 10, "b": 60, "c": 30, "d": 0, "e": 1}
    records = tuple(Srv(0, weight, 80, f"{label}.{HOST}") for label, weight in weights.items())
    also = {f"{label}.{HOST}": (ip(label),) for label in weights}
    finding, _ = play(lookup(), {f"SRV {NAME}": Answer(records, ttl=5.0, also=also)})
    ours = {each.hostname: each.weight for each in finding.endpoints["IPv4"]}
    rdata = [
        dns.rdtypes.IN.SRV.SRV("IN", "SRV", 0, weight, 80, dns.name.from_text(f"{label}.{HOST}"))
        for label, weight in weights.items()
    ]
    random.seed(7)
    draws = 20_000
    seen = Counter(str(weighted_processing_order(rdata)[0].target).split(".")[0] for _ in range(draws))
    total = sum(ours.values())
    chi_square = sum(
        (seen[label] - draws * weight / total) ** 2 / (draws * weight / total) for label, weight in ours.items()
    )
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001
    assert seen["d"] > 0


def test_an_answer_in_part():
    """What is there is used, nothing is taken as gone, it is told; with a fallback port A records replace it."""
    answers = {f"SRV {NAME}": srv("a", partial=True), f"A {HOST}": a("10.0.0.1", "10.0.0.2")}
    finding, asked = play(lookup(), answers)
    assert (authorities(finding), finding.partial) == (["10.0.0.1:8080"], True)
    assert "64 KiB" in finding.warnings[0][1]
    assert len(asked) == 1
    finding, asked = play(lookup(fallback_port=9090), answers)
    assert asked == [[f"SRV {NAME}"], [f"A {HOST}", f"AAAA {HOST}"]]
    assert (authorities(finding), finding.partial) == (["10.0.0.1:9090", "10.0.0.2:9090"], False)
    for no_help in ({f"A {HOST}": GONE}, {f"A {HOST}": a("10.0.0.9", partial=True)}):
        finding, _ = play(lookup(fallback_port=9090), {**answers, **no_help})
        assert (authorities(finding), finding.partial) == (["10.0.0.1:8080"], True)


@pytest.mark.parametrize("answer", [GONE, EMPTY])
def test_no_records(answer):
    """The ports that there are, where the host is known: a question without a port brings those of all."""
    finding, asked = play(lookup(), {f"SRV {NAME}": answer})
    assert (finding.absent, finding.ports, finding.host_exists) == (
        "NXDOMAIN" if answer is GONE else "no such record",
        (),
        False,
    )
    assert asked == [[f"SRV {NAME}"], [f"SRV {HOST}"]]
    bare = Answer((Srv(0, 1, 9090, f"a.{HOST}"), Srv(0, 1, 8080, f"a.{HOST}")), ttl=5.0)
    finding, _ = play(lookup(), {f"SRV {NAME}": answer, f"SRV {HOST}": bare})
    assert (finding.ports, finding.host_exists) == ((":8080", ":9090"), True)
    told = why_empty(parse_target(f"dns+srv:///{NAME}"), finding)
    assert told.endswith("; the ports there are, by number, for DNS does not tell their names: 8080, 9090")
    finding, _ = play(lookup(), {f"SRV {NAME}": answer, f"SRV {HOST}": FAILED})
    assert finding.absent


@pytest.mark.parametrize(
    "lie",
    [
        Answer((Srv(0, 1, 0, f"a.{HOST}"),), ttl=5.0, also={f"a.{HOST}": ("10.0.0.1",)}),
        Answer((Srv(0, 1, 80, f"a.{HOST}"),), ttl=5.0),
        Answer((Srv(0, 1, 80, f"a.{HOST}"), Srv(0, 1, 80, ".")), ttl=5.0),
    ],
)
def test_srv_records_that_lead_nowhere_are_a_failure(lie):
    """Port 0, targets without an address: such an answer must not empty what is known."""
    with pytest.raises(Trouble, match="lead to no address and port"):
        play(lookup(), {f"SRV {NAME}": lie})


def test_an_external_name_names_its_cure():
    """CoreDNS gives port 0 for it, which no nameserver's log explains."""
    with pytest.raises(Trouble) as caught:
        play(lookup(), {f"SRV {NAME}": Answer((Srv(0, 1, 0, "db.example.com."),), ttl=5.0)})
    assert "ExternalName" in caught.value.failure.cure
    assert "dns:///db.example.com:PORT" in caught.value.failure.cure


def test_one_bad_record_is_left_out():
    """The others count, and it is told."""
    answer = srv("a", "b")
    answer = answer._replace(srv=(*answer.srv, Srv(0, 1, 0, f"a.{HOST}")), also={**answer.also, f"b.{HOST}": ("::",)})
    finding, _ = play(lookup(), {f"SRV {NAME}": answer})
    assert authorities(finding) == ["10.0.0.1:8080"]
    assert finding.refused == ("::",)
    assert [what for what, _ in finding.warnings] == ["an SRV record", "a part of the answer"]


# -- A and AAAA


def test_both_families_at_the_same_time():
    """One round; each family its own endpoints, in order whatever the answer's order."""
    finding, asked = play(lookup(A), {f"A {HOST}": a("10.0.0.2", "10.0.0.1"), f"AAAA {HOST}": a("fd00::1", ttl=3.0)})
    assert asked == [[f"A {HOST}", f"AAAA {HOST}"]]
    assert authorities(finding) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert authorities(finding, "IPv6") == ["[fd00::1]:8080"]
    assert finding.ttl == 3.0


def test_no_data_for_a_family_empties_that_family_alone():
    """And what nobody could tell about is not spoken of."""
    finding, _ = play(lookup(A), {f"A {HOST}": EMPTY, f"AAAA {HOST}": a("fd00::1")})
    assert finding.endpoints["IPv4"] == ()
    assert authorities(finding, "IPv6") == ["[fd00::1]:8080"]
    finding, _ = play(lookup(A), {f"A {HOST}": a("10.0.0.1"), f"AAAA {HOST}": FAILED})
    assert "IPv6" not in finding.endpoints
    assert finding.warnings == (("the other family", "SERVFAIL"),)


@pytest.mark.parametrize("other", [GONE, EMPTY, FAILED])
def test_nothing_and_a_failure_is_a_failure(other):
    """What is in the family that failed, nobody knows."""
    with pytest.raises(Trouble, match="SERVFAIL"):
        play(lookup(A), {f"A {HOST}": FAILED, f"AAAA {HOST}": other})


def test_absent():
    """NXDOMAIN only where both say so."""
    assert play(lookup(A), {})[0].absent == "NXDOMAIN"
    assert play(lookup(A), {f"A {HOST}": EMPTY})[0].absent == "no such record"


@pytest.mark.parametrize("lie", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "169.254.169.254"])
def test_nothing_but_lies_is_told_as_such(lie):
    """Addresses that are not dialled are one kind, whichever they are. With the option all of them are let in."""
    answers = {f"A {HOST}": a(lie), f"AAAA {HOST}": EMPTY}
    finding, _ = play(lookup(A), answers)
    assert finding.lies
    assert finding.refused == (lie,)
    finding, _ = play(lookup(A, allow_special_addresses=True), answers)
    assert (authorities(finding), finding.lies) == ([f"{lie}:8080"], False)


def test_a_search_list_is_walked_past_a_lie():
    """The kind: one bad record under a nearer name becomes the only name that is asked for. It is told where no other
    name has anything.
    """
    near, far = "web.prod.svc.cluster.local.", "web.svc.cluster.local."
    looked = lookup("dns:///web:8080")
    finding, _ = play(looked, {f"A {near}": a("0.0.0.0"), f"A {far}": a("10.0.0.1")}, config=POD)
    assert authorities(finding) == ["10.0.0.1:8080"]
    looked.forget()
    finding, _ = play(looked, {f"A {near}": a("0.0.0.0"), f"A {far}": FAILED}, config=POD)
    assert finding.lies
    finding, _ = play(looked, {f"A {near}": a("10.0.0.2")}, config=POD)
    assert authorities(finding) == ["10.0.0.2:8080"]


def test_lies_of_one_family_say_nothing_of_it():
    """What is known of it stays, as where it was not asked about."""
    finding, _ = play(lookup(A), {f"A {HOST}": a("0.0.0.0"), f"AAAA {HOST}": a("fd00::1")})
    assert set(finding.endpoints) == {"IPv6"}


# -- aliases


def test_aliases_are_followed_to_their_end():
    """A CNAME whose target did not come along is asked for; circles end."""
    answers = {f"A {HOST}": Answer(alias="x.example."), "A x.example.": a("192.0.2.1"), f"AAAA {HOST}": EMPTY}
    finding, _ = play(lookup(A), answers)
    assert authorities(finding) == ["192.0.2.1:8080"]
    circle = {f"A {HOST}": Answer(alias="x."), "A x.": Answer(alias="y."), "A y.": Answer(alias="x.")}
    with pytest.raises(Trouble, match="do not come to an end"):
        play(lookup(A), circle)
    with pytest.raises(Trouble, match="do not come to an end"):
        play(lookup(), {f"SRV {NAME}": Answer(alias="x."), "SRV x.": Answer(alias="x.")})


def test_an_alias_holds_no_longer_than_it_says():
    """The least TTL on the way counts, also where each step is an answer of its own (a name that is about to move)."""
    alias = Answer(alias="x.example.", ttl=2.0)
    there = {"A x.example.": a("192.0.2.1", ttl=30.0)}
    finding, _ = play(lookup(A), {**there, f"A {HOST}": alias, f"AAAA {HOST}": alias._replace(ttl=9.0)})
    assert finding.ttl == 2.0
    moved = {f"SRV {NAME}": alias, "SRV x.example.": srv("a", ttl=30.0)}
    finding, _ = play(lookup(), moved)
    assert finding.ttl == 2.0


# -- names


def test_a_name_of_the_cluster_is_complete():
    """No search list, whatever ndots says; so is one with a dot at its end."""
    for target in (SRV, SRV + "."):
        _, asked = play(lookup(target), {f"SRV {NAME}": srv("a")}, POD)
        assert asked == [[f"SRV {NAME}"]]


@pytest.mark.parametrize(
    ("name", "ndots", "tried"),
    [
        ("web", 1, ["web.a.", "web.b.", "web."]),
        ("web.prod", 1, ["web.prod.", "web.prod.a.", "web.prod.b."]),
        ("web.prod", 5, ["web.prod.a.", "web.prod.b.", "web.prod."]),
        ("web.prod.", 5, ["web.prod."]),
    ],
)
def test_a_relative_name_walks_the_search_list(name, ndots, tried):
    """As resolv.conf(5) says: few dots, the list first; many, the name itself."""
    _, asked = play(lookup(f"dns:///{name}:80"), {}, Config(HERE.servers, ("a.", "b."), ndots))
    assert [batch[0] for batch in asked] == [f"A {each}" for each in tried]


def test_the_winner_of_the_list_is_remembered_until_it_is_given_up():
    """So that a blip does not lead to a wildcard of another domain."""
    looked = lookup("dns:///web:80")
    config = Config(HERE.servers, ("a.", "b."), 1)
    finding, asked = play(looked, {"A web.b.": a("10.0.0.1"), "A web.": a("192.0.2.1")}, config)
    assert authorities(finding) == ["10.0.0.1:80"]
    assert len(asked) == 2
    finding, asked = play(looked, {"A web.": a("192.0.2.1")}, config)
    assert (finding.absent, len(asked)) == ("NXDOMAIN", 1)
    looked.forget()
    finding, _ = play(looked, {"A web.": a("192.0.2.1")}, config)
    assert authorities(finding) == ["192.0.2.1:80"]


def test_a_failure_on_the_way_is_a_failure():
    """A later candidate may still be found; that nothing was, is not certain."""
    config = Config(HERE.servers, ("a.",), 1)
    failing = {"A web.a.": FAILED, "AAAA web.a.": FAILED}
    assert authorities(play(lookup("dns:///web:80"), {**failing, "A web.": a("10.0.0.1")}, config)[0])
    with pytest.raises(Trouble):
        play(lookup("dns:///web:80"), failing, config)


def test_no_nameserver_is_a_failure():
    """What resolv.conf says is asked for anew each time."""
    with pytest.raises(Trouble, match="SERVFAIL"):
        play(lookup(), {}, FAILED)
