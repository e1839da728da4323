"""From a target to what DNS knows of it: the questions, and what their answers mean together.

How they are asked stands in `questions.py`, what SRV records mean in `records.py`, and what is known of their targets
in `targets.py`. One question is enough for a service whose addresses come along with its SRV records; those that do not
come along are asked for together.

- A name in ``/etc/hosts`` is not asked for (`hosts.py`), unless a nameserver was named or the name ends with a dot.
- A target whose address no nameserver could tell makes the Finding partial; one that has none is left out.
- Addresses that are not dialled (`kubelb.discovery.special`) are left out of every Finding, once for all that ask. A
  name that has no others is no better than one that could not be asked: a search list is walked on.
- What a search list led to is asked for alone from then on, until it is given up (`forget`): a blip must not lead to
  another name, which a wildcard may answer.
"""

from collections.abc import Collection, Mapping

from kubelb.clock import Clock, monotonic
from kubelb.discovery.dns.finding import FAMILIES, KINDS, Finding, family_of, screened_finding
from kubelb.discovery.dns.hosts import ETC_HOSTS, listed
from kubelb.discovery.dns.names import candidates, service_part
from kubelb.discovery.dns.questions import Asking, ask_one, ask_or_nothing, decides, in_parts, leads_on
from kubelb.discovery.dns.records import endpoints_of, oddities, usable
from kubelb.discovery.dns.steps import CONFIG, HOSTS, LIES, Answer, Config, Failure, Question, Trouble
from kubelb.discovery.dns.targets import Targets
from kubelb.model import Endpoint
from kubelb.target import Target

__all__ = ["Lookup"]

