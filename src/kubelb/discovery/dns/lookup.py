"""From a target to what DNS knows of it: the questions, and what their answers mean together.

Generators that do no I/O: they yield Steps and are sent Replies, so a test is the nameserver. Each returns a Finding,
or raises Trouble where a nameserver failed. One question is enough for a service whose addresses come along with its
SRV records; those that do not come along are asked for together.

- Weights count relative to the largest of their tier, so that CoreDNS's equal ones, which differ with the number of
  pods, are all 1. A weight of 0 means "seldom", not "never" (RFC 2782): it counts as a tenth of the weight 1.
- A target whose address nobody could tell makes the Finding partial; one that has none is left out.
- What a search list led to is asked for alone from then on, until it is given up (`forget`): a blip must not lead to
  another name, which a wildcard may answer.
"""

from collections import defaultdict
from collections.abc import Collection, Generator, Iterable

from kubelb.discovery.dns.finding import FAMILIES, Finding
from kubelb.discovery.dns.names import candidates, service_part
from kubelb.discovery.dns.steps import CONFIG, LIES, Answer, Ask, Config, Failure, Question, Reply, Srv, Step, Trouble
from kubelb.model import Endpoint
from kubelb.target import Target

__all__ = ["LOOKUPS", "Lookup"]

LOOKUPS = 200
"""Targets whose addresses are asked for in one refresh; the others have theirs from an earlier one, or wait."""
ALIASES = 8
"""Names in a chain of CNAMEs that come one by one; dnspython follows 16 within an answer."""
_SELDOM = 0.1
_KINDS = {"IPv4": "A", "IPv6": "AAAA"}

Asking = Generator[Step, Reply, Finding]


