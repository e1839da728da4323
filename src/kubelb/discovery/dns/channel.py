"""The look-ups of this process, shared by all that ask the same of the same nameservers.

    subscribe(key) -> Channel           the first starts the thread; a later one is told what is known, at once
    Channel.unsubscribe(subscriber)     the last one ends it

So ten load balancers of one name are one question. All is told on the channel's thread, also to those that come later,
so that nothing old is told after something new. What is kept for them is the last answer of each family, from when it
was heard; that a name is gone, or has nothing but addresses that are not dialled, is told to them together with what
it had, so that they hold it as the others do.
"""

import contextlib
import random
import threading
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from kubelb.clock import Clock
from kubelb.discovery.dns.finding import Finding
from kubelb.discovery.dns.hosts import HostsFile
from kubelb.discovery.dns.lookup import Lookup
from kubelb.discovery.dns.nameservers import Nameservers
from kubelb.discovery.dns.poller import Poller, Sink
from kubelb.discovery.dns.runner import Runner, abandon_all, place
from kubelb.discovery.dns.steps import Failure
from kubelb.model import Endpoint
from kubelb.records import record, replace
from kubelb.target import Target

__all__ = ["Channel", "Key", "Subscriber", "after_fork_in_child", "subscribe"]


class Subscriber(Sink, Protocol):
    """Receives what the look-ups find, on their thread."""

    def orphaned(self) -> None:
        """In a forked child: the thread is the parent's; there is none here until `start` is called again."""
        ...


@record(frozen=True, slots=True)
class Key:
    """What makes two look-ups the same."""

    target: Target
    cluster_domain: str
    fallback_port: int | None
    families: frozenset[str]
    allow_special_addresses: bool
    resolv_conf: str
    hosts: str
    clock: Clock


class Channel:
    """One thread of questions, for any number of subscribers."""

    def __init__(self, key: Key, subscriber: Subscriber, rng: random.Random) -> None:
        self.key = key
        self._subscribers: tuple[Subscriber, ...] = (subscriber,)
        self._newcomers: deque[Subscriber] = deque()
        self._known: Finding | None = None
        self._absent: Finding | None = None
        self._lie: Finding | None = None
        self._failure: Failure | None = None
        lookup = Lookup(
            key.target,
            cluster_domain=key.cluster_domain,
            fallback_port=key.fallback_port,
            families=key.families,
            allow_special_addresses=key.allow_special_addresses,
            clock=key.clock,
        )
        self._runner = Runner(
            f"kubelb-dns-{key.target.host}",
            Poller(lookup, self, clock=key.clock, rng=rng),
            Nameservers(key.target.nameserver, key.resolv_conf),
            HostsFile(key.hosts),
            failed=self.failed,
            rung=self._welcome,
            orphaned=self._orphaned,
        )

    # -- from any thread

    def begin(self) -> None:
        """Start the thread."""
        self._runner.begin()

    def add(self, subscriber: Subscriber) -> None:
        """Tell it too, from now on, and first what is known. The caller holds the registry's lock."""
        self._newcomers.append(subscriber)
        self._runner.ring()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Tell it no more; the last one ends the thread."""
        with _registry.lock:
            self._subscribers = tuple(each for each in self._subscribers if each is not subscriber)
            with contextlib.suppress(ValueError):
                self._newcomers.remove(subscriber)
            last = not self._subscribers and not self._newcomers
            if last and _registry.channels.get(self.key) is self:
                del _registry.channels[self.key]
        if last:
            self._runner.stop()

    def resync(self) -> None:
        """Ask again, now."""
        self._runner.resync()

    # -- what is found, told to each, on the thread

    def found(self, finding: Finding) -> bool:
        """Tell an answer; returns whether all subscribers have given the name up."""
        if finding.lies and finding.early:
            return False  # the rest of the answer is on its way
        heard = replace(finding, at=self.key.clock())
        self._failure = None
        self._lie = heard if finding.lies else None
        if not finding.absent and not finding.lies:
            self._known, self._absent = _joined(self._known, heard), None
        given_up = [self._tell_found(each, heard) for each in self._subscribers]
        if finding.absent:
            self._absent = heard
            if all(given_up):
                self._known = None
        return all(given_up)

    def failed(self, failure: Failure) -> None:
        """Tell that there is no answer for now."""
        self._failure = failure
        for subscriber in self._subscribers:
            with contextlib.suppress(Exception):  # its own mistake is its own loss
                subscriber.failed(failure)

    def _welcome(self) -> None:
        while self._newcomers:
            with _registry.lock:
                if not self._newcomers:
                    return
                subscriber = self._newcomers.popleft()
                self._subscribers += (subscriber,)
            for finding in (self._known, self._absent, self._lie):
                if finding is not None:
                    self._tell_found(subscriber, finding)
            if self._failure is not None:
                with contextlib.suppress(Exception):
                    subscriber.failed(self._failure)

    def _tell_found(self, subscriber: Subscriber, finding: Finding) -> bool:
        try:
            return subscriber.found(finding)
        except Exception as error:  # noqa: BLE001 - its own mistake is its own loss
            with contextlib.suppress(Exception):
                failure = Failure("internal", f"kubelb made a mistake: {place(error)}", "please report it")
                subscriber.failed(failure)
            return False

    def _orphaned(self) -> None:
        subscribers = (*self._subscribers, *self._newcomers)
        self._subscribers = ()
        self._newcomers.clear()
        for subscriber in subscribers:
            subscriber.orphaned()


def _joined(before: Finding | None, now: Finding) -> Finding:
    """What is known after `now`, as one that comes later is to be told."""
    tables: dict[str, tuple[Endpoint, ...]] = dict(before.endpoints) if before else {}
    for family, endpoints in now.endpoints.items():
        tables[family] = _added(tables.get(family, ()), endpoints) if now.partial else endpoints
    fresh: Mapping[str, tuple[Endpoint, ...]] = tables
    return replace(now, endpoints=fresh, early=False)


def _added(before: tuple[Endpoint, ...], more: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    return tuple({endpoint.address: endpoint for endpoint in (*before, *more)}.values())


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.channels: dict[Key, Channel] = {}


_registry = _Registry()


def subscribe(key: Key, subscriber: Subscriber, rng: random.Random) -> Channel:
    """Join the look-ups of this key, or begin them. Raises RuntimeError where there is no thread to be had."""
    with _registry.lock:
        channel = _registry.channels.get(key)
        if channel is None:
            channel = Channel(key, subscriber, rng)
            channel.begin()
            _registry.channels[key] = channel
        else:
            channel.add(subscriber)
    return channel


def after_fork_in_child() -> None:
    """Forget every channel: their threads are in the parent."""
    global _registry  # noqa: PLW0603
    _registry = _Registry()
    abandon_all()
