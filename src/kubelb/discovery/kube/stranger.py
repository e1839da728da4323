"""Answers that are no API server's: a redirect, or a page for people, of something that stands in between.

A proxy's login page, a load balancer's "bad gateway" and a web server at the wrong address all speak HTTP, and with the
right status they look like an API server that is not well. An API server answers lists in JSON and redirects no client.
"""

import re

from kubelb.printable import printable

__all__ = ["between", "page"]

_TITLE = re.compile(rb"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_SEEN = 4096
"""Bytes of a body that are looked at."""


def page(body: bytes) -> str:
    """Say what a page of HTML is, "" where the body is none.

    >>> page(b"<html><title>Sign in</title></html>")
    "a web page, 'Sign in'"
    """
    start = body[:_SEEN].lstrip()
    if not start[:9].lower().startswith((b"<html", b"<!doctype", b"<head", b"<body")):
        return ""
    title = _TITLE.search(start)
    words = printable(title[1].decode("utf-8", "replace"), 80) if title else ""
    return f"a web page, {words!r}" if words else "a web page"


def between(server: str, origin: str) -> str:
    """Return the cure."""
    where = f"{server.partition('://')[2] or server} (from {origin})" if server and origin else server or "the server"
    return (
        f"what answers is no API server but something in between, or something else at that address: is {where} the "
        "API server itself, and does it need a proxy, or none (HTTPS_PROXY, NO_PROXY)?"
    )
