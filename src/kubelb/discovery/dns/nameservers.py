"""Whom to ask: the nameserver of the target, or those of ``/etc/resolv.conf``, read again when it has changed.

dnspython reads the file (on Windows the registry), and no more than that: its resolver cannot be interrupted. Where it
refuses the whole for one word, that word is left out, as the C library does. The options are read here, those of
``$RES_OPTIONS`` after those of the file, with the bounds of the C library (resolv.conf(5)):

    timeout:N     seconds until the next nameserver is asked (1 in the first round and 2 in later ones where not given)
    attempts:N    rounds through all nameservers (2)
    rotate        each question begins with another nameserver
    use-vc        TCP alone
    ndots:N       dots that a name must have to be asked for as it is, first
    no-aaaa       nothing is asked about IPv6

`edns0` and `single-request-reopen` are how kubelb asks anyhow; what is not named here changes nothing.
"""

import contextlib
import io
import os
from pathlib import Path

from kubelb.discovery.dns.steps import Config, Failure
from kubelb.model import Address

__all__ = ["RESOLV_CONF", "Nameservers"]

RESOLV_CONF = "/etc/resolv.conf"
_MOST = {"timeout": 30, "attempts": 5, "ndots": 15}


class Nameservers:
    """`given` takes the place of the file's nameservers; its search list and options count all the same."""

    def __init__(self, given: Address | None = None, path: str = RESOLV_CONF) -> None:
        self._given = given
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._config: Config | None = None

    def config(self) -> Config | Failure:
        """What holds now; the last one that could be read while the file cannot be."""
        stamp = self._look()
        if self._config is not None and stamp in (None, self._stamp):
            return self._config
        found = self._read()
        if isinstance(found, Config):
            self._config, self._stamp = found, stamp
            return found
        if self._given is not None:
            return Config((self._given,))
        return self._config or found

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - one call a refresh, and no path is wanted
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read(self) -> Config | Failure:
        import dns.exception
        import dns.resolver

        try:
            try:
                resolver = dns.resolver.Resolver(self._path)
            except dns.resolver.NoResolverConfiguration:
                raise
            except (ValueError, dns.exception.DNSException):
                resolver = dns.resolver.Resolver(io.StringIO(_sane(self._path)))
        except dns.resolver.NoResolverConfiguration:
            reason = f"no nameserver is known: {self._path} cannot be read, or names none"
            return Failure("unreachable", reason, "name one in the target: dns+srv://NAMESERVER/...")
        except Exception as error:  # noqa: BLE001 - somebody is writing the file, or it holds something else
            return Failure("malformed", f"{self._path} cannot be understood ({type(error).__name__})", "mend the file")
        servers = (self._given,) if self._given else tuple((str(each), resolver.port) for each in resolver.nameservers)
        # dnspython puts the machine's own domain in front where the file has no search list; the root is no domain.
        search = tuple(str(name).lower() for name in (resolver.search or [resolver.domain]) if len(name) > 1)
        numbers, words = _options(self._path)
        return Config(
            servers,
            search,
            ndots=numbers.get("ndots", 1),
            timeout=max(1.0, numbers["timeout"]) if "timeout" in numbers else None,
            attempts=max(1, numbers["attempts"]) if "attempts" in numbers else None,
            rotate="rotate" in words,
            use_vc="use-vc" in words,
            no_aaaa="no-aaaa" in words,
        )


def _options(path: str) -> tuple[dict[str, int], set[str]]:
    """Options with a number, and those that are words; the last of each counts."""
    given: list[str] = []
    with contextlib.suppress(OSError):  # Windows has no such file
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            if line.split()[:1] == ["options"]:
                given += line.split()[1:]
    given += os.environ.get("RES_OPTIONS", "").split()
    numbers: dict[str, int] = {}
    words: set[str] = set()
    for option in given:
        name, colon, value = option.partition(":")
        if not colon:
            words.add(name)
        elif name in _MOST and value.isascii() and value.isdigit():
            numbers[name] = min(int(value[:9]), _MOST[name])
    return numbers, words


def _sane(path: str) -> str:
    """The file without nameservers that are no addresses and domains that are no names."""
    import dns.inet

    lines = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver":
            rest = [each for each in rest[:1] if dns.inet.is_address(each)]
        elif word == "options":
            rest = []
        elif word in {"search", "domain"}:
            rest = [each for each in rest if _is_name(each)]
        lines.append(" ".join((word, *rest)))
    return "\n".join(lines)


def _is_name(text: str) -> bool:
    import dns.exception
    import dns.name

    try:
        dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError):
        return False
    return True
