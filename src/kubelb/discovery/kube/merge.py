"""Several kubeconfig files, read as one: as kubectl does with the list in $KUBECONFIG (client-go, clientcmd/loader.go).

- Of each cluster, user and context the first definition counts, whole: nothing is mixed from two files.
- The first ``current-context`` that is not empty counts. An empty value never hides another.
- A file that is not there is left out, an empty one says nothing, one that is broken is an error.
- A relative path is relative to the file that it stands in (`Stanza.path`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kubelb.discovery.kube.access import CredentialsError
from kubelb.discovery.kube.stanza import Stanza
from kubelb.printable import printable, shown

__all__ = ["Merged", "MissingPackageError", "merge"]

KINDS = {"clusters": "cluster", "users": "user", "contexts": "context"}


class MissingPackageError(CredentialsError, ImportError):
    """The extra is not installed."""

    missing_extra = True

    def __init__(self, what: str = "a kubeconfig can only be read with the 'kubernetes' extra") -> None:
        super().__init__(f"{what}, which is not installed", "pip install 'kubelb[kubernetes]'")

    def __str__(self) -> str:
        return f"{self.reason}: {self.cure}"


@dataclass(frozen=True)
class Merged:
    """What all files say together."""

    current: str
    stanzas: dict[str, dict[str, Stanza]] = field(repr=False)
    files: tuple[str, ...]
    """Those that say anything."""

    def context(self, wanted: str | None) -> Stanza:
        """The context that is asked for, by default the current one; raises `CredentialsError`."""
        there = self.stanzas["contexts"]
        names = ", ".join(printable(name, 100) for name in sorted(there)) or "none"
        name = wanted or self.current
        if not name:
            raise CredentialsError(
                f"no current-context is set, and none was asked for; the contexts there are: {names}",
                "kubectl config use-context NAME, or give DiscoveryOptions(context=...)",
            )
        if name not in there and wanted:
            raise CredentialsError(
                f"there is no context {shown(name)}; its contexts are: {names}",
                "give one of these as DiscoveryOptions(context=...)",
            )
        if name not in there:
            raise CredentialsError(
                f"the current-context is {shown(name)}, and none has that name; the contexts there are: {names}",
                "kubectl config use-context NAME, or give DiscoveryOptions(context=...)",
            )
        return there[name]

    def named(self, kind: str, name: str) -> Stanza | None:
        """A cluster or user by its name."""
        return self.stanzas[kind].get(name)


def merge(files: Iterable[str]) -> Merged:
    """Read them in this order. Raises `CredentialsError`, and `yaml.YAMLError`, `OSError`, `TypeError` for one that is
    no kubeconfig; the texts of those may hold what stands in it."""
    current, stanzas, read = "", {kind: dict[str, Stanza]() for kind in KINDS}, []
    for file in files:
        config = _load(file)
        if not config:
            continue
        read.append(file)
        whole = Stanza("kubeconfig", file, config, file)
        for key, wanted in (("kind", "Config"), ("apiVersion", "v1")):
            if whole.text(key) not in {"", wanted}:
                raise CredentialsError(
                    f"{file} is no kubeconfig: its {key} is {shown(whole.text(key))}", f"a kubeconfig's is {wanted}"
                )
        current = current or whole.text("current-context")
        for kind, word in KINDS.items():
            for name, stanza in _named(whole, kind, word).items():
                stanzas[kind].setdefault(name, stanza)
    return Merged(current, stanzas, tuple(read))


def _load(file: str) -> dict[str, Any]:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise MissingPackageError from None
    if not _installed("kubernetes"):
        raise MissingPackageError
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    config = yaml.load(Path(file).read_bytes(), loader)  # noqa: S506 - both loaders are safe ones
    if config is not None and not isinstance(config, dict):
        raise TypeError("no mapping")
    return config or {}


def _installed(package: str) -> bool:
    """Whether it is there, not imported. PyYAML is in many places by chance; without the rest of the extra a kubeconfig
    would be read until the day on which its user logs in by OIDC."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _named(whole: Stanza, kind: str, word: str) -> dict[str, Stanza]:
    found: dict[str, Stanza] = {}
    entries = whole.value.get(kind) or []
    if not isinstance(entries, list):
        raise whole.wrong(kind, entries, "a list")
    for entry in entries:
        if not isinstance(entry, dict | None):
            raise whole.wrong(kind, entry, f"a list of mappings, each with name and {word}")
        each = Stanza(word, "", entry or {}, whole.file)
        name, value = each.text("name"), (entry or {}).get(word) or {}
        if not isinstance(value, dict):
            raise Stanza(word, name, {}, whole.file).wrong(word, value, "a mapping")
        if name in found:
            raise CredentialsError(f"{whole.file} has two {kind} of the name {shown(name)}", "take one of them out")
        found[name] = Stanza(word, name, value, whole.file)
    return found
