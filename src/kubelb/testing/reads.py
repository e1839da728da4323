"""Lists and the beginnings of watches: which versions of which objects an option means, and where history ends."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec

from kubelb.testing import refusals
from kubelb.testing.options import (
    Route,
    check_list,
    continue_token,
    flag,
    initial_events,
    number,
    read_continue,
    wanted,
)
from kubelb.testing.store import Expired, Key, Store, Stored
from kubelb.testing.watch import End, Line, Watch, bookmark_line, error_line, event_line


def read_list(store: Store, route: Route, query: Mapping[str, str]) -> bytes:
    """The body of a list. Raises `Refused`."""
    check_list(query)
    wish = wanted(route, query)
    limit = number(query, "limit")
    start: Key | None = None
    if token := query.get("continue", ""):
        version, items, start = _next_page(store, token, query)
    else:
        version, items = _state(store, query, limit)
        if query.get("resourceVersion") == "0":
            limit = 0  # served from the watch cache, which does not page
    items = [item for item in items if wish.matches(item) and (start is None or item.key > start)]
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if 0 < limit < len(items):
        metadata["continue"] = continue_token(version, items[limit - 1].key)
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(items) - limit
        items = items[:limit]
    return (
        b'{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":'
        + msgspec.json.encode(metadata)
        + b',"items":['
        + b",".join([item.raw for item in items])
        + b"]}\n"
    )


def _next_page(store: Store, token: str, query: Mapping[str, str]) -> tuple[int, list[Stored], Key]:
    if query.get("resourceVersion", "") not in ("", "0"):
        raise refusals.bad_request("specifying resource version is not allowed when using continue")
    version, start = read_continue(token)
    if version <= 0:
        return *_present(store), start
    try:
        return version, store.at(version), start
    except Expired:
        raise refusals.expired_continue(continue_token(-1, start)) from None


def _present(store: Store) -> tuple[int, list[Stored]]:
    with store.lock:
        return store.version, store.at(store.version)


def _state(store: Store, query: Mapping[str, str], limit: int) -> tuple[int, list[Stored]]:
    """The state that a first page asks for."""
    match, version = query.get("resourceVersionMatch", ""), number(query, "resourceVersion")
    with store.lock:
        if version > store.version:
            raise refusals.too_large(version, store.version)
        # A version with a limit and without a match means exactly that version: an old rule that is still kept.
        exact = match == "Exact" or (limit > 0 and not match)
        if version == 0 or not exact:
            return _present(store)
        try:
            return version, store.at(version)
        except Expired:
            raise refusals.expired_list(version) from None


def open_watch(
    store: Store, route: Route, query: Mapping[str, str], *, watch_list: bool, bookmark_interval: float
) -> tuple[Watch, object]:
    """A watch whose first events are queued, and its subscription. Raises `Refused`."""
    wish = wanted(route, query)
    initial = initial_events(query, served=watch_list)
    version = number(query, "resourceVersion")
    bookmarks = flag(query, "allowWatchBookmarks")
    # Without a wish the real one draws between 30 and 60 minutes.
    timeout = number(query, "timeoutSeconds") or random.uniform(1800, 3600)
    with store.lock:
        present = store.version
        lines: list[bytes | None] = []
        expired = False
        if initial or (version == 0 and initial is None):
            if initial and version > present:
                raise refusals.too_large(version, present)
            lines += [event_line("ADDED", item.raw) for item in store.at(present) if wish.matches(item)]
            if initial and bookmarks:
                lines.append(bookmark_line(present, initial_events_end=True))
        elif version > 0:
            try:
                lines += [wish.event(change) for change in store.since(version)]
            except Expired:
                lines, expired = [error_line(refusals.expired_watch(version, store.oldest))], True
        # From the future: silence until the cluster has come that far.
        after = max(version, present)
        watch = Watch(wish, after=after, timeout=timeout, bookmarks=bookmark_interval if bookmarks else None)
        if first := b"".join([line for line in lines if line is not None]):
            watch.put(Line(first))
        if expired:
            watch.put(End())
        return watch, store.subscribe(watch.put)
