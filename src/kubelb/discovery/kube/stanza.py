"""One cluster, user or context of a kubeconfig, with the place that it is from.

What it holds may be secret, so nothing but its kind, its name and its file is ever told. A value of another kind than
kubectl takes there (a number where a text belongs) is refused by the name of its key.
"""

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubelb.discovery.kube.access import CredentialsError
from kubelb.masking import is_content
from kubelb.printable import printable

__all__ = ["Stanza"]


@dataclass(frozen=True)
class Stanza:
    """`str()` of it is what messages call it: ``user 'ada' of /home/ada/.kube/config``."""

    kind: str
    name: str
    value: dict[str, Any] = field(repr=False)
    file: str

    def __str__(self) -> str:
        if self.kind == "kubeconfig":
            return self.file
        return f"{self.kind} {printable(self.name, 100)!r} of {self.file}"

    def text(self, key: str) -> str:
        """A text, "" where there is none."""
        found = self.value.get(key)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise self.wrong(key, found, "a text, in quotes if it looks like a number")
        return found

    def flag(self, key: str) -> bool:
        """True or false, false where nothing is said."""
        found = self.value.get(key)
        if not isinstance(found, bool | None):
            raise self.wrong(key, found, "true or false")
        return bool(found)

    def texts(self, key: str) -> list[str]:
        """A list of texts, empty where there is none."""
        return self._texts(key, self.value.get(key))

    def lists(self, key: str) -> dict[str, list[str]]:
        """A mapping of names to lists of texts."""
        found = self.value.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            raise self.wrong(key, found, "names with a list of texts each")
        return {name: self._texts(key, values) for name, values in found.items()}

    def inner(self, key: str) -> "Stanza | None":
        """A mapping inside, None where there is none."""
        found = self.value.get(key)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise self.wrong(key, found, "a mapping")
        return Stanza(f"{key} of {self.kind}", self.name, found, self.file)

    def path(self, key: str) -> str | None:
        """The path of a file; a relative one is relative to the file that it stands in."""
        found = self.text(key)
        if not found:
            return None
        if is_content(found):
            raise CredentialsError(
                f"{key} in {self} holds what stands in a file, where the file's path should be",
                f"give the path, or the content in base64 as {key}-data" if key != "tokenFile" else "give it as token",
            )
        return str(Path(self.file).absolute().parent / found)

    def data(self, key: str) -> bytes | None:
        """Bytes that stand there in base64."""
        found = self.text(key)
        if not found:
            return None
        try:
            return base64.b64decode("".join(found.split()), validate=True)
        except (binascii.Error, ValueError):
            raise CredentialsError(f"{key} in {self} is no base64", f"base64 of the PEM file, as {key}") from None

    def either(self, key: str) -> tuple[str | None, bytes | None]:
        """A file or the bytes that could stand in it. Both are refused, as kubectl does: which is meant?"""
        path, data = self.path(key), self.data(f"{key}-data")
        if path and data:
            raise CredentialsError(f"{key} and {key}-data both stand in {self}", "take one of them out")
        return path, data

    def wrong(self, key: str, found: object, wanted: str) -> CredentialsError:
        """The error for a value that is of another kind; of the value itself nothing but that is told."""
        return CredentialsError(f"{key} in {self} is {_kind(found)}", f"it should be {wanted}")

    def _texts(self, key: str, found: object) -> list[str]:
        if found is None:
            return []
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise self.wrong(key, found, "a list of texts")
        return list(found)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "a text" if isinstance(value, str) else "of another kind"
