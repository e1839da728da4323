"""What ``resolv.conf`` says, and ``$RES_OPTIONS`` after it: text in, a Config out.

    nameserver IP        one to ask, on port 53; the next line is the next one
    search A B, domain A  where names that are not complete are looked for; the last such line counts, and where there
                         is none the machine's own domain does
    options ...          with the bounds of the C library (resolv.conf(5)):

    timeout:N     seconds until the next nameserver is asked (1 in the first round and 2 in later ones where not given)
    attempts:N    rounds through all nameservers (2)
    rotate        each question begins with another nameserver
    use-vc        TCP alone
    ndots:N       dots that a name must have to be asked for as it is, first
    no-aaaa       nothing is asked about IPv6

`edns0` and `single-request-reopen` are how kubelb asks anyhow; what is not named here changes nothing. A word that
makes no sense costs itself, as with the C library.

dnspython can read the file, too; but to have it do so loads its resolver, and with that an HTTP client and a second of
imports, in the middle of a first request.
"""

import os
import socket
from collections.abc import Iterable

import dns.exception
import dns.inet
import dns.name

from kubelb.discovery.dns.steps import Config

__all__ = ["parse", "suffixes"]

_MOST = {"timeout": 30, "attempts": 5, "ndots": 15}


def parse(text: str) -> Config:
    """Return what a file says; its `servers` may be none."""
    servers: list[str] = []
    search: list[str] | None = None
    options: list[str] = []
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver":
            servers += [each for each in rest[:1] if dns.inet.is_address(each)]
        elif word == "search" and rest:
            search = rest
        elif word == "domain" and rest:
            search = rest[:1]
        elif word == "options":
            options += rest
    numbers, words = _options([*options, *os.environ.get("RES_OPTIONS", "").split()])
    return Config(
        tuple((server, 53) for server in servers),
        suffixes(_own_domain() if search is None else search),
        ndots=numbers.get("ndots", 1),
        timeout=max(1.0, numbers["timeout"]) if "timeout" in numbers else None,
        attempts=max(1, numbers["attempts"]) if "attempts" in numbers else None,
        rotate="rotate" in words,
        use_vc="use-vc" in words,
        no_aaaa="no-aaaa" in words,
    )


def suffixes(domains: Iterable[str]) -> tuple[str, ...]:
    """Return those that are names, complete and in lower case; the root is none to look in."""
    found = []
    for domain in domains:
        try:
            name = dns.name.from_text(domain)
        except (dns.exception.DNSException, UnicodeError):
            continue
        if len(name) > 1:
            found.append(str(name).lower())
    return tuple(found)


def _own_domain() -> list[str]:
    return [domain] if (domain := socket.gethostname().partition(".")[2]) else []


def _options(given: Iterable[str]) -> tuple[dict[str, int], set[str]]:
    """Options with a number, and those that are words; the last of each counts."""
    numbers: dict[str, int] = {}
    words: set[str] = set()
    for option in given:
        name, colon, value = option.partition(":")
        if not colon:
            words.add(name)
        elif name in _MOST and value.isascii() and value.isdigit():
            numbers[name] = min(int(value[:9]), _MOST[name])
    return numbers, words
