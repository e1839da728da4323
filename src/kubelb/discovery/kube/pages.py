"""One complete list, in pages, or the Trouble that kept it from being complete: never a part.

Items are decoded one by one. One that makes no sense costs itself, and between two batches the driver may stop. What is
known of such a slice stays as it was: that it cannot be read does not mean that it is gone. Where none makes sense
there was no list.

A list has an end, whatever the server says: so many pages, so many bytes, so many seconds, and no page twice.
"""

from collections.abc import Generator

import msgspec

from kubelb.clock import Clock
from kubelb.discovery.kube.diagnose import PROXY, Code, Trouble, failed, refused
from kubelb.discovery.kube.query import Query
from kubelb.discovery.kube.sink import Listener
from kubelb.discovery.kube.steps import PAUSE, Answer, Failure, Get, Reply, Step
from kubelb.discovery.kube.stranger import between
from kubelb.discovery.kube.stranger import page as page_of
from kubelb.discovery.kube.wire import Slice, SliceList, decode_list, decode_named, decode_slice
from kubelb.printable import shown
from kubelb.records import record

__all__ = ["Listed", "fetch"]

BATCH = 8
"""Slices between two moments at which the driver may stop: 800 endpoints, about 1 ms."""


PAGES = 2000
"""A million slices, a hundred million endpoints."""
BYTES = 1 << 28
"""Of all pages: 500 000 endpoints take 180 MB."""
SECONDS = 300.0
"""From the first question to the last page, which has no more than is left of it (`Get.spent`). The API server itself
ends a list after 60."""
UNKNOWN = ""
"""Among the names of slices that could not be read: one whose name could not be read either."""


@record(frozen=True, slots=True)
class Listed:
    """What there was, and when; `unread` are the names of slices that make no sense."""

    version: str
    slices: list[Slice]
    unread: frozenset[str] = frozenset()


def fetch(
    query: Query, version: str, limit: int, *, fresh: bool, sink: Listener, clock: Clock
) -> Generator[Step, Answer, Listed]:
    """Ask page by page; raises `Trouble`, marked `later_page` where a first page had come."""
    slices: list[Slice] = []
    unread: set[str] = set()
    token = ""
    began, size, tokens = clock(), 0, {""}
    while True:
        answer = yield Get(query.list(version, limit, token), fresh=fresh, spent=clock() - began)
        try:
            page = _page(answer, query.namespace)
            size += len(answer.body) if isinstance(answer, Reply) else 0
            if size > BYTES or len(tokens) > PAGES or clock() - began > SECONDS or page.metadata.next in tokens - {""}:
                raise _endless(len(tokens), size, clock() - began)
        except Trouble as trouble:
            trouble.later_page = bool(token)
            raise
        sink.heard()
        for number, item in enumerate(page.items or ()):
            if number % BATCH == 0:
                yield PAUSE
            try:
                slices.append(decode_slice(item))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                sink.skipped("an item of a list", str(error))
                unread.add(_name(item))
        token = page.metadata.next
        if not token:
            if unread and not slices:
                raise Trouble(Code.MALFORMED, f"a list of {len(unread)} slices, none of which makes sense", PROXY)
            return Listed(page.metadata.resource_version, slices, frozenset(unread))
        tokens.add(token)


def _endless(pages: int, size: int, seconds: float) -> Trouble:
    said = f"a list that does not come to an end: {pages} pages, {size >> 20} MiB, {seconds:.0f} s, and more to come"
    return Trouble(Code.MALFORMED, said, PROXY)


def _name(item: msgspec.Raw) -> str:
    try:
        return decode_named(item).metadata.name
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return UNKNOWN


def _page(answer: Answer, namespace: str) -> SliceList:
    if isinstance(answer, Failure):
        raise failed(answer)
    assert isinstance(answer, Reply)
    if answer.status != 200:
        raise refused(answer, "list", namespace)
    try:
        page = decode_list(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        words = page_of(answer.body)
        cure = between(answer.server, answer.origin) if words else PROXY
        raise Trouble(
            Code.MALFORMED, f"a list of EndpointSlices was asked for, and something else came: {words or error}", cure
        ) from None
    if page.kind != "EndpointSliceList" or not page.metadata.resource_version:
        raise Trouble(
            Code.MALFORMED,
            f"asked for a list of slices, got {shown(page.kind) if page.kind else 'what has no kind'}",
            PROXY,
        )
    return page
