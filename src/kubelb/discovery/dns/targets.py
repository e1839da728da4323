"""The addresses of SRV targets that do not come along with the records.

They are kept for as long as their own TTL says, and not asked for again with the SRV records, which have another; the
sooner of the two decides when the next look-up is. There may be very many of them, so not all are asked for at once.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kubelb.clock import Clock
from kubelb.discovery.dns.finding import CEILING, FLOOR, KINDS, family_of
from kubelb.discovery.dns.records import usable
from kubelb.discovery.dns.steps import Answer, Failure, Question, Srv

__all__ = ["LOOKUPS", "Targets"]

LOOKUPS = 200
"""Targets whose addresses are asked for in one refresh; the others have theirs from an earlier one, or wait."""
_PAST = float("-inf")


class Known(NamedTuple):
    """Addresses of a target, for how long they were said to hold, and until when that is."""

    addresses: tuple[str, ...]
    ttl: float
    until: float

    def fresh(self, now: float) -> bool:
        """Whether they need not be asked for yet; soon is now, or each name would have its own time to be asked."""
        return self.until - now > max(FLOOR, self.ttl / 4)


class Targets:
    """What was heard of them, of those that the last SRV records name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resolved: dict[str, Known] = {}

    def renew(self) -> None:
        """Whatever the TTLs say, all are to be asked for; what cannot be told then stays."""
        self._resolved = {target: known._replace(until=_PAST) for target, known in self._resolved.items()}

    def to_ask(self, answer: Answer) -> tuple[str, ...]:
        """Targets whose addresses did not come along and are not known, not all at once: unknown ones first, then those
        whose time ended first.
        """
        now = self._clock()
        targets = dict.fromkeys(record.target for record in usable(answer))
        missing = [each for each in targets if not answer.also.get(each)]
        due = [each for each in missing if each not in self._resolved or not self._resolved[each].fresh(now)]
        return tuple(sorted(due, key=self._turn)[:LOOKUPS])

    def _turn(self, target: str) -> tuple[bool, float]:
        known = self._resolved.get(target)
        return known is not None, known.until if known else _PAST

    def known(
        self, answer: Answer, records: Iterable[Srv], replies: Mapping[Question, Answer | Failure | None]
    ) -> tuple[dict[str, tuple[str, ...]], bool, float]:
        """The addresses of each target, whether some could not be told, and how long that holds."""
        now = self._clock()
        targets = tuple(dict.fromkeys(record.target for record in records))
        addresses = {target: answer.also[target] for target in targets if answer.also.get(target)}
        asked = {question.name for question in replies}
        ttl, unknown = float("inf"), False
        kept: dict[str, Known] = {}
        for target in targets:
            if target in addresses:
                continue
            known = self._resolved.get(target)
            if target in asked:
                heard = _heard_of(target, replies, known, now)
                unknown = unknown or heard is None
                if heard is None and known is not None:  # it has had its turn
                    known = known._replace(until=max(known.until, now))
                known = heard or known
            elif known is None or not known.fresh(now):  # one of those that were too many to be asked for
                unknown = True
                ttl = ttl if known else 0.0
            if known is not None:
                addresses[target] = known.addresses
                if known.until > now:
                    ttl = min(ttl, known.until - now)
                if known.addresses:
                    kept[target] = known
        self._resolved = kept
        return addresses, unknown, ttl


def _heard_of(
    target: str, replies: Mapping[Question, Answer | Failure | None], before: Known | None, now: float
) -> Known | None:
    """What was heard of a target; None where that is not all, and nothing is known of it.

    Of a family whose question was not answered, what was known before stays: silence does not say that it is gone.
    """
    mine = {question: reply for question, reply in replies.items() if question.name == target}
    heard = {question.kind: reply for question, reply in mine.items() if isinstance(reply, Answer)}
    addresses = tuple(ip for reply in heard.values() for ip in reply.addresses)
    if not addresses and len(heard) < len(mine):
        return None
    ttl = min((reply.ttl for reply in heard.values() if reply.addresses), default=CEILING)
    if before is not None:
        silent = {question.kind for question in mine} - heard.keys()
        addresses += tuple(ip for ip in before.addresses if KINDS[family_of(ip)] in silent)
    return Known(addresses, min(ttl, CEILING), now + min(ttl, CEILING))
