"""huggingface_hub: its one client for everything is made by a factory, which is the one line for kubelb."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError
from tests.companions import models
from tests.companions.pods import counts, in_flight, serving

import kubelb
from kubelb.adapters.httpx2 import async_mounts, mounts
from kubelb.testing import Received, Reply, Service

MESSAGES: Any = [{"role": "user", "content": "what is it?"}]
CONFIG = json.dumps({"model_type": "small"})
COMMIT = "0" * 40


def handler(request: Received) -> Reply:
    """A model's server and a mirror of the Hub in one."""
    if request.path == "/us/small/resolve/main/config.json":
        headers = {"etag": '"abc"', "x-repo-commit": COMMIT, "content-type": "application/json"}
        return Reply(200, CONFIG, headers)
    if request.path == "/api/models/us/small":
        return Reply(200, json.dumps({"id": "us/small", "sha": COMMIT}), {"content-type": "application/json"})
    return models.handler(request)


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Service, kubelb.LoadBalancer]]:
    """As a program would do it at its start, and taken back."""
    with serving("tgi.prod", handler) as (service, lb):
        huggingface_hub.set_client_factory(lambda: httpx2.Client(mounts=mounts(lb), follow_redirects=True))
        huggingface_hub.set_async_client_factory(lambda: httpx2.AsyncClient(mounts=async_mounts(lb)))
        with monkeypatch.context() as patch:
            patch.setattr(constants, "ENDPOINT", "http://tgi.prod")
            huggingface_hub.utils.build_hf_headers()  # once a process it asks the Hub which tools there are
        counts(service)
        try:
            yield service, lb
        finally:
            huggingface_hub.close_session()
            huggingface_hub.set_client_factory(httpx2.Client)
            huggingface_hub.set_async_client_factory(httpx2.AsyncClient)


def test_inference(pods):
    """A client for a server of one's own: completions and streams go to all pods, but to a dead one."""
    service, lb = pods
    client = huggingface_hub.InferenceClient(base_url="http://tgi.prod/v1", api_key="k")
    texts = [client.chat_completion(MESSAGES, model="m").choices[0].message.content for _ in range(6)]
    assert texts == [models.TEXT] * 6
    assert counts(service) == [2, 2, 2]
    events = client.chat_completion(MESSAGES, model="m", stream=True)
    assert "".join(event.choices[0].delta.content or "" for event in events) == models.TEXT
    service[0].kill()
    for _ in range(4):
        assert client.chat_completion(MESSAGES, model="m").choices[0].message.content == models.TEXT
    assert counts(service)[0] <= 1
    assert in_flight(lb) == 0


def test_errors(pods):
    """Its own exceptions, and no tries of its own for a completion."""
    service, _ = pods
    client = huggingface_hub.InferenceClient(base_url="http://tgi.prod/v1", api_key="k", timeout=0.2)
    for status in (500, 503):
        for pod in service:
            pod.fail(status)
        with pytest.raises(HfHubHTTPError):
            client.chat_completion(MESSAGES, model="m")
        assert sum(counts(service)) == 1
    for pod in service:
        pod.hang()
    with pytest.raises((InferenceTimeoutError, httpx2.ReadTimeout)):
        client.chat_completion(MESSAGES, model="m")


def test_a_mirror_of_the_hub(pods, tmp_path: Path):
    """Metadata and files come from any pod; one that answers 503 is asked no more."""
    service, _ = pods
    service[0].fail(503)
    api = huggingface_hub.HfApi(endpoint="http://tgi.prod", token=False)
    assert [api.model_info("us/small").id for _ in range(3)] == ["us/small"] * 3
    path = huggingface_hub.hf_hub_download("us/small", "config.json", endpoint="http://tgi.prod", cache_dir=tmp_path)
    assert Path(path).read_text() == CONFIG


def test_asyncio(pods):
    """Each asyncio client has an httpx2 client of its own."""
    service, _ = pods

    async def main() -> None:
        async with huggingface_hub.AsyncInferenceClient(base_url="http://tgi.prod/v1", api_key="k") as client:
            asked = (client.chat_completion(MESSAGES, model="m") for _ in range(6))
            texts = [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]
            assert texts == [models.TEXT] * 6
            assert counts(service) == [2, 2, 2]
            service[0].kill()
            answer = await client.chat_completion(MESSAGES, model="m")
            assert answer.choices[0].message.content == models.TEXT

    asyncio.run(main())
