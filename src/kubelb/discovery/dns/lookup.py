"""From a target to what DNS knows of it: the questions, and what their answers mean together.

How they are asked stands in `questions.py`, what SRV records mean in `records.py`. One question is enough for a service
whose addresses come along with its SRV records; those that do not come along are asked for together.

- A name in ``/etc/hosts`` is not asked for (`hosts.py`), unless a nameserver was named or the name ends with a dot.
- A target whose address nobody could tell makes the Finding partial; one that has none is left out.
- Addresses of targets that were asked for are kept for as long as their own TTL says, and not asked for again with the
  SRV records, which have another; the sooner of the two decides when the next look-up is.
- What a search list led to is asked for alone from then on, until it is given up (`forget`): a blip must not lead to
  another name, which a wildcard may answer.
"""

from collections.abc import Collection, Iterable, Mapping

from kubelb.clock import Clock, monotonic
from kubelb.discovery.dns.finding import FAMILIES, Finding, family_of, is_server
from kubelb.discovery.dns.hosts import ETC_HOSTS, listed
from kubelb.discovery.dns.names import candidates, service_part
from kubelb.discovery.dns.questions import Asking, ask_one, ask_or_nothing, decides, in_parts, leads_on
from kubelb.discovery.dns.records import Known, endpoints_of, heard_of, oddities, usable
from kubelb.discovery.dns.steps import CONFIG, HOSTS, LIES, Answer, Config, Failure, Question, Srv, Trouble
from kubelb.model import Endpoint
from kubelb.target import Target

__all__ = ["LOOKUPS", "Lookup"]

LOOKUPS = 200
"""Targets whose addresses are asked for in one refresh; the others have theirs from an earlier one, or wait."""
LOOK_AGAIN = 5.0
"""Seconds between two looks at ``/etc/hosts``."""
_PAST = float("-inf")
_KINDS = {"IPv4": "A", "IPv6": "AAAA"}


