"""What each status means, and what a server's pushback does.

That none means "never sent": `test_never_sent.py`; that no server's words decide: `test_words.py`.
"""

import socket
from typing import Any

import grpc
import pytest

from kubelb.adapters._grpc.shared.codes import outcome_of
from kubelb.model import Sent, Verdict

MEANING = {
    "UNAVAILABLE": (Verdict.FAILED, True),
    "INTERNAL": (Verdict.FAILED, False),
    "UNKNOWN": (Verdict.FAILED, False),
    "RESOURCE_EXHAUSTED": (Verdict.BUSY, False),
    "DEADLINE_EXCEEDED": (Verdict.CANCELLED, False),
    "CANCELLED": (Verdict.NEUTRAL, True),
}


class Ended(grpc.RpcError):
    """An RPC that ended so."""

    def __init__(self, code: grpc.StatusCode, details: str | None = "", pushback: Any = None) -> None:
        self._facts = code, details
        self._metadata = None if pushback is None else (("other", "1"), ("grpc-retry-pushback-ms", pushback))

    def code(self) -> grpc.StatusCode:
        return self._facts[0]

    def details(self) -> str | None:
        return self._facts[1]

    def trailing_metadata(self) -> Any:
        return self._metadata


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_every_status(code: grpc.StatusCode) -> None:
    """Verdict and whether another endpoint may do better; the error is kept."""
    error = Ended(code)
    outcome = outcome_of(error)
    assert (outcome.verdict, outcome.retryable) == MEANING.get(code.name, (Verdict.OK, False))
    assert outcome.refusal == (code.name not in MEANING)
    assert outcome.sent is not Sent.NEVER
    assert outcome.error is error
    assert outcome.reason == code.name


@pytest.mark.parametrize(
    ("value", "wait", "again"),
    [("300", 0.3, True), (b"25", 0.025, True), ("0", 0.0, True), ("-1", None, False), ("soon", None, False)],
)
def test_pushback(value: Any, wait: float | None, again: bool) -> None:
    """A number is waited for; anything else is the order not to try again (gRFC A6)."""
    outcome = outcome_of(Ended(grpc.StatusCode.UNAVAILABLE, "", value))
    assert (outcome.retry_after, outcome.retryable) == (wait, again)
    busy = outcome_of(Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", value))
    assert (busy.verdict, busy.retry_after, busy.retryable) == (Verdict.BUSY, wait, again)
    leaving = outcome_of(Ended(grpc.StatusCode.CANCELLED, "CANCELLED", value))
    assert (leaving.verdict, leaving.retry_after, leaving.retryable) == (Verdict.NEUTRAL, wait, again)


def test_what_was_cancelled_here() -> None:
    """A future that is cancelled, and one whose channel is closed: there is nothing to repeat."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:  # takes connections and says nothing
        address = f"ipv4:127.0.0.1:{nobody.getsockname()[1]}"

        def call() -> tuple[grpc.Channel, Any]:
            channel = grpc.insecure_channel(address)
            return channel, channel.unary_unary("/test.Echo/UU").future(b"x", timeout=30)

        channel, cancelled = call()
        cancelled.cancel()
        channel.close()
        channel, closed = call()
        channel.close()
        for future in (cancelled, closed):
            assert future.code() is grpc.StatusCode.CANCELLED
            outcome = outcome_of(future, left=future is closed)
            assert (outcome.verdict, outcome.retryable, outcome.sent) == (Verdict.CANCELLED, False, Sent.MAYBE)


@pytest.mark.parametrize(
    "details", ["Sent message larger than max (9 vs. 4)", "CLIENT: Received message larger than max"]
)
def test_limits_of_the_channel(details: str) -> None:
    """Are no load of the endpoint."""
    outcome = outcome_of(Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, details))
    assert (outcome.verdict, outcome.retryable) == (Verdict.OK, False)


def test_a_deadline_of_the_call_is_silence() -> None:
    """Where the call had a deadline, the outcome of DEADLINE_EXCEEDED says how long ago that was."""
    outcome = outcome_of(Ended(grpc.StatusCode.DEADLINE_EXCEEDED), overdue=0.002)
    assert (outcome.verdict, outcome.retryable, outcome.sent, outcome.overdue) == (
        Verdict.SILENT,
        False,
        Sent.MAYBE,
        0.002,
    )
    assert outcome_of(Ended(grpc.StatusCode.UNAVAILABLE), overdue=0.002).verdict is Verdict.FAILED