class Lookup:
    """Asks for one target, again and again. `fallback_port` is for A records where SRV records do not all fit."""

    def __init__(self, target: Target, *, cluster_domain: str, fallback_port: int | None) -> None:
        self._target = target
        self._domain = cluster_domain
        self._fallback_port = fallback_port
        self._winner = ""
        self._resolved: dict[str, tuple[str, ...]] = {}

    def forget(self) -> None:
        """What was found is gone: walk the search list again."""
        self._winner = ""

    def run(self) -> Asking:
        """Ask once."""
        config = yield CONFIG
        if isinstance(config, Failure):
            raise Trouble(config)
        assert isinstance(config, Config)
        one = self._srv if self._target.scheme == "dns+srv" else self._host
        absent: Finding | None = None
        trouble: Trouble | None = None
        for name in (self._winner,) if self._winner else candidates(self._target.name, config, self._domain):
            try:
                finding = yield from one(name)
            except Trouble as error:
                trouble = trouble or error
                continue
            if not finding.absent:
                self._winner = name
                return finding
            if absent is None or absent.absent == "NXDOMAIN":
                absent = finding
        if absent is None or trouble is not None:
            assert trouble is not None
            raise trouble
        return absent

    # -- SRV

    def _srv(self, name: str) -> Asking:
        answer = yield from _ask_one(Question(name, "SRV"))
        if not answer.srv:
            return (yield from self._why_none(name, answer))
        if answer.partial and self._fallback_port is not None:
            instead = yield from self._addresses_of(service_part(name), self._fallback_port)
            if instead.endpoints and not instead.partial:
                return instead
        records = [record for record in answer.srv if record.target != "." and record.port]
        if all(record.target == "." for record in answer.srv):
            return Finding(answer.ttl, dict.fromkeys(FAMILIES, ()), none=True)
        addresses, unknown, ttl = yield from self._targets(answer, records)
        endpoints = _endpoints(records, addresses)
        if not any(endpoints.values()):
            # CoreDNS gives port 0 for a Service of type ExternalName: it has no ports of its own.
            outside = next((record.target for record in answer.srv if not record.port and record.target != "."), "")
            cure = f"is it an ExternalName Service? Then give what it stands for, dns:///{outside.rstrip('.')}:PORT"
            reason = f"the SRV records of {name} lead to no address and port"
            raise Trouble(Failure("malformed", reason, cure if outside else LIES))
        virtual = ""
        if {record.target for record in records} == {service_part(name)}:
            virtual = ", ".join(sorted({each.ip for family in endpoints.values() for each in family}))
        return Finding(
            min(ttl, answer.ttl),
            endpoints,
            partial=answer.partial or unknown,
            virtual=virtual,
            warnings=_warnings(name, answer, addresses),
        )

    def _targets(
        self, answer: Answer, records: Iterable[Srv]
    ) -> Generator[Step, Reply, tuple[dict[str, tuple[str, ...]], bool, float]]:
        """The addresses of each target, whether some could not be told, and how long that holds."""
        targets = list(dict.fromkeys(record.target for record in records))
        addresses = {target: answer.also[target] for target in targets if answer.also.get(target)}
        missing = sorted((each for each in targets if each not in addresses), key=self._resolved.__contains__)
        asked, rest = missing[:LOOKUPS], missing[LOOKUPS:]
        found, failed, ttl = yield from _ask_all(asked)
        for target in (*failed, *rest):
            if target in self._resolved:
                addresses[target] = self._resolved[target]
        if any(target not in addresses for target in rest):
            ttl = 0.0  # those soon
        addresses.update(found)
        self._resolved = {target: addresses[target] for target in missing if addresses.get(target)}
        return addresses, bool(failed or rest), ttl

    def _why_none(self, name: str, answer: Answer) -> Asking:
        """No SRV records. CoreDNS answers a question without the port with those of every port: name them."""
        whole = yield from _ask_or_nothing(Question(service_part(name), "SRV"))
        ports = {record.port for record in whole.srv} if whole else set()
        return Finding(
            answer.ttl,
            absent="no such record" if answer.exists else "NXDOMAIN",
            ports=tuple(f":{port}" for port in sorted(ports)),
            host_exists=whole is not None and whole.exists,
        )

    # -- A and AAAA

    def _host(self, name: str) -> Asking:
        assert isinstance(self._target.port, int)
        return (yield from self._addresses_of(name, self._target.port))

    def _addresses_of(self, name: str, port: int) -> Asking:
        replies = yield from _ask_families(name)
        endpoints: dict[str, tuple[Endpoint, ...]] = {}
        warnings: list[tuple[str, str]] = []
        for family, reply in replies.items():
            if isinstance(reply, Answer):
                endpoints[family] = tuple(Endpoint(ip, port) for ip in sorted(set(reply.addresses)))
                warnings += [("an address record", text) for text in reply.odd]
        heard = [reply for reply in replies.values() if isinstance(reply, Answer)]
        found = [reply for reply in heard if reply.addresses]
        failures = [reply for reply in replies.values() if isinstance(reply, Failure)]
        if failures and not found:
            raise Trouble(failures[0])  # one family is not there, and of the other nobody knows
        if not found and warnings:
            raise Trouble(Failure("malformed", f"{name}: {warnings[0][1]}", LIES))
        if not found:
            return Finding(min(reply.ttl for reply in heard), absent=_absent(heard))
        partial = any(reply.partial for reply in found)
        if partial:
            lost = f"the answer for {name} does not fit into 64 KiB; nothing that is missing is taken as gone"
            warnings.append(("a part of the address records", lost))
        warnings += [("the other family", failure.reason) for failure in failures]
        return Finding(min(reply.ttl for reply in found), endpoints, partial=partial, warnings=tuple(warnings))


def _absent(heard: Collection[Answer]) -> str:
    return "no such record" if any(reply.exists for reply in heard) else "NXDOMAIN"


def _endpoints(records: Iterable[Srv], addresses: dict[str, tuple[str, ...]]) -> dict[str, tuple[Endpoint, ...]]:
    """One endpoint for each address and port of each record."""
    most: dict[int, float] = defaultdict(float)
    for record in records:
        most[record.priority] = max(most[record.priority], record.weight or _SELDOM)
    found: dict[str, dict[tuple[str, int], Endpoint]] = {family: {} for family in FAMILIES}
    for record in sorted(records):  # of two records with the same address the first tier counts
        label = record.target.split(".", 1)[0]
        for ip in addresses.get(record.target, ()):
            family = "IPv6" if ":" in ip else "IPv4"
            endpoint = Endpoint(
                ip,
                record.port,
                hostname="" if _is_address(label, ip) else label,
                weight=(record.weight or _SELDOM) / most[record.priority],
                priority=record.priority,
            )
            found[family].setdefault(endpoint.address, endpoint)
    return {family: tuple(sorted(each.values())) for family, each in found.items()}


