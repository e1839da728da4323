"""One complete list, in pages, or the Trouble that kept it from being complete: never a part.

Items are decoded one by one. One that makes no sense costs itself, and between two batches the driver may stop.
"""

from collections.abc import Generator
from typing import NamedTuple

import msgspec

from kubelb.discovery.kube.diagnose import PROXY, Code, Trouble, failed, refused
from kubelb.discovery.kube.query import Query
from kubelb.discovery.kube.sink import Listener
from kubelb.discovery.kube.steps import PAUSE, Answer, Failure, Get, Reply, Step
from kubelb.discovery.kube.wire import Slice, SliceList, decode_list, decode_slice
from kubelb.printable import shown

__all__ = ["Listed", "fetch"]

BATCH = 8
"""Slices between two moments at which the driver may stop: 800 endpoints, about 1 ms."""


class Listed(NamedTuple):
    """What there was, and when."""

    version: str
    slices: list[Slice]


def fetch(query: Query, version: str, limit: int, *, fresh: bool, sink: Listener) -> Generator[Step, Answer, Listed]:
    """Ask page by page; raises `Trouble`, marked `later_page` where a first page had come."""
    slices: list[Slice] = []
    token = ""
    while True:
        answer = yield Get(query.list(version, limit, token), fresh=fresh)
        try:
            page = _page(answer, query.namespace)
        except Trouble as trouble:
            trouble.later_page = bool(token)
            raise
        sink.heard()
        for number, item in enumerate(page.items or ()):
            if number % BATCH == 0:
                yield PAUSE
            try:
                slices.append(decode_slice(item))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                sink.skipped("an item of a list", str(error))
        token = page.metadata.next
        if not token:
            return Listed(page.metadata.resource_version, slices)


def _page(answer: Answer, namespace: str) -> SliceList:
    if isinstance(answer, Failure):
        raise failed(answer)
    assert isinstance(answer, Reply)
    if answer.status != 200:
        raise refused(answer, "list", namespace)
    try:
        page = decode_list(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Trouble(Code.MALFORMED, f"a list that makes no sense: {error}", PROXY) from None
    if page.kind != "EndpointSliceList" or not page.metadata.resource_version:
        raise Trouble(
            Code.MALFORMED,
            f"asked for a list of slices, got {shown(page.kind) if page.kind else 'what has no kind'}",
            PROXY,
        )
    return page
