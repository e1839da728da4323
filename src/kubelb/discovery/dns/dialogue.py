"""One question's way through the nameservers: which one is asked, how, and when the next one is.

    each nameserver in turn, over UDP --answer--> done     --cut off--> TCP to the same one --answer--> done
     |                                --no EDNS--> the same one without it
     +--- silence, refusal, SERVFAIL ---> the next one
    a second round: those that were silent, over UDP without EDNS and over TCP at the same time

What was asked before is still listened to: an answer that comes late is an answer. The second round asks in two ways at
once, because silence has two common causes beside a lost datagram: something on the way that drops EDNS, or UDP at all.
What a nameserver turned out to want is remembered (`manners.py`), so that it costs no wait the next time.

A nameserver that said no (SERVFAIL, REFUSED) is not asked a second time: the poller comes back by its own clock.
"""

from collections import deque

from kubelb.discovery.dns.exchange import Exchange, unreachable
from kubelb.discovery.dns.manners import Manners, Way
from kubelb.discovery.dns.message import Truncated, answers, mangled, query, read
from kubelb.discovery.dns.steps import LIES, Answer, Config, Failure, Question
from kubelb.model import Address

__all__ = ["TCP_TIMEOUT", "TIMEOUTS", "Dialogue"]

TIMEOUTS = 1.0, 2.0
"""Seconds until the next nameserver is asked, in the first round and in later ones."""
ROUNDS = 2
TCP_TIMEOUT = 5.0
"""Seconds for a whole exchange over TCP where UDP cut an answer off: 64 KiB at most."""


