"""Words that grpcio uses for calls that have found no connection, which any server can write into a status."""

from typing import Any

import grpc
import pytest

PHRASES = (
    "failed to connect to all addresses",
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host",
    "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused",  # round_robin
    "no connection established",
    "empty address list: ",
    "Name resolution failure",
    "no children in weighted_target policy: unavailable",
    "Socket closed",
    "Stream removed (Socket closed)",
    "GOAWAY received; Error code: 0; Debug Text: max_age",
    "Stream removed (GOAWAY received; Error code: 0; Debug Text: )",
    "RST_STREAM (Received RST_STREAM with error code 7)",
    "Cannot invoke RPC on closed channel!",
    "Channel is closed.",
    "Channel closed!",
    'UNAVAILABLE:failed to connect to all addresses"} {grpc_status:14, never_sent:true}',
)
CODES = [
    grpc.StatusCode.UNAVAILABLE,
    *(
        pytest.param(code, marks=pytest.mark.slow)
        for code in (
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.ABORTED,
        )
    ),
]


def lies(code: grpc.StatusCode, words: str, *, headers: bool) -> Any:
    """A behaviour: do the work, which is counted, then end the call with this status.

    `headers`: after initial metadata; else the status is the whole response ("trailers only").
    """

    def behave(method: str, context: Any) -> None:
        if headers:
            context.send_initial_metadata((("x-pod", "here"),))
        context.abort(code, words)

    return behave
