"""Questions to bytes, bytes to answers. Pure: no socket, no time.

A socket's bytes may be from any host. `answers` takes only what has the number and the question of the query and is a
response; the rest is dropped as if it had never come (RFC 5452). What passes may still lie, so every record is looked
at: alias loops are refused, with words. Addresses are told as they are; which of them are not dialled is decided later,
by the one rule for every source (`kubelb.discovery.special`).
"""

import ipaddress
from typing import Any, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from kubelb.discovery.dns.steps import LIES, Answer, Failure, Question, Srv

__all__ = ["PAYLOAD", "Query", "Refused", "Truncated", "answers", "mangled", "query", "read"]

PAYLOAD = 1232
"""Bytes of UDP that are asked for (EDNS): what passes every path unbroken. More comes over TCP."""


class Query(NamedTuple):
    """A question with the number that its answer must have."""

    question: Question
    message: dns.message.QueryMessage
    wire: bytes


class Truncated:
    """The answer did not fit into UDP."""


class Refused(NamedTuple):
    """The nameserver has no answer: SERVFAIL, REFUSED and the like."""

    rcode: str

    @property
    def plain(self) -> bool:
        """It may understand the question without EDNS (RFC 6891, 7)."""
        return self.rcode in {"FORMERR", "NOTIMP", "BADVERS"}


def query(question: Question, *, edns: bool = True) -> Query:
    """Make a query with a random number."""
    message = dns.message.make_query(
        dns.name.from_text(question.name),
        dns.rdatatype.from_text(question.kind),
        use_edns=0 if edns else -1,
        payload=PAYLOAD if edns else None,
    )
    return Query(question, message, message.to_wire())


def answers(asked: Query, wire: bytes, *, tcp: bool) -> dns.message.Message | Truncated | None:
    """Return the answer to `asked`, or None where these bytes are no answer to it."""
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True, raise_on_truncation=not tcp)
    except dns.message.Truncated as error:
        part = error.message()  # type: ignore[no-untyped-call]
        return Truncated() if asked.message.is_response(part) else None
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes do to a parser, they are no answer
        return None
    return message if asked.message.is_response(message) else None


def mangled(asked: Query, wire: bytes) -> bool:
    """Whether it is an answer to `asked` that cannot be read: the number and the question are right, and no more is.

    Some nameservers and middleboxes put the OPT record of EDNS where it may not be, or send back rubbish for it.
    """
    try:
        part = dns.message.from_wire(wire, question_only=True)
    except Exception:  # noqa: BLE001 - as above
        return False
    return bool(part.question) and asked.message.is_response(part)


def read(message: dns.message.Message, question: Question) -> Answer | Failure | Refused:
    """Say what an answer means."""
    rcode = message.rcode()
    if rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return Refused(dns.rcode.to_text(rcode))
    assert isinstance(message, dns.message.QueryMessage)
    try:
        chain = message.resolve_chaining()
    except dns.exception.DNSException as error:
        why = "its aliases (CNAME) go in circles" if isinstance(error, dns.message.ChainTooLong) else "it says both"
        return Failure("malformed", f"the answer for {question} makes no sense: {why}", LIES)
    exists = rcode == dns.rcode.NOERROR
    partial = bool(message.flags & dns.flags.TC)
    if chain.answer is None:
        alias = str(chain.canonical_name).lower() if chain.cnames and exists else ""
        return Answer(ttl=float(chain.minimum_ttl), exists=exists, partial=partial, alias=alias)
    ttl = float(chain.minimum_ttl)
    if question.kind != "SRV":
        return Answer(addresses=_addresses(chain.answer), ttl=ttl, partial=partial)
    srv = tuple(_srv(record) for record in chain.answer)
    wanted = {record.target for record in srv}
    also: dict[str, tuple[str, ...]] = {}
    for rrset in (*message.answer, *message.additional):
        name = str(rrset.name).lower()
        if name in wanted and rrset.rdclass == dns.rdataclass.IN and rrset.rdtype in _ADDRESSES:
            also[name] = (*also.get(name, ()), *_addresses(rrset))
            ttl = min(ttl, float(rrset.ttl))
    return Answer(srv, ttl=ttl, partial=partial, also=also)


_ADDRESSES = {dns.rdatatype.A, dns.rdatatype.AAAA}


def _srv(record: Any) -> Srv:
    return Srv(record.priority, record.weight, record.port, str(record.target).lower())


def _addresses(rrset: Any) -> tuple[str, ...]:
    """In canonical text."""
    return tuple(str(ipaddress.ip_address(record.address)) for record in rrset)