class Dialogue:
    """One question. `open` are the exchanges to wait for, `until` how long at most.

    `result` is None until the end; `server` is then the one that answered, None where none did.
    """

    def __init__(self, question: Question, servers: tuple[Address, ...], config: Config, manners: Manners) -> None:
        self.question = question
        self.open: list[Exchange] = []
        self.until = 0.0
        self.result: Answer | Failure | None = None
        self.server: Address | None = None
        self._tcp_only = config.use_vc
        self._manners = manners
        self._tries = deque(
            (number, server, seconds) for number, seconds in enumerate(_timeouts(config)) for server in servers
        )
        self._number = 0
        self._began: float | None = None
        self._failures: dict[tuple[Address, str], Failure] = {}

    def begin(self, now: float) -> None:
        """Ask the first nameserver, or the next."""
        if self._began is None:
            self._began = now
        while self._tries and self.result is None:
            again, server, seconds = self._tries.popleft()
            self._number += 1
            self.until = now + seconds
            ways: tuple[Way, ...] = (Way.TCP,) if self._tcp_only else (self._manners.way(server, now),)
            if again and not self._tcp_only:
                ways = Way.PLAIN, Way.TCP
            asked = [self._ask(server, way, waits=seconds) for way in ways]
            if any(asked):
                return
        if self.result is None and not self.open:
            self.result = self._sum_up()

    def ready(self, exchange: Exchange, now: float) -> None:
        """One of the open exchanges has something to say."""
        got = exchange.ready()
        if isinstance(got, Failure):
            self._fail(exchange, got, now, again=not exchange.instead)
        elif got is not None:
            self._take(exchange, got, now)

    def late(self, now: float) -> None:
        """The time of the newest try is over."""
        for exchange in [each for each in self.open if each.number == self._number]:
            how = exchange.way.how
            cure = f"is the nameserver up, and may this process reach it over {how} (NetworkPolicy, firewall)?"
            failure = Failure("silent", f"no answer within {exchange.waits:g} s over {how}", cure)
            self._note(exchange, failure, again=exchange.way is not Way.TCP or not exchange.instead)
            self._manners.silent(exchange.server, now)
        if not self._tries:
            self.close()
        self.begin(now)

    def close(self) -> None:
        """Let go of every socket."""
        for exchange in self.open:
            exchange.close()
        self.open.clear()

    def _ask(self, server: Address, way: Way, *, waits: float, instead: bool = False) -> bool:
        asked = query(self.question, edns=way is Way.EDNS)
        try:
            exchange = Exchange(server, way, asked, number=self._number, waits=waits, instead=instead)
        except OSError as error:
            self._failures[server, way.how] = unreachable(error, way)
            return False
        self.open.append(exchange)
        return True

    def _take(self, exchange: Exchange, wire: bytes, now: float) -> None:
        over_tcp, edns = exchange.way is Way.TCP, exchange.way is Way.EDNS
        message = answers(exchange.query, wire, tcp=over_tcp)
        if message is None:
            if edns and mangled(exchange.query, wire):
                self._instead(exchange, Way.PLAIN, exchange.waits, now)
            elif over_tcp:
                failure = Failure("malformed", "what came over TCP is no answer to the question", LIES)
                self._fail(exchange, failure, now, again=False)
            return  # over UDP any host may have sent it: the real answer may still come
        self._manners.heard(exchange.server)
        if isinstance(message, Truncated):
            self._learn(exchange, now)
            self._instead(exchange, Way.TCP, TCP_TIMEOUT, now)
            return
        found = read(message, self.question)
        if isinstance(found, Answer):
            self._learn(exchange, now)
            self.result, self.server = found, exchange.server
            self.close()
        elif isinstance(found, Failure):
            self._fail(exchange, found, now, again=False)
        elif edns and (found.plain or message.edns < 0):
            # It does not know EDNS, or else an OPT record would stand in its refusal, too (RFC 6891, 7).
            self._instead(exchange, Way.PLAIN, exchange.waits, now)
        else:
            cure = "does that nameserver serve this name, and is it well? Its own log tells"
            self._fail(exchange, Failure("server-error", found.rcode, cure), now, again=False)

    def _instead(self, exchange: Exchange, way: Way, seconds: float, now: float) -> None:
        """It was heard, and has to be asked in another way."""
        self._drop(exchange)
        if exchange.number != self._number:  # what is asked meanwhile need not be waited for
            self._number += 1
        if self._ask(exchange.server, way, waits=seconds, instead=True):
            self.until = now + seconds
        elif not self._current():
            self.begin(now)

    def _learn(self, exchange: Exchange, now: float) -> None:
        assert self._began is not None
        server, way = exchange.server, exchange.way
        if way is Way.EDNS:
            self._manners.fine(server)
        elif exchange.instead and way is Way.PLAIN:
            self._manners.learn(server, way, now)
        elif not exchange.instead and way is not self._manners.way(server, now) and not self._tcp_only:
            self._manners.suspect(server, way, self._began, now)

    def _fail(self, exchange: Exchange, failure: Failure, now: float, *, again: bool) -> None:
        """This exchange brings no answer; whether its nameserver may have one in the next round, `again` says."""
        self._note(exchange, failure, again=again)
        self._drop(exchange)
        if not again:
            for other in [each for each in self.open if each.server == exchange.server]:
                self._drop(other)
        if not self._current():
            self.begin(now)

    def _current(self) -> bool:
        """Whether anything is open of the newest try."""
        return any(each.number == self._number for each in self.open)

    def _drop(self, exchange: Exchange) -> None:
        exchange.close()
        self.open.remove(exchange)

    def _note(self, exchange: Exchange, failure: Failure, *, again: bool) -> None:
        self._failures[exchange.server, exchange.way.how] = failure
        if not again:
            self._tries = deque(each for each in self._tries if each[1] != exchange.server)

    def _sum_up(self) -> Failure:
        """One failure for all nameservers, of the last one's kind if they differ."""
        said: dict[Address, list[Failure]] = {}
        for (server, _), failure in self._failures.items():
            said.setdefault(server, []).append(failure)
        if not said:
            reason = f"no nameserver has an answer for {self.question} (no nameserver is known)"
            return Failure("unreachable", reason)
        last = next(reversed(said.values()))[0]
        each = (f"{_name(server)}: {', '.join(one.reason for one in failures)}" for server, failures in said.items())
        return last._replace(reason=f"no nameserver has an answer for {self.question} ({'; '.join(each)})")


def _timeouts(config: Config) -> tuple[float, ...]:
    """Seconds for each round, as resolv.conf wishes, or else ours."""
    rounds = config.attempts or ROUNDS
    if config.timeout:
        return (config.timeout,) * rounds
    return tuple(TIMEOUTS[min(number, len(TIMEOUTS) - 1)] for number in range(rounds))


def _name(server: Address) -> str:
    ip, port = server
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