def _is_address(label: str, ip: str) -> bool:
    """CoreDNS calls a pod without a name after its address, ``10-244-0-7``; none of its labels ends with a dash."""
    dashed = ip.replace(".", "-").replace(":", "-")
    return label == (f"{dashed}0" if dashed.endswith("-") else dashed)


def _warnings(name: str, answer: Answer, addresses: dict[str, tuple[str, ...]]) -> tuple[tuple[str, str], ...]:
    found = [("an address", text) for text in answer.odd]
    found += [("an SRV record", f"its port is 0, its target {each.target}") for each in answer.srv if not each.port]
    found += [
        ("an SRV record", f"its target {target} has no address") for target, known in addresses.items() if not known
    ]
    if answer.partial:
        lost = f"the answer for {name} does not fit into 64 KiB; nothing that is missing is taken as gone"
        found.append(("a part of the SRV records", lost))
    return tuple(sorted(found))


# -- questions


def _ask_one(question: Question) -> Generator[Step, Reply, Answer]:
    """One question, aliases followed; it holds for as long as the least of all on the way."""
    reply: Answer | Failure = Failure("internal", "nothing was asked")
    ttl = float("inf")
    asked = question
    for _ in range(ALIASES):
        reply = _first((yield Ask((asked,))))
        if isinstance(reply, Failure):
            raise Trouble(reply)
        ttl = min(ttl, reply.ttl)
        if not reply.alias:
            return reply._replace(ttl=ttl)
        asked = Question(reply.alias, question.kind)
    raise Trouble(Failure("malformed", f"{question}: its aliases (CNAME) do not come to an end", LIES))


def _ask_or_nothing(question: Question) -> Generator[Step, Reply, Answer | None]:
    try:
        return (yield from _ask_one(question))
    except Trouble:
        return None


def _ask_families(name: str) -> Generator[Step, Reply, dict[str, Answer | Failure]]:
    """A and AAAA at the same time."""
    questions = tuple(Question(name, kind) for kind in _KINDS.values())
    replies = _all((yield Ask(questions)))
    whole: dict[str, Answer | Failure] = {}
    for family, question, reply in zip(_KINDS, questions, replies, strict=True):
        whole[family] = yield from _end_of(question, reply)
    return whole


def _end_of(question: Question, reply: Answer | Failure) -> Generator[Step, Reply, Answer | Failure]:
    if isinstance(reply, Failure) or not reply.alias:
        return reply
    try:
        end = yield from _ask_one(Question(reply.alias, question.kind))
    except Trouble as trouble:
        return trouble.failure
    return end._replace(ttl=min(reply.ttl, end.ttl))


def _ask_all(
    targets: Collection[str],
) -> Generator[Step, Reply, tuple[dict[str, tuple[str, ...]], list[str], float]]:
    """Addresses of targets that did not come along; those that nobody could tell; how long that holds."""
    if not targets:
        return {}, [], float("inf")
    questions = tuple(Question(target, kind) for target in targets for kind in _KINDS.values())
    replies = _all((yield Ask(questions)))
    found: dict[str, tuple[str, ...]] = {}
    failed: list[str] = []
    ttl = float("inf")
    for question, reply in zip(questions, replies, strict=True):
        whole = yield from _end_of(question, reply)
        if isinstance(whole, Failure):
            failed.append(question.name)
            continue
        found[question.name] = (*found.get(question.name, ()), *whole.addresses)
        if whole.addresses:
            ttl = min(ttl, whole.ttl)
    unknown = [target for target in dict.fromkeys(failed) if not found.get(target)]
    return {target: known for target, known in found.items() if target not in unknown}, unknown, ttl


def _first(reply: Reply) -> Answer | Failure:
    return _all(reply)[0]


def _all(reply: Reply) -> tuple[Answer | Failure, ...]:
    assert isinstance(reply, tuple)
    assert not isinstance(reply, (Config, Failure))
    return reply
