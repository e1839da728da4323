"""Secrets are hidden here and nowhere else: passwords, tokens, keys.

Two ways, because neither is enough. By value: `remember` is told each secret that kubelb uses itself, so that a server
which repeats it, in whatever words, is not repeated by us; a piece of it that is long enough counts, for servers cut
their texts. By shape: userinfo in a URL, an Authorization header, a JWT, a PEM block, ``password=...``; that finds what
was never told to us, because it stands in the wrong place.

It hides rather too much than too little: a mask in a message costs nothing but a word.

Patterns are compiled with the first text that needs them, which takes a few milliseconds and nothing of the system: a
program that has no secrets in its messages never pays for it.
"""

import binascii
import re
from collections.abc import Callable
from functools import cache, partial
from urllib.parse import urlsplit

__all__ = ["MASK", "Hidden", "is_content", "masked", "remember", "safe_url", "without_userinfo"]

MASK = "***"
KEPT = 64
"""Secrets that are remembered, the newest; a token that is replaced every hour has long expired by then."""
PIECE = 16
"""Characters of a secret by which it is known; of a shorter one all."""
SHORTEST = 6
"""What is shorter is a word that may stand anywhere."""

_known: tuple[str, ...] = ()
_values: dict[str, str] = {}
"""Secrets, and the piece of each that it is known by."""
_REST = r"[^\s\"'<>,;]*"


class Hidden(str):
    """A secret on its way: the same text, but for its repr, which is what a traceback with local variables shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"


def remember(secret: str) -> None:
    """Hide this value wherever it comes up from now on. A scheme in front, as in ``Bearer ...``, is no part of it."""
    global _known  # noqa: PLW0603 - readers take it whole, so they need no lock
    value = secret.strip().rpartition(" ")[2]
    if len(value) < SHORTEST or value in _values:
        return
    _values[value] = value[:PIECE]
    for old in list(_values)[:-KEPT]:
        _values.pop(old, None)
    # Without a lock, which a fork would copy: the last of several threads puts right what it finds.
    while (now := tuple(_values.values())) != _known:
        _known = now


_NAME = (
    r"pass(?:word|wd|phrase)?|pwd|secret|credentials?|(?:[\w-]+[_-])?token|(?:[\w-]+[_-])?(?:api|access|private)[_-]?key"
    r"|client[_-]secret|client-key-data|client-certificate-data|session(?:[_-]?id)?|sig(?:nature)?"
)
_SHAPES = (
    (r"(?s)-----BEGIN .*?(?:-----END [^-]*-----|\Z)", MASK),
    (r"LS0tLS1CRUdJTi[\w+/=]*", MASK),  # the same in base64, as kubeconfigs have it
    # Three slashes: our own targets. The login that a cure of ours tells the shape of is none.
    (r"(:///?)(?!USER:PASSWORD@)(?:[^\s/?#@:]+(?::\S*)?|:\S+)@", rf"\1{MASK}@"),
    (r"(?<![\w/@.])[\w.+%-]+:(?!//)[^\s@]+@(?=[\w\[])", f"{MASK}@"),
    (r"\beyJ[\w-]{8,}(?:\.[\w-]*)*", MASK),
    (
        r"(?i)\b((?:proxy-)?authorization\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:(?:[a-z]+|aws4-[\w-]+)\s+)?[^\s\"',;|]+",
        rf"\1{MASK}",
    ),
    (r"(?i)\b((?:set-)?cookie\s*[:=]\s*)[^|\n]+", rf"\1{MASK}"),
    (
        r"\b((?i:bearer|basic|negotiate|digest)\s+)(?=[^\s\"',|]*[\d_=+/]|[^\s]*[a-z][A-Z])[^\s\"',|]{6,}",
        rf"\1{MASK}",
    ),
    (rf"(?i)(?<![a-z/])({_NAME})(\\?[\"']?\s?[:=]\s?\\?[\"']?)[^\s\"',;&}}\\]+", rf"\1\2{MASK}"),
)
"""What a secret stands in, and what is left of that."""
_HINTS = (
    *("@", "eyj", "-----begin", "ls0tls1crudjti", "pass", "pwd", "secret", "credential", "token", "key"),
    *("session", "sig", "authorization", "cookie", "bearer ", "basic ", "negotiate ", "digest "),
)
"""Without any of these, in lower case, no shape is there: most texts are looked through once and let go."""


def masked(text: str) -> str:
    """Return the text with every secret in it replaced by ``***``.

    >>> masked("connecting to https://admin:hunter2@10.0.0.1:443 with Authorization: Bearer abc.def")
    'connecting to https://***@10.0.0.1:443 with Authorization: ***'
    """
    for piece in _known:
        if piece in text:
            text = re.sub(re.escape(piece) + _REST, MASK, text)
    lowered = text.lower()
    if any(hint in lowered for hint in _HINTS):
        for replaced in _replacements():
            text = replaced(text)
    return text


@cache
def _replacements() -> tuple[Callable[[str], str], ...]:
    """What hides each of the shapes: compiled once, for Python's own cache of patterns is emptied by others."""
    return tuple(partial(re.compile(shape).sub, instead) for shape, instead in _SHAPES)


