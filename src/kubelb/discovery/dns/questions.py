"""How a look-up asks: several questions at a time, aliases followed, and no waiting for what does not matter.

Generators that do no I/O: they yield Steps and are sent Replies, so a test is the nameserver. Each returns what it was
asked for, or raises Trouble where a nameserver failed.

Where some answers have come and others are missing, the first are yielded as a Finding of their own, and the look-up
goes on with the rest, until the first are due to be asked for again.
"""

from collections.abc import Callable, Generator, Mapping
from typing import TypeAlias

from kubelb.discovery.dns.finding import CEILING, FLOOR, Finding
from kubelb.discovery.dns.steps import (
    LIES,
    Answer,
    Ask,
    Config,
    Enough,
    Failure,
    Question,
    Replies,
    Reply,
    Rest,
    Step,
    Trouble,
)
from kubelb.records import replace

__all__ = ["Asking", "ask_one", "ask_or_nothing", "decides", "in_parts", "leads_on"]

ALIASES = 8
"""Names in a chain of CNAMEs that come one by one; dnspython follows 16 within an answer."""

Looked: TypeAlias = Step | Finding
Asking: TypeAlias = Generator[Looked, Reply, Finding]
"""A Finding that is yielded is what is known so far."""
Build: TypeAlias = Callable[[Mapping[Question, Answer | Failure | None]], Finding | None]


def in_parts(questions: tuple[Question, ...], enough: Enough, build: Build) -> Asking:
    """Ask all, aliases followed; what came soon is yielded first where that is something, and all is returned."""
    asked = dict(zip(questions, _all((yield Ask(questions, enough))), strict=True))
    replies = yield from _ends_of(asked)
    missing = tuple(question for question, reply in replies.items() if reply is None)
    first = build(replies)
    if not missing or (first is not None and first.absent):
        assert first is not None
        return first
    patience = float("inf")
    if first is not None:
        yield replace(first, early=True)
        patience = min(max(first.ttl, FLOOR), CEILING)
    rest = _all((yield Rest(missing, patience)))
    late = {question: reply or _late(question, patience) for question, reply in zip(missing, rest, strict=True)}
    whole = build({**replies, **(yield from _ends_of(late))})
    assert whole is not None
    return whole


def _late(question: Question, seconds: float) -> Failure:
    cure = "does that nameserver answer this kind of question at all? Ask it by hand (dig)"
    within = f" within {seconds:g} s" if seconds < CEILING else ""
    return Failure("silent", f"no nameserver has answered {question}{within}", cure)


def leads_on(_question: Question, answer: Answer) -> bool:
    """Some addresses, or where to ask for them."""
    return bool(answer.addresses or answer.alias)


def decides(question: Question, answer: Answer) -> bool:
    """The same; or that there is no such name, in an answer about A: about AAAA some nameservers lie (RFC 4074)."""
    return leads_on(question, answer) or (question.kind == "A" and not answer.exists)


def ask_one(question: Question) -> Generator[Looked, Reply, Answer]:
    """One question, aliases followed; it holds for as long as the least of all on the way."""
    reply: Answer | Failure | None = None
    ttl = float("inf")
    asked = question
    for _ in range(ALIASES):
        reply = _all((yield Ask((asked,))))[0]
        assert reply is not None
        if isinstance(reply, Failure):
            raise Trouble(reply)
        ttl = min(ttl, reply.ttl)
        if not reply.alias:
            return reply._replace(ttl=ttl)
        asked = Question(reply.alias, question.kind)
    raise Trouble(Failure("malformed", f"{question}: its aliases (CNAME) do not come to an end", LIES))


def ask_or_nothing(question: Question) -> Generator[Looked, Reply, Answer | None]:
    try:
        return (yield from ask_one(question))
    except Trouble:
        return None


def _ends_of(
    replies: Mapping[Question, Answer | Failure | None],
) -> Generator[Looked, Reply, dict[Question, Answer | Failure | None]]:
    """Where the aliases lead."""
    ends = dict(replies)
    for question, reply in replies.items():
        if isinstance(reply, Answer) and reply.alias:
            try:
                end = yield from ask_one(Question(reply.alias, question.kind))
            except Trouble as trouble:
                ends[question] = trouble.failure
            else:
                ends[question] = end._replace(ttl=min(reply.ttl, end.ttl))
    return ends


def _all(reply: Reply) -> Replies:
    assert isinstance(reply, tuple)
    assert not isinstance(reply, (Config, Failure))
    return reply
