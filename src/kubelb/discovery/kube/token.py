"""A token in a file that the kubelet replaces while we run.

Bound tokens live an hour and are rotated at 80 % of that (KEP-1205). The file is read again when its mtime moves, and
at latest after a minute (client-go transport/token_source.go), and at once when the server refused the last one. What
cannot be read, or is empty for a moment, is no reason to forget a token that still works: it stays, with a warning.
"""

from pathlib import Path

from kubelb.clock import Clock, monotonic
from kubelb.discovery.kube.access import CredentialsError

__all__ = ["REREAD", "TokenFile", "bearer"]

REREAD = 60.0


class TokenFile:
    """Credentials out of a file."""

    def __init__(self, path: str, *, first: str = "", clock: Clock = monotonic) -> None:
        """`first` is a header to use until the file can be read."""
        self._path = Path(path)
        self._clock = clock
        self._header = first
        self._read = float("-inf")
        self._mtime = -1

    def __repr__(self) -> str:
        return f"<TokenFile {self._path}>"

    def header(self, *, fresh: bool = False) -> tuple[str, str]:
        """The header, read again if it may have changed."""
        now = self._clock()
        try:
            mtime = self._path.stat().st_mtime_ns
            if self._header and not fresh and mtime == self._mtime and now - self._read < REREAD:
                return self._header, ""
            self._header = bearer(self._path.read_text(encoding="utf-8"), str(self._path))
            self._read, self._mtime = now, mtime
        except (OSError, UnicodeDecodeError, CredentialsError) as error:
            reason = _reason(error, self._path)
            if not self._header:
                raise CredentialsError(
                    reason, "is a ServiceAccount token mounted, and may this user read it?"
                ) from None
            which = "that stands beside it" if self._mtime == -1 else f"of {now - self._read:.0f} s ago"
            return self._header, f"{reason}; the token {which} stays in use"
        return self._header, ""


def bearer(token: str, where: str) -> str:
    """The header for a token; raises `CredentialsError` for one that no header can hold, without showing it."""
    token = token.strip()
    if not token:
        raise CredentialsError(f"{where} is empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CredentialsError(f"{where} holds something that is no token")
    return f"Bearer {token}"


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, CredentialsError):
        return error.reason
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror}"
    return f"{path} holds something that is no token"
