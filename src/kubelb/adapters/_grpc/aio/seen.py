"""The end of a call on the event loop, for telemetry that watches it (see `shared/seen.py`)."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from kubelb.adapters._grpc.aio.call import AioCall
from kubelb.adapters._grpc.aio.endings import AGAIN, PATIENCE, ending, now, provisional
from kubelb.telemetry.conventions import raised, rpc_answer

if TYPE_CHECKING:
    from kubelb.telemetry.calls import Call, Try

__all__ = ["when_over"]


def when_over(call: Any, seen: "Call | Try") -> None:
    """End what is seen when a call object has ended: one of ours, or an attempt's own."""
    call.add_done_callback(partial(_over, seen))


def _over(seen: "Call | Try", call: Any, waited: float = 0.0) -> None:
    """An attempt's first status may be a late write's (see `aio/endings.py`), then the other is waited for."""
    try:
        if not isinstance(call, AioCall):
            if waited < PATIENCE and provisional(call):
                wait = min(max(waited, AGAIN[0]), AGAIN[1])
                asyncio.get_running_loop().call_later(wait, _over, seen, call, waited + wait)
                return
            ending(call)
        answer = rpc_answer(now(call.code()).name)
    except BaseException as error:  # noqa: BLE001 - an interceptor's own, which what awaits the call gets
        answer = raised(error)
    seen.end(answer)
