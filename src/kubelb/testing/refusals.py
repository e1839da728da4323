"""Answers of the API that are a Status, each with the code, reason, message and causes of the real API server."""

from __future__ import annotations

from collections.abc import Mapping

from kubelb.testing import objects


class Refused(Exception):
    """An answer that is a Status."""

    def __init__(self, body: objects.Object, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body["message"])
        self.body = body
        self.headers = dict(headers or {})


def unauthorized() -> Refused:
    """A token that is not known."""
    return Refused(objects.status(401, "Unauthorized"))


def forbidden(user: str, verb: str, resource: str, group: str, namespace: str | None, name: str | None) -> Refused:
    """A user without the permission; a list says so word for word as RBAC does."""
    where = "at the cluster scope" if namespace is None else f'in the namespace "{namespace}"'
    what = f"{_plural(resource, group)} {_quoted(name)}is forbidden"
    message = f'{what}: User "{user}" cannot {verb} resource "{resource}" in API group "{group}" {where}'
    details = {"name": name or "", "group": group, "kind": resource}
    return Refused(objects.status(403, message, details={key: value for key, value in details.items() if value}))


def no_such_resource() -> Refused:
    """A path that means nothing."""
    return Refused(objects.status(404, "the server could not find the requested resource", details={}))


def no_such_object(resource: str, group: str, name: str) -> Refused:
    """A name that nothing has."""
    details = {"name": name, "group": group, "kind": resource}
    message = f"{_plural(resource, group)} {_quoted(name)}not found"
    return Refused(objects.status(404, message, details={key: value for key, value in details.items() if value}))


def no_such_method() -> Refused:
    """Anything but reading."""
    return Refused(objects.status(405, "the server does not allow this method on the requested resource", details={}))


def bad_request(message: str) -> Refused:
    """Something that cannot be parsed."""
    return Refused(objects.status(400, message))


def invalid_option(field: str, message: str, *, reason: str = "FieldValueForbidden") -> Refused:
    """A combination of list options that the validation of ListOptions refuses."""
    text = f"Forbidden: {message}" if reason == "FieldValueForbidden" else message
    details = {
        "group": "meta.k8s.io",
        "kind": "ListOptions",
        "causes": [{"reason": reason, "message": text, "field": field}],
    }
    return Refused(objects.status(422, f'ListOptions.meta.k8s.io "" is invalid: {field}: {text}', details=details))


def too_large(version: int, current: int) -> Refused:
    """A resourceVersion from the future: another server of the cluster may know it already."""
    body = objects.status(
        504,
        f"Timeout: Too large resource version: {version}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )
    return Refused(body, headers={"retry-after": "1"})


def expired_list(version: int) -> Refused:
    """An exact list of a moment that has been forgotten."""
    return Refused(objects.status(410, f"The resourceVersion for the provided list is too old. ({version})"))


def expired_continue(token: str) -> Refused:
    """The next page of a moment that has been forgotten; `token` goes on in the present."""
    message = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    return Refused(objects.status(410, message, metadata={"continue": token}))


def expired_watch(version: int, oldest: int) -> objects.Object:
    """The Status inside of the ERROR event: a watch from a forgotten version is accepted first."""
    return objects.status(410, f"too old resource version: {version} ({oldest})")


def _plural(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def _quoted(name: str | None) -> str:
    return f'"{name}" ' if name else ""
