"""What a request for slices asks: its path and its list options, parsed and checked as the API server checks them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from kubelb.testing.labels import SelectorError, parse_fields, parse_labels
from kubelb.testing.refusals import bad_request, invalid_option
from kubelb.testing.store import Key
from kubelb.testing.watch import Wanted

GROUP = "discovery.k8s.io"
_METHODS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path means."""

    resource: str
    group: str
    namespace: str | None
    name: str | None


def route_of(path: str) -> Route | None:
    """None for a path that means nothing here."""
    match path.strip("/").split("/"):
        case ["apis", "discovery.k8s.io", "v1", "endpointslices"]:
            return Route("endpointslices", GROUP, None, None)
        case ["apis", "discovery.k8s.io", "v1", "namespaces", namespace, "endpointslices", *rest] if len(rest) < 2:
            return Route("endpointslices", GROUP, namespace, rest[0] if rest else None)
        case ["api", "v1", "namespaces", namespace, "services", name]:
            return Route("services", "", namespace, name)
    return None


def verb_of(method: str, route: Route | None, query: Mapping[str, str]) -> str:
    """Kubernetes' word for what is asked."""
    if method != "GET":
        return _METHODS.get(method, method.lower())
    if route is None or route.name is not None:
        return "get"
    return "watch" if flag(query, "watch") else "list"


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean option: as the API server reads them, everything but false and 0 is true."""
    return name in query and query[name].lower() not in ("false", "0")


def number(query: Mapping[str, str], name: str) -> int:
    """A number, 0 where it is absent or empty. Raises `Refused`."""
    text = query.get(name, "")
    if not text:
        return 0
    if not text.isdigit():
        message = f'{name}: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise bad_request(message)
    return int(text)


def wanted(route: Route, query: Mapping[str, str]) -> Wanted:
    """Namespace and selectors. Raises `Refused`."""
    try:
        return Wanted(
            route.namespace,
            parse_labels(query.get("labelSelector", "")),
            parse_fields(query.get("fieldSelector", "")),
        )
    except SelectorError as error:
        raise bad_request(str(error)) from None


def check_list(query: Mapping[str, str]) -> None:
    """Raise `Refused` for options that a list may not have together."""
    match, version = query.get("resourceVersionMatch", ""), query.get("resourceVersion", "")
    if "sendInitialEvents" in query:
        raise invalid_option("sendInitialEvents", "sendInitialEvents is forbidden for list")
    if not match:
        return
    if query.get("continue"):
        raise invalid_option("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
    if not version:
        message = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise invalid_option("resourceVersionMatch", message)
    if match not in ("Exact", "NotOlderThan"):
        message = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
        raise invalid_option("resourceVersionMatch", message, reason="FieldValueNotSupported")
    if match == "Exact" and version == "0":
        message = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise invalid_option("resourceVersionMatch", message)


def initial_events(query: Mapping[str, str], *, served: bool) -> bool | None:
    """What a watch says in `sendInitialEvents`, None where it says nothing. Raises `Refused`."""
    match = query.get("resourceVersionMatch", "")
    if "sendInitialEvents" not in query:
        if match:
            message = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise invalid_option("resourceVersionMatch", message)
        return None
    if match != "NotOlderThan":
        message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise invalid_option("resourceVersionMatch", message)
    if not served:
        message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        raise invalid_option("sendInitialEvents", message)
    return flag(query, "sendInitialEvents")


def continue_token(version: int, last: Key) -> str:
    """Where the next page begins: after `last`, as things were at `version`; -1 is the present."""
    token = {"v": "meta.k8s.io/v1", "rv": version, "start": f"{last[0]}/{last[1]}\u0000"}
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def read_continue(token: str) -> tuple[int, Key]:
    """The inverse of `continue_token`. Raises `Refused`."""
    try:
        fields = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = fields["start"].rstrip("\u0000").partition("/")
        return int(fields["rv"]), (namespace, name)
    except (binascii.Error, msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise bad_request(f"continue key is not valid: {error}") from None
