"""A pod with a language model, as far as SDKs can tell: OpenAI's and Anthropic's answers, whole and as events."""

import json
from typing import Any

from kubelb.testing import Received, Reply

WORDS = ("the", " answer", " is", " 42")
TEXT = "".join(WORDS)


def handler(request: Received) -> Reply:
    """Answer a completion, a message or the list of models."""
    asked = json.loads(request.body or b"{}")
    streams = asked.get("stream")
    if request.path.endswith("/chat/completions"):
        return _events(_openai_events()) if streams else _json(_openai())
    if request.path.endswith("/messages"):
        return _events(_anthropic_events()) if streams else _json(_anthropic())
    if request.path.endswith("/models"):
        return _json({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "us"}]})
    return Reply(404)


def _json(answer: Any) -> Reply:
    return Reply(200, json.dumps(answer), {"content-type": "application/json"})


def _events(parts: list[str]) -> Reply:
    return Reply(200, "".join(parts), {"content-type": "text/event-stream"})


def _openai() -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def _openai_events() -> list[str]:
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [[{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}] for word in WORDS]
    return [*(f"data: {json.dumps({**whole, 'choices': each})}\n\n" for each in choices), "data: [DONE]\n\n"]


def _anthropic(text: str = TEXT) -> dict[str, Any]:
    return {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": "end_turn" if text else None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 4},
    }


def _anthropic_events() -> list[str]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": _anthropic("")},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
