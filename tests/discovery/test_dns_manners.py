"""Nameservers and networks that are picky: EDNS that is botched or dropped, UDP that does not pass, resolv.conf.

Faults of the kind "one way of asking fails, and no other is tried", or is tried at the same price each time.
"""

import struct

import pytest

from kubelb.discovery.dns import dialogue
from kubelb.discovery.dns.asker import Asker
from kubelb.discovery.dns.manners import KEEP, SULKS, Manners, Way
from kubelb.discovery.dns.nameservers import Nameservers
from kubelb.discovery.dns.steps import Answer, Config, Failure, Question

from .nameserver import Nameserver

NAME = "x.prod.svc.cluster.local."
ASK = (Question(NAME, "A"),)
RECORD = f"{NAME} 5 A 10.0.0.5"
SERVER = "127.0.0.1", 53


@pytest.fixture
def asker(monkeypatch):
    """Waits for a twentieth of a second."""
    monkeypatch.setattr(dialogue, "TIMEOUTS", (0.05, 0.5))
    asker = Asker(lambda: False)
    yield asker
    asker.close()


def plain(asked):
    return asked.answer(f"{asked.name} 5 A 10.0.0.5", plain=True)


def refusing(rcode, *, opt=False):
    def refuse(asked):
        return asked.answer(rcode=rcode, plain=not opt)

    return refuse


def header(asked):
    return struct.pack("!HHHHHH", asked.message.id, 0x8181, 0, 0, 0, 0)


def opt_in_the_answer(asked):
    """The OPT record where only records that were asked for may be."""
    question = asked.message.question[0]
    record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\5"
    body = question.name.to_wire() + struct.pack("!HH", 1, 1) + b"\0\0\x29\x04\xd0\0\0\0\0\0\0" + record
    return struct.pack("!HHHHHH", asked.message.id, 0x8180, 1, 2, 0, 0) + body


def two_opts(asked):
    wire = bytearray(asked.answer(RECORD))
    wire[10:12] = b"\0\2"
    return bytes(wire) + b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def cut(asked):
    return asked.answer(RECORD)[:-5]


BOTCHED = {
    "FORMERR": refusing("FORMERR"),
    "FORMERR with OPT": refusing("FORMERR", opt=True),
    "FORMERR without question": header,
    "NOTIMP with OPT": refusing("NOTIMP", opt=True),
    "BADVERS": refusing("BADVERS", opt=True),
    "SERVFAIL without OPT": refusing("SERVFAIL"),
    "REFUSED without OPT": refusing("REFUSED"),
    "OPT in the answer": opt_in_the_answer,
    "two OPTs": two_opts,
    "cut": cut,
}


@pytest.mark.parametrize("how", BOTCHED)
@pytest.mark.parametrize("over_tcp", [False, True])
def test_botched_edns(asker, how, over_tcp):
    """The same question without it, at once; and from then on, for a stated time, without it from the start."""

    def handle(asked):
        if asked.message.edns >= 0:
            return BOTCHED[how](asked)
        return asked.answer(tc=True, plain=True) if over_tcp and not asked.tcp else plain(asked)

    with Nameserver(handle) as server:
        config = Config((server.address,))
        (answer,) = asker.ask(ASK, config)
        assert answer.addresses == ("10.0.0.5",)
        assert [asked.message.edns >= 0 for asked in server.asked] == [True, False, False][: 2 + over_tcp]
        asker.ask(ASK, config)
        assert not any(asked.message.edns >= 0 for asked in server.asked[1:])


def test_a_refusal_of_a_server_that_knows_edns_is_asked_once(asker):
    """SERVFAIL with an OPT record is about the name: no second question for a nameserver that is ailing."""
    with Nameserver(refusing("SERVFAIL", opt=True)) as server:
        (failure,) = asker.ask(ASK, Config((server.address,)))
        assert "SERVFAIL" in failure.reason
        assert len(server.asked) == 1


def test_an_answer_without_opt_is_an_answer(asker):
    """A server that has never heard of EDNS ignores it: nothing needs to be asked again."""
    with Nameserver(plain) as server:
        assert asker.ask(ASK, Config((server.address,)))[0].addresses
        assert len(server.asked) == 1


def first_asked(server, asker, config, number):
    """Ask for a name of its own, since what an earlier question left behind may come later; return how it came."""
    name = f"x{number}.prod.svc.cluster.local."
    (answer,) = asker.ask((Question(name, "A"),), config)
    assert answer.addresses
    return next(asked for asked in server.asked if asked.name == name)


def test_edns_that_is_dropped(asker):
    """A firewall that lets plain DNS pass: one wait a look-up, two look-ups; then none."""
    with Nameserver(lambda asked: plain(asked) if asked.message.edns < 0 and not asked.tcp else None) as server:
        config = Config((server.address,))
        for number, edns in enumerate((True, True, False)):
            assert (first_asked(server, asker, config, number).message.edns >= 0) is edns


def test_udp_that_is_dropped(asker):
    """TCP answers what UDP does not; the third look-up begins with it."""
    with Nameserver(lambda asked: plain(asked) if asked.tcp else None) as server:
        config = Config((server.address,))
        for number, tcp in enumerate((False, False, True)):
            assert first_asked(server, asker, config, number).tcp is tcp
        assert not any(asked.tcp and asked.message.edns >= 0 for asked in server.asked)


