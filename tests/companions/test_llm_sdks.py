"""OpenAI's and Anthropic's SDKs on clients of httpx and httpx2 that kubelb is mounted on, sync and asyncio."""

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from tests.companions import models
from tests.companions.pods import counts, in_flight, serving

import kubelb
from kubelb.adapters import httpx as adapter
from kubelb.adapters import httpx2 as twin
from kubelb.service import service_of
from kubelb.testing import Service

MESSAGES: Any = [{"role": "user", "content": "what is it?"}]
SOON = {"retry-after-ms": "5"}
"""What has an SDK repeat at once, where it would wait half a second; kubelb takes no notice of it."""


class OpenAi:
    """OpenAI's SDK."""

    module = openai

    def sync(self, client: Any, **options: Any) -> Any:
        return openai.OpenAI(api_key="k", base_url="http://llm.prod/v1", http_client=client, **options)

    def aio(self, client: Any, **options: Any) -> Any:
        return openai.AsyncOpenAI(api_key="k", base_url="http://llm.prod/v1", http_client=client, **options)

    def ask(self, client: Any, **options: Any) -> Any:
        return client.chat.completions.create(model="m", messages=MESSAGES, **options)

    def text(self, answer: Any) -> str:
        return answer.choices[0].message.content

    def word(self, event: Any) -> str:
        return event.choices[0].delta.content


class Anthropic:
    """Anthropic's SDK."""

    module = anthropic

    def sync(self, client: Any, **options: Any) -> Any:
        return anthropic.Anthropic(api_key="k", base_url="http://llm.prod", http_client=client, **options)

    def aio(self, client: Any, **options: Any) -> Any:
        return anthropic.AsyncAnthropic(api_key="k", base_url="http://llm.prod", http_client=client, **options)

    def ask(self, client: Any, **options: Any) -> Any:
        return client.messages.create(model="m", max_tokens=9, messages=MESSAGES, **options)

    def text(self, answer: Any) -> str:
        return answer.content[0].text

    def word(self, event: Any) -> str:
        return event.delta.text if event.type == "content_block_delta" else ""


@pytest.fixture(params=["openai-httpx", "openai-httpx2", "anthropic-httpx2"])
def pair(request: Any) -> tuple[Any, str]:
    """An SDK, and what its client is made of."""
    name, library = request.param.split("-")
    return (OpenAi() if name == "openai" else Anthropic()), library


@pytest.fixture
def sdk(pair: Any) -> Any:
    return pair[0]


@pytest.fixture
def library(pair: Any) -> str:
    return pair[1]


@pytest.fixture
def pods() -> Iterator[tuple[Service, kubelb.LoadBalancer]]:
    with serving("llm.prod", models.handler) as pair:
        yield pair


@pytest.fixture
def service(pods: Any) -> Service:
    return pods[0]


@pytest.fixture
def lb(pods: Any) -> kubelb.LoadBalancer:
    return pods[1]


@pytest.fixture
def client(lb: kubelb.LoadBalancer, library: str) -> Iterator[Any]:
    """The one line: a client with kubelb mounted."""
    if library == "httpx":
        with httpx.Client(mounts=adapter.mounts(lb)) as client:
            yield client
    else:
        with httpx2.Client(mounts=twin.mounts(lb)) as client:
            yield client


def async_client(lb: kubelb.LoadBalancer, library: str) -> Any:
    """The same for asyncio."""
    if library == "httpx":
        return httpx.AsyncClient(mounts=adapter.async_mounts(lb))
    return httpx2.AsyncClient(mounts=twin.async_mounts(lb))


def test_a_completion(sdk, client, service):
    """Each goes to the next pod, under the Service's name; a dead pod is not noticed."""
    llm = sdk.sync(client)
    assert [sdk.text(sdk.ask(llm)) for _ in range(6)] == [models.TEXT] * 6
    assert {request.headers["host"] for pod in service for request in pod.log} == {"llm.prod"}
    assert counts(service) == [2, 2, 2]
    service[0].kill()
    assert [sdk.text(sdk.ask(llm)) for _ in range(6)] == [models.TEXT] * 6
    assert counts(service)[0] == 0


def test_events(sdk, client, service, lb):
    """A stream comes in pieces, and is in flight until it is read or closed."""
    for pod in service:
        pod.drip(size=150, delay=0.001)
    llm = sdk.sync(client)
    for _ in range(3):
        with sdk.ask(llm, stream=True) as events:
            first = next(iter(events))
            assert in_flight(lb) == 1
            assert "".join(sdk.word(event) for event in (first, *events)) == models.TEXT
    assert counts(service) == [1, 1, 1]
    with sdk.ask(llm, stream=True) as events:
        next(iter(events))
    assert in_flight(lb) == 0
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


