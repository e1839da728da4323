"""Responses that hold the lease: a request is in flight until its body has been read, closed, broken or lost.

The latency of an endpoint was taken at the headers. The end of the body decides the rest. A body that is read to its
end is a success. One that breaks is a failure of the endpoint, and is not repeated: the caller has had the headers. One
that is closed early, abandoned or interrupted says nothing.

Every way of reading that urllib3 has comes down to the methods here, whatever calls them: requests, a user with
``response.raw``, pandas. `close`, and the end of an abandoned iteration, are also what the collector calls for a
response that was dropped, possibly inside a lock of ours. So an end without a verdict takes no lock, and the next
request closes the pool of an endpoint that is gone.
"""

from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any

from urllib3.exceptions import ProtocolError, SSLError, TimeoutError  # noqa: A004
from urllib3.response import HTTPResponse

from kubelb.adapters.defaults import PATIENCE, SMALL
from kubelb.clock import monotonic
from kubelb.core.lease import Lease
from kubelb.model import CANCELLED, SUCCESS, Outcome, Sent, Verdict

__all__ = ["Held"]

BROKEN = (ProtocolError, SSLError, TimeoutError, HTTPException, OSError)
"""What a body raises when it breaks. All else (bad gzip, a wrong call) says nothing about the connection."""


class Held(HTTPResponse):
    """urllib3's response; `hold` gives it a lease, and `owner` hears of ends on endpoints that are gone."""

    _lease: Lease | None = None
    _owner: Any = None
    _bounds: Any = None

    def hold(self, lease: Lease, owner: Any, bounds: Any) -> bool:
        """Keep the lease until the body has ended; returns False where there is none (HEAD, 204), and the lease too."""
        self._bounds = bounds
        if self.length_remaining == 0 and self.status >= 200:
            self.read()  # nothing comes: this gives the connection back
        if self.isclosed():
            return False
        self._lease = lease
        self._owner = owner
        return True

    def read(self, amt: int | None = None, decode_content: bool | None = None, cache_content: bool = False) -> bytes:
        try:
            data = super().read(amt, decode_content, cache_content)
        except BaseException as error:
            self._failed(error)
            raise
        if self.isclosed():
            self._finish(SUCCESS)
        return data

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        try:
            data = super().read1(amt, decode_content)
        except BaseException as error:
            self._failed(error)
            raise
        if self.isclosed():
            self._finish(SUCCESS)
        return data

    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:  # type: ignore[override]
        try:
            yield from super().read_chunked(amt, decode_content)
        except BaseException as error:
            self._failed(error)
            raise
        if self.isclosed():
            self._finish(SUCCESS)

    def drain_conn(self) -> None:
        super().drain_conn()
        if self.isclosed():
            self._finish(None)

    def release_conn(self) -> None:
        connection: Any = self.connection
        if connection is None:
            return
        if self.status < 200:
            # 101: it speaks another protocol now. 103: http.client took a hint for the answer, which is still to come.
            connection.close()
        if connection.sock is None:  # closed; and the collector may be here inside the lock of that very pool
            self._connection = None
            return
        connection.idle_since = monotonic()
        super().release_conn()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._finish(None)

    def discard(self) -> None:
        """Throw the response away: read if it is small and comes at once, so that the connection lives, else closed."""
        self._finish(None)  # how this ends says nothing about the endpoint
        with suppress(Exception):
            if self.length_remaining is not None and self.length_remaining <= SMALL:
                self._bounds.end_within(PATIENCE)
                self.read(decode_content=False)
        with suppress(Exception):
            self.close()

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, BROKEN) and self._bounds.over():  # no fault of the endpoint
            self._finish(CANCELLED)
        elif isinstance(error, BROKEN):
            self._finish(Outcome(Verdict.FAILED, sent=Sent.ANSWERED, reason="body broken"))
        elif not isinstance(error, Exception):  # interrupted, or the iteration abandoned
            self._finish(None)
        elif self.isclosed():
            self._finish(SUCCESS)

    def _finish(self, outcome: Outcome | None) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        lease.release(outcome)
        if lease.state.removed:
            if outcome is None:
                self._owner.lost.append(lease.state)
            else:
                self._owner.left(lease)
