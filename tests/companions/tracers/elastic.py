"""elastic-apm: it patches requests, httpx's clients, and httpcore below them; of httpx2 it knows nothing."""

from collections.abc import Callable
from typing import Any

import elasticapm

HEADER = "traceparent"
TRACES = ["httpx", "httpx async", "requests"]

_sent: list[dict[str, Any]] = []


class Kept(elasticapm.Client):
    """Sends nothing."""

    def queue(self, event_type: str, data: dict[str, Any], flush: bool = False) -> None:
        if event_type == "span":
            _sent.append(data)

    def get_system_info(self) -> dict[str, Any]:
        """Ask no nameserver for the name of this machine."""
        return {}


def start() -> Callable[[Callable[[], object]], list[tuple[str, str]]]:
    client = Kept(
        service_name="page",
        server_url="http://127.0.0.1:9",
        transport_class="elasticapm.transport.base.Transport",
        server_version=(8, 0, 0),
        cloud_provider=False,
        central_config=False,
        metrics_interval="0s",
    )
    elasticapm.instrument()

    def record(call: Callable[[], object]) -> list[tuple[str, str]]:
        _sent.clear()
        client.begin_transaction("test")
        call()
        client.end_transaction("page", "ok")
        return [(span["name"], span["context"]["http"]["url"]) for span in _sent]

    return record