def test_a_stream_that_breaks(sdk, client, service, lb):
    """It is not repeated: the caller has had a part of it. The SDK says what it says of any broken connection."""
    for pod in service:
        pod.truncate()
    with pytest.raises((sdk.module.APIConnectionError, httpx.RemoteProtocolError, httpx2.RemoteProtocolError)):
        list(sdk.ask(sdk.sync(client), stream=True))
    assert sum(counts(service)) == 1
    assert in_flight(lb) == 0


def test_another_pod_before_the_sdk_tries_again(sdk, client, service):
    """A GET that one pod answers with 503 is repeated elsewhere, and the SDK never hears of it."""
    service[0].fail(503)
    llm = sdk.sync(client)
    assert [llm.models.list().data[0].id for _ in range(3)] == ["m"] * 3
    tries = [request.headers["x-stainless-retry-count"] for pod in service for request in pod.log]
    assert tries == ["0"] * len(tries)
    assert counts(service)[0] >= 1


def test_the_sdk_repeats_what_kubelb_does_not(sdk, client, service):
    """A completion may have been processed: kubelb leaves it, the SDK repeats it, and that goes to another pod."""
    service[0].fail(503, headers=SOON)
    llm = sdk.sync(client)
    assert [sdk.text(sdk.ask(llm)) for _ in range(3)] == [models.TEXT] * 3
    tries = [request.headers["x-stainless-retry-count"] for pod in service for request in pod.log]
    assert tries.count("0") == 3
    assert tries.count("1") == counts(service)[0] >= 1


@pytest.mark.parametrize(
    ("options", "hinted", "completion", "listing"),
    [({}, False, 3, 9), ({"max_retries": 0}, False, 1, 3), ({"max_retries": 0}, True, 3, 3)],
    ids=["both repeat", "kubelb alone", "kubelb alone, hinted"],
)
def test_tries_multiply(sdk, client, service, options, hinted, completion, listing):
    """Where all pods fail: the SDK's tries times kubelb's. With max_retries=0 they are kubelb's alone."""
    for pod in service:
        pod.fail(503, headers=SOON)
    llm = sdk.sync(client, **options)
    with kubelb.hints(idempotent=True if hinted else None):
        with pytest.raises(sdk.module.InternalServerError):
            sdk.ask(llm)
        assert sum(counts(service)) == completion
        with pytest.raises(sdk.module.InternalServerError):
            llm.models.list()
        assert sum(counts(service)) == listing


def test_what_it_raises(sdk, client, service, lb):
    """Its own exceptions, with those of the client and of kubelb behind them."""
    llm = sdk.sync(client, max_retries=0)
    for pod in service:
        pod.hang()
    with pytest.raises(sdk.module.APITimeoutError):
        sdk.ask(llm, timeout=0.1)
    lb.close()
    with pytest.raises(sdk.module.APIConnectionError) as caught:
        sdk.ask(llm)
    assert isinstance(caught.value.__cause__, kubelb.Closed)
    assert in_flight(lb) == 0


def test_a_client_of_httpx_for_anthropic(lb):
    """It takes none: with one of httpx2 it is `kubelb.adapters.httpx2`."""
    with httpx.Client(mounts=adapter.mounts(lb)) as client, pytest.raises(TypeError, match="http_client"):
        Anthropic().sync(client)


def test_asyncio(sdk, library, service, lb):
    """Many at once, streams among them; a dead pod is not noticed."""

    async def whole(llm: Any) -> str:
        return sdk.text(await sdk.ask(llm))

    async def streamed(llm: Any) -> str:
        async with await sdk.ask(llm, stream=True) as events:
            return "".join([sdk.word(event) async for event in events])

    async def main() -> None:
        async with sdk.aio(async_client(lb, library)) as llm:
            both = [*(whole(llm) for _ in range(9)), *(streamed(llm) for _ in range(9))]
            assert await asyncio.gather(*both) == [models.TEXT] * 18
            assert counts(service) == [6, 6, 6]
            service[0].kill()
            assert await asyncio.gather(*(whole(llm) for _ in range(6))) == [models.TEXT] * 6
            assert counts(service)[0] == 0
            assert (await llm.models.list()).data[0].id == "m"
            llm = sdk.aio(llm._client, max_retries=0)
            for pod in service:
                pod.hang()
            with pytest.raises(sdk.module.APITimeoutError):
                await sdk.ask(llm, timeout=0.1)
        assert in_flight(lb) == 0

    asyncio.run(main())
