"""The requests of a list and watch, as paths.

What may stand beside what is the API server's choice, and easy to get wrong: a ``continue`` token refuses a version; a
version without ``resourceVersionMatch`` but with a ``limit`` means *exactly* that version, served by etcd; "0" ignores
the limit where there is a watch cache; "" is the newest there is.
"""

from urllib.parse import quote, urlencode

from kubelb.records import record

__all__ = ["Query"]

LONGEST = 3000
"""Bytes of names in a selector. The API server takes a megabyte, but proxies in between often no line above 8 KB, and
each comma takes three bytes on the wire."""
_LABEL = "kubernetes.io/service-name"


@record(frozen=True, slots=True)
class Query:
    """The slices of one Service, or of several in one namespace."""

    namespace: str
    services: tuple[str, ...]

    def list(self, version: str, limit: int, token: str = "") -> str:
        """A page of a list that is not older than `version`; a limit of 0 is none."""
        query = {}
        if limit and version in {"", "0"}:
            query["limit"] = str(limit)
        if token:
            query["continue"] = token
        elif version:
            query["resourceVersion"] = version
            if version != "0":
                query["resourceVersionMatch"] = "NotOlderThan"
        return self._path(query)

    def watch(self, version: str, timeout: int) -> str:
        """Everything after `version`, with bookmarks, for so many seconds."""
        return self._path(
            {
                "watch": "1",
                "allowWatchBookmarks": "true",
                "timeoutSeconds": str(timeout),
                "resourceVersion": version,
            }
        )

    def _path(self, query: dict[str, str]) -> str:
        query = {"labelSelector": self._selector()} | query
        return f"/apis/discovery.k8s.io/v1/namespaces/{quote(self.namespace)}/endpointslices?{urlencode(query)}"

    def _selector(self) -> str:
        """One by name, some as a set, and of very many all there are: what is not wanted of them is left out here."""
        if len(self.services) == 1:
            return f"{_LABEL}={self.services[0]}"
        names = ",".join(sorted(self.services))
        return f"{_LABEL} in ({names})" if len(names) <= LONGEST else _LABEL
