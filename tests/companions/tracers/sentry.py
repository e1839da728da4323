"""sentry-sdk: its spans are those of http.client, where requests writes, and of httpx's and httpx2's clients."""

import json
from collections.abc import Callable
from typing import Any

import sentry_sdk
from sentry_sdk.integrations.httpx import HttpxIntegration
from sentry_sdk.integrations.httpx2 import Httpx2Integration
from sentry_sdk.transport import Transport

HEADER = "sentry-trace"
TRACES = ["httpx", "httpx async", "httpx2"]

_sent: list[dict[str, Any]] = []


class Kept(Transport):
    """Sends nothing."""

    def capture_envelope(self, envelope: Any) -> None:
        _sent.extend(json.loads(item.get_bytes()) for item in envelope.items if item.type == "transaction")


def start() -> Callable[[Callable[[], object]], list[tuple[str, str]]]:
    sentry_sdk.init(
        dsn="http://k@127.0.0.1:9/1",
        transport=Kept,
        traces_sample_rate=1.0,
        # It would import whatever is installed here and that it knows.
        auto_enabling_integrations=False,
        integrations=[HttpxIntegration(), Httpx2Integration()],
    )
    return record


def record(call: Callable[[], object]) -> list[tuple[str, str]]:
    _sent.clear()
    with sentry_sdk.start_transaction(name="page", op="test"):
        call()
    (transaction,) = _sent
    found = [span for span in transaction["spans"] if span["op"] == "http.client"]
    return [(span["description"], span["data"]["url"]) for span in found]