LOOK_AGAIN = 5.0
"""Seconds between two looks at ``/etc/hosts``."""


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
        allow_special_addresses: bool = False,
        clock: Clock = monotonic,
    ) -> None:
        self._target = target
        self._domain = cluster_domain
        self._fallback_port = fallback_port
        self._wanted = tuple(family for family in FAMILIES if family in families)
        self._screened = _as_it_is if allow_special_addresses else screened_finding
        self._families = self._wanted
        self._winner = ""
        self._targets = Targets(clock)

    def forget(self) -> None:
        """What was found is gone: walk the search list again."""
        self._winner = ""

    def renew(self) -> None:
        """Whatever the TTLs say, ask for everything next time; what cannot be told then stays."""
        self._targets.renew()

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
        lie: Finding | None = None
        trouble: Trouble | None = None
        for name in (self._winner,) if self._winner else candidates(self._target.name, config, self._domain):
            try:
                finding = yield from one(name)
            except Trouble as error:
                trouble = trouble or error
                continue
            if finding.lies:
                lie = lie or finding
            elif not finding.absent:
                self._winner = name
                return finding
            elif absent is None or absent.absent == "NXDOMAIN":
                absent = finding
        if lie is not None:
            return lie
        if absent is None or trouble is not None:
            assert trouble is not None
            raise trouble
        return absent

    # -- /etc/hosts

    def _from_file(self, addresses: tuple[str, ...]) -> Finding:
        port = self._target.port
        assert isinstance(port, int)
        endpoints = {
            family: tuple(Endpoint(ip, port) for ip in sorted(addresses) if family_of(ip) == family)
            for family in self._wanted
        }
        if not any(endpoints.values()):
            return Finding(LOOK_AGAIN, absent=f"{ETC_HOSTS} has no {self._wanted[0]} address for it")
        found = Finding(LOOK_AGAIN, {**dict.fromkeys(FAMILIES, ()), **endpoints}, where=ETC_HOSTS)
        return self._screened(found)

    # -- SRV

    def _srv(self, name: str) -> Asking:
        answer = yield from ask_one(Question(name, "SRV"))
        if not answer.srv:
            return (yield from self._why_none(name, answer))
        if answer.partial and self._fallback_port is not None:
            instead = yield from self._addresses_of(service_part(name), self._fallback_port)
            if any(instead.endpoints.values()) and not instead.partial:
                return instead
        if all(record.target == "." for record in answer.srv):
            return Finding(answer.ttl, dict.fromkeys(FAMILIES, ()), none=True)
        asked = self._targets.to_ask(answer)
        if not asked:
            found = self._found(name, answer, {})
            assert found is not None
            return found
        questions = tuple(Question(target, KINDS[family]) for target in asked for family in self._families)
        return (yield from in_parts(questions, leads_on, lambda replies: self._found(name, answer, replies)))

    def _found(self, name: str, answer: Answer, replies: Mapping[Question, Answer | Failure | None]) -> Finding | None:
        """What the records and the answers about their targets mean; None where that cannot be told yet."""
        records = usable(answer)
        addresses, unknown, ttl = self._targets.known(answer, records, replies)
        endpoints = endpoints_of(records, addresses, self._wanted)
        if not any(endpoints.values()):
            if None in replies.values():
                return None
            raise Trouble(self._leads_nowhere(name, answer, addresses))
        virtual = ""
        if {record.target for record in records} == {service_part(name)}:
            virtual = ", ".join(sorted({each.ip for family in endpoints.values() for each in family}))
        return self._screened(
            Finding(
                min(ttl, answer.ttl),
                endpoints,
                partial=answer.partial or unknown,
                virtual=virtual,
                warnings=oddities(name, answer, addresses),
            )
        )

    def _leads_nowhere(self, name: str, answer: Answer, addresses: Mapping[str, tuple[str, ...]]) -> Failure:
        others = sorted(ip for known in addresses.values() for ip in known)
        if others:
            reason = f"the SRV records of {name} lead to no {self._wanted[0]} address, only to {', '.join(others[:3])}"
            cure = f"give DiscoveryOptions(families=...) the other family, too: {', '.join(FAMILIES)}"
            return Failure("malformed", reason, cure)
        # CoreDNS gives port 0 for a Service of type ExternalName: it has no ports of its own.
        outside = next((record.target for record in answer.srv if not record.port and record.target != "."), "")
        cure = f"is it an ExternalName Service? Then give what it stands for, dns:///{outside.rstrip('.')}:PORT"
        reason = f"the SRV records of {name} lead to no address and port"
        return Failure("malformed", reason, cure if outside else LIES)

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
        questions = tuple(Question(name, KINDS[family]) for family in self._families)
        return (yield from in_parts(questions, decides, lambda replies: self._host_found(name, port, replies)))

    def _host_found(self, name: str, port: int, replies: Mapping[Question, Answer | Failure | None]) -> Finding | None:
        """What the answers for both families mean together; None where that cannot be told yet."""
        endpoints: dict[str, tuple[Endpoint, ...]] = {}
        warnings: list[tuple[str, str]] = []
        for family, reply in zip(self._families, replies.values(), strict=True):
            if isinstance(reply, Answer):
                endpoints[family] = tuple(Endpoint(ip, port) for ip in sorted(set(reply.addresses)))
        heard = [reply for reply in replies.values() if isinstance(reply, Answer)]
        found = [reply for reply in heard if reply.addresses]
        failures = [reply for reply in replies.values() if isinstance(reply, Failure)]
        if not found and None in replies.values():
            return Finding(heard[0].ttl, absent="NXDOMAIN") if heard and not heard[0].exists else None
        if failures and not found:
            raise Trouble(failures[0])  # one family is not there, and of the other nothing is known
        if not found:
            return Finding(min(reply.ttl for reply in heard), absent=self._absent(heard))
        partial = any(reply.partial for reply in found)
        if partial:
            lost = f"the answer for {name} does not fit into 64 KiB; nothing that is missing is taken as gone"
            warnings.append(("a part of the address records", lost))
        warnings += [("the other family", failure.reason) for failure in failures]
        ttl = min(reply.ttl for reply in found)
        return self._screened(Finding(ttl, endpoints, partial=partial, warnings=tuple(warnings)))

    def _absent(self, heard: Collection[Answer]) -> str:
        if not any(reply.exists for reply in heard):
            return "NXDOMAIN"
        if len(self._families) == len(FAMILIES):
            return "no such record"
        why = "families=" if len(self._wanted) < len(FAMILIES) else "options no-aaaa in resolv.conf"
        kinds = [KINDS[family] for family in FAMILIES]
        kinds.sort(key=lambda kind: kind != KINDS[self._families[0]])
        return f"no {kinds[0]} record, and {why} keeps kubelb from asking for {kinds[1]}"


def _as_it_is(finding: Finding) -> Finding:
    return finding