def safe_url(url: object) -> str:
    """Return a URL without credentials, query and fragment."""
    try:
        parts = urlsplit(str(url))
    except ValueError:  # brackets that are no IPv6 address
        return without_userinfo(str(url).partition("?")[0].partition("#")[0])
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def without_userinfo(url: str) -> str:
    """Return a URL without ``user:password@``; what stood there is remembered as a secret.

    >>> without_userinfo("https://admin:hunter2@10.0.0.1:443/base")
    'https://10.0.0.1:443/base'
    >>> without_userinfo("https://admin:hunter#2@10.0.0.1:443")
    'https://10.0.0.1:443'
    """
    if "@" not in url:
        return url.lstrip()
    found = re.fullmatch(_URL, url)
    assert found is not None  # any text is one
    scheme, place, behind = found[1] or "", found[2], found[3]
    userinfo, at, host = place.rpartition("@")
    if "@" in behind and not _is_place(host):  # a password with a '/', '?' or '#' that is not encoded
        userinfo, at, host = f"{place}{behind}".rpartition("@")
        behind = ""
    if at:
        remember(userinfo.partition(":")[2] or userinfo)
    return f"{scheme}{host}{behind}"


_URL = r"(?s)\s*([A-Za-z][A-Za-z0-9+.-]*://)?([^/?#]*)(.*)"


def _is_place(host: str) -> bool:
    """Whether it is HOST, or HOST:PORT, and not the beginning of a login."""
    _, colon, port = host.rpartition(":")
    number = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    return not colon or number or host.endswith("]")


_IN_FILES = ("\n", "\r", "\0", "-----BEGIN", "{", "apiVersion:")
_BASE64 = r"\s*[A-Za-z0-9+/_-]{20,}={0,2}\s*"
_JWT = r"\s*eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*\s*"


def is_content(text: str) -> bool:
    """Whether it is what stands in a file, or that in base64, given in place of the file's path.

    >>> is_content("/etc/ssl/ca.pem"), is_content("-----BEGIN CERTIFICATE-----"), is_content("YXBpVmVyc2lvbjogdjEK" * 2)
    (False, True, True)
    """
    if len(text) > 4096 or any(sign in text for sign in _IN_FILES):
        return True
    if len(text) < 20:  # what follows is longer
        return False
    if re.fullmatch(_JWT, text):
        return True
    if not re.fullmatch(_BASE64, text):
        return False
    sure = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        plain = binascii.a2b_base64(sure + "=" * (-len(sure) % 4), strict_mode=True)
    except ValueError:
        return False
    # The letters of a path give bytes of any kind; it takes a text for all of them to be a text's.
    return plain.isascii() and all(32 <= sign < 127 or sign in b"\t\r\n" for sign in plain)
