"""Text that came from outside, made fit to be printed: in errors, events, logs, health, spans, on a terminal.

API servers, nameservers, pods, proxies and files say what they like. What they say goes through `printable` where it
becomes a word of ours: one line, no control characters (an ESC sequence rewrites a terminal, a line feed forges a line
of a log), no secret (see `masking.py`), and no more of it than helps.
"""

import re
from functools import lru_cache

from kubelb.masking import is_content, masked

__all__ = ["LIMIT", "name_shown", "printable", "shown"]

LIMIT = 2000
"""Characters of a text; of a longer one the beginning and the end are kept."""
VALUE = 255
"""Characters of a value that was given for an option."""

# ECMA-48: control sequences, then strings up to their end (titles, links), then what is left of both.
_SEQUENCE = (
    r"(?s)(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f]).*?(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*[0-~]"
)


def printable(text: str, limit: int = LIMIT) -> str:
    """Return one line without control characters and secrets, of at most `limit` characters.

    >>> printable("denied\\x1b[31m\\nWARNING kubelb: all is well")
    'denied WARNING kubelb: all is well'
    """
    if not text.isprintable():
        text = re.sub(
            _SEQUENCE, "", masked(text)
        )  # masked before, too: a sequence takes a letter with it, of a name, say
        text = "".join(sign if sign.isprintable() else " " if sign.isspace() else "" for sign in text)
        text = " ".join(text.split())
    text = masked(text)
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 5]} ... {text[-tail:]}"


@lru_cache(maxsize=4096)
def name_shown(name: str) -> str:
    """Do as `printable` does, for the names of pods: they are told with each request, and are few.

    >>> name_shown("reviews-7f9c\\x1b[31m")
    'reviews-7f9c'
    """
    return printable(name)


def shown(value: object) -> str:
    """Return a value that was given for an option, for the message that refuses it.

    Of text that is too long for a name, or holds what a file holds, only its size is told; of anything but text and
    numbers only the type: it may be an object that holds a secret.

    >>> shown("eu-1"), shown(7), shown({"token": "abc"}), shown(b"abc")
    ("'eu-1'", '7', 'a dict', 'a bytes')
    """
    if value is None or isinstance(value, bool | int | float | complex):
        return repr(value)
    if isinstance(value, str):
        if is_content(value) or len(value) > VALUE:
            return f"a text of {len(value)} characters"
        return repr(masked(value))
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