class Lookup:
    """Asks for one target, again and again. `fallback_port` is for A records where SRV records do not all fit.

    `families` are those that are asked for, in any order.
    """

    def __init__(
        self,
        target: Target,
        *,
        cluster_domain: str,
        fallback_port: int | None,
        families: Collection[str] = FAMILIES,
        clock: Clock = monotonic,
    ) -> None:
        self._target = target
        self._domain = cluster_domain
        self._fallback_port = fallback_port
        self._wanted = tuple(family for family in FAMILIES if family in families)
        self._clock = clock
        self._families = self._wanted
        self._winner = ""
        self._resolved: dict[str, Known] = {}

    def forget(self) -> None:
        """What was found is gone: walk the search list again."""
        self._winner = ""

    def renew(self) -> None:
        """Whatever the TTLs say, ask for everything next time; what cannot be told then stays."""
        self._resolved = {target: known._replace(until=_PAST) for target, known in self._resolved.items()}

    def run(self) -> Asking:
        """Ask once."""
        if self._target.scheme == "dns" and self._target.nameserver is None and not self._target.name.endswith("."):
            hosts = yield HOSTS
            assert isinstance(hosts, Mapping)
            found = listed(hosts, self._target.name)
            if found:
                return self._from_file(found)
        config = yield CONFIG
        if isinstance(config, Failure):
            raise Trouble(config)
        assert isinstance(config, Config)
        self._families = self._wanted
        if config.no_aaaa and "IPv4" in self._wanted:
            self._families = ("IPv4",)
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

    # -- /etc/hosts

    def _from_file(self, addresses: tuple[str, ...]) -> Finding:
        name, port = self._target.name, self._target.port
        assert isinstance(port, int)
        good = sorted(ip for ip in addresses if is_server(ip))
        odd = tuple(
            ("a line of the hosts file", f"{ip} is no address of a server") for ip in addresses if ip not in good
        )
        if not good:
            reason = f"{ETC_HOSTS} gives {name} the address {addresses[0]}, which is no address of a server"
            raise Trouble(Failure("malformed", reason, f"mend that line, or write {name}. to ask DNS for it"))
        endpoints = {
            family: tuple(Endpoint(ip, port) for ip in good if family_of(ip) == family) for family in self._wanted
        }
        if not any(endpoints.values()):
            return Finding(LOOK_AGAIN, absent=f"{ETC_HOSTS} has no {self._wanted[0]} address for it")
        return Finding(LOOK_AGAIN, {**dict.fromkeys(FAMILIES, ()), **endpoints}, warnings=odd)

    # -- SRV

    def _srv(self, name: str) -> Asking:
        answer = yield from ask_one(Question(name, "SRV"))
        if not answer.srv:
            return (yield from self._why_none(name, answer))
        if answer.partial and self._fallback_port is not None:
            instead = yield from self._addresses_of(service_part(name), self._fallback_port)
            if instead.endpoints and not instead.partial:
                return instead
        if all(record.target == "." for record in answer.srv):
            return Finding(answer.ttl, dict.fromkeys(FAMILIES, ()), none=True)
        asked = self._to_ask(answer)
        if not asked:
            found = self._found(name, answer, {})
            assert found is not None
            return found
        questions = tuple(Question(target, _KINDS[family]) for target in asked for family in self._families)
        return (yield from in_parts(questions, leads_on, lambda replies: self._found(name, answer, replies)))

    def _to_ask(self, answer: Answer) -> tuple[str, ...]:
        """Targets whose addresses did not come along and are not known: unknown ones first, and not all at once."""
        now = self._clock()
        targets = dict.fromkeys(record.target for record in usable(answer))
        missing = [each for each in targets if not answer.also.get(each)]
        due = [each for each in missing if each not in self._resolved or not self._resolved[each].fresh(now)]
        return tuple(sorted(due, key=self._resolved.__contains__)[:LOOKUPS])

    def _found(self, name: str, answer: Answer, replies: Mapping[Question, Answer | Failure | None]) -> Finding | None:
        """What the records and the answers about their targets mean; None where that cannot be told yet."""
        records = usable(answer)
        addresses, unknown, ttl = self._targets(answer, records, replies)
        endpoints = endpoints_of(records, addresses, self._wanted)
        if not any(endpoints.values()):
            if None in replies.values():
                return None
            raise Trouble(self._leads_nowhere(name, answer, addresses))
        virtual = ""
        if {record.target for record in records} == {service_part(name)}:
            virtual = ", ".join(sorted({each.ip for family in endpoints.values() for each in family}))
        return Finding(
            min(ttl, answer.ttl),
            endpoints,
            partial=answer.partial or unknown,
            virtual=virtual,
            warnings=oddities(name, answer, addresses),
        )

    def _leads_nowhere(self, name: str, answer: Answer, addresses: Mapping[str, tuple[str, ...]]) -> Failure:
        others = sorted(ip for known in addresses.values() for ip in known)
        if others:
            reason = f"the SRV records of {name} lead to no {self._wanted[0]} address, only to {', '.join(others[:3])}"
            return Failure("malformed", reason, f"give families= the other family, too: {', '.join(FAMILIES)}")
        # CoreDNS gives port 0 for a Service of type ExternalName: it has no ports of its own.
        outside = next((record.target for record in answer.srv if not record.port and record.target != "."), "")
        cure = f"is it an ExternalName Service? Then give what it stands for, dns:///{outside.rstrip('.')}:PORT"
        reason = f"the SRV records of {name} lead to no address and port"
        return Failure("malformed", reason, cure if outside else LIES)

    def _targets(
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
                heard = heard_of(target, replies, now)
                unknown = unknown or heard is None
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

    def _why_none(self, name: str, answer: Answer) -> Asking:
        """No SRV records. CoreDNS answers a question without the port with those of every port: name them."""
        whole = yield from ask_or_nothing(Question(service_part(name), "SRV"))
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
        questions = tuple(Question(name, _KINDS[family]) for family in self._families)
        return (yield from in_parts(questions, decides, lambda replies: self._host_found(name, port, replies)))

    def _host_found(self, name: str, port: int, replies: Mapping[Question, Answer | Failure | None]) -> Finding | None:
        """What the answers for both families mean together; None where that cannot be told yet."""
        endpoints: dict[str, tuple[Endpoint, ...]] = {}
        warnings: list[tuple[str, str]] = []
        for family, reply in zip(self._families, replies.values(), strict=True):
            if isinstance(reply, Answer):
                if reply.addresses or not reply.odd:  # nothing but lies says nothing of what there is
                    endpoints[family] = tuple(Endpoint(ip, port) for ip in sorted(set(reply.addresses)))
                warnings += [("an address record", text) for text in reply.odd]
        heard = [reply for reply in replies.values() if isinstance(reply, Answer)]
        found = [reply for reply in heard if reply.addresses]
        failures = [reply for reply in replies.values() if isinstance(reply, Failure)]
        if not found and None in replies.values():
            return Finding(heard[0].ttl, absent="NXDOMAIN") if heard and not heard[0].exists else None
        if failures and not found:
            raise Trouble(failures[0])  # one family is not there, and of the other nobody knows
        if not found and warnings:
            raise Trouble(Failure("malformed", f"{name}: {warnings[0][1]}", LIES))
        if not found:
            return Finding(min(reply.ttl for reply in heard), absent=self._absent(heard))
        partial = any(reply.partial for reply in found)
        if partial:
            lost = f"the answer for {name} does not fit into 64 KiB; nothing that is missing is taken as gone"
            warnings.append(("a part of the address records", lost))
        warnings += [("the other family", failure.reason) for failure in failures]
        return Finding(min(reply.ttl for reply in found), endpoints, partial=partial, warnings=tuple(warnings))

    def _absent(self, heard: Collection[Answer]) -> str:
        if not any(reply.exists for reply in heard):
            return "NXDOMAIN"
        if len(self._families) == len(FAMILIES):
            return "no such record"
        why = "families=" if len(self._wanted) < len(FAMILIES) else "options no-aaaa in resolv.conf"
        kinds = [_KINDS[family] for family in FAMILIES]
        kinds.sort(key=lambda kind: kind != _KINDS[self._families[0]])
        return f"no {kinds[0]} record, and {why} keeps kubelb from asking for {kinds[1]}"