def test_a_late_answer_is_an_answer(asker):
    """What was asked first is still listened to when the second round has begun."""
    held = []

    def handle(asked):
        if not held:
            held.append(asked)
            return
        return

    with Nameserver(handle) as server:
        real = server._datagram

        def datagram(sock):
            real(sock)
            if len(server.asked) > 1:
                sock.sendto(held[0].answer(RECORD), held[0].peer)

        for key in list(server._selector.get_map().values()):
            if key.data == real:
                server._selector.modify(key.fileobj, key.events, datagram)
        (answer,) = asker.ask(ASK, Config((server.address,)))
        assert answer.addresses == ("10.0.0.5",)
        assert asker._manners.way(server.address, 0.0) is Way.EDNS


def test_udp_refused_and_tcp_open(asker):
    """A firewall that rejects UDP says so at once: TCP is tried without any wait."""
    with Nameserver(lambda asked: asked.answer(RECORD), udp=False) as server:
        assert asker.ask(ASK, Config((server.address,), timeout=30.0))[0].addresses
        assert server.questions() == [f"A {NAME} over TCP"]


def test_the_reason_names_both_ways(asker):
    """Neither is taken for the other."""
    with Nameserver(lambda asked: None, tcp=False) as server:
        (failure,) = asker.ask(ASK, Config((server.address,)))
        assert failure.kind == "silent"
        assert "no answer within 0.5 s over UDP, connection refused over TCP" in failure.reason


# -- what is remembered


def test_it_is_remembered_for_a_stated_time():
    """Then EDNS is tried again."""
    manners = Manners()
    manners.learn(SERVER, Way.PLAIN, 100.0)
    assert manners.way(SERVER, 100.0 + KEEP - 1) is Way.PLAIN
    assert manners.way(SERVER, 100.0 + KEEP) is Way.EDNS


def test_silence_needs_two_proofs():
    """One lost datagram, or several questions lost at the same time, is none; an answer in between begins anew."""
    manners = Manners()
    manners.suspect(SERVER, Way.PLAIN, 0.0, 1.0)
    manners.suspect(SERVER, Way.PLAIN, 0.0, 1.1)
    assert manners.way(SERVER, 2.0) is Way.EDNS
    manners.fine(SERVER)
    manners.suspect(SERVER, Way.PLAIN, 2.0, 3.0)
    manners.suspect(SERVER, Way.TCP, 4.0, 5.0)
    assert manners.way(SERVER, 5.0) is Way.EDNS
    manners.suspect(SERVER, Way.TCP, 6.0, 7.0)
    assert manners.way(SERVER, 7.0) is Way.TCP


def test_who_was_silent_sulks_for_a_while():
    """Until it is heard, or half a minute has passed."""
    manners = Manners()
    manners.silent(SERVER, 10.0)
    assert manners.sulks(SERVER, 10.0 + SULKS - 1)
    assert not manners.sulks(SERVER, 10.0 + SULKS)
    manners.heard(SERVER)
    assert not manners.sulks(SERVER, 11.0)


# -- resolv.conf


@pytest.fixture
def conf(tmp_path, monkeypatch):
    monkeypatch.delenv("RES_OPTIONS", raising=False)

    def read(text):
        path = tmp_path / "resolv.conf"
        path.write_text(f"nameserver 127.0.0.2\n{text}\n")
        return Nameservers(path=str(path)).config()._replace(search=())

    return read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", {}),
        ("options timeout:3 attempts:4 rotate use-vc ndots:5 no-aaaa", None),
        ("options timeout:99 attempts:99 ndots:99", {"timeout": 30.0, "attempts": 5, "ndots": 15}),
        ("options timeout:0 attempts:0 ndots:0", {"timeout": 1.0, "attempts": 1, "ndots": 0}),
        ("options timeout:x attempts: ndots:-1 use-vc:1 edns0 trust-ad", {}),
        ("options ndots:5\noptions rotate", {"ndots": 5, "rotate": True}),
    ],
)
def test_options(conf, text, said):
    """As resolv.conf(5) bounds them; of what makes no sense, nothing."""
    if said is None:
        said = {"timeout": 3.0, "attempts": 4, "rotate": True, "use_vc": True, "ndots": 5, "no_aaaa": True}
    assert conf(text) == Config((("127.0.0.2", 53),), **said)


def test_options_of_the_environment(conf, monkeypatch):
    """RES_OPTIONS amends those of the file."""
    monkeypatch.setenv("RES_OPTIONS", "ndots:2 use-vc")
    assert conf("options ndots:5 rotate") == Config((("127.0.0.2", 53),), ndots=2, rotate=True, use_vc=True)


def test_use_vc(asker):
    """TCP from the first question on, and never UDP."""
    with Nameserver(lambda asked: asked.answer(RECORD)) as server:
        assert asker.ask(ASK, Config((server.address,), use_vc=True))[0].addresses
        assert server.questions() == [f"A {NAME} over TCP"]
    with Nameserver(lambda asked: asked.answer(RECORD), tcp=False) as server:
        (failure,) = asker.ask(ASK, Config((server.address,), use_vc=True))
        assert isinstance(failure, Failure)
        assert server.asked == []


def test_attempts_and_timeout(monkeypatch):
    """So many rounds, of so many seconds each."""
    assert dialogue._timeouts(Config(())) == dialogue.TIMEOUTS
    assert dialogue._timeouts(Config((), attempts=4)) == (1.0, 2.0, 2.0, 2.0)
    assert dialogue._timeouts(Config((), attempts=1, timeout=7.0)) == (7.0,)


def test_rotate(asker):
    """Each question begins with another nameserver, but for one that was silent."""
    with Nameserver(plain) as one, Nameserver(plain) as two, Nameserver(lambda asked: None) as dead:
        config = Config((one.address, two.address, dead.address), rotate=True)
        for _ in range(7):
            assert isinstance(asker.ask(ASK, config)[0], Answer)
        assert len(dead.asked) == 1
        assert min(len(one.asked), len(two.asked)) >= 2
