"""Anthropic's SDK for asyncio, on a gateway of one's own: every message picks its own pod. Runs without Kubernetes."""

import asyncio
import json
from collections import Counter

from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from anthropic.types import TextBlock

import kubelb
from kubelb.adapters.httpx2 import async_mounts
from kubelb.testing import LocalCluster, Received, Reply


async def main() -> None:
    async with LocalCluster() as cluster:
        pods = cluster.service("gateway.prod", replicas=3, handler=gateway)
        # In a cluster there is no need of kubeconfig=.
        async with kubelb.LoadBalancer(
            "gateway.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)
        ) as lb:
            http_client = DefaultAsyncHttpxClient(mounts=async_mounts(lb))  # the one line
            # kubelb repeats on another pod, so the SDK need not.
            async with AsyncAnthropic(
                base_url="http://gateway.prod", api_key="none", http_client=http_client, max_retries=0
            ) as llm:
                print(Counter(await asyncio.gather(*(ask(llm, f"question {number}") for number in range(30)))))
                pods[0].kill()  # a dead pod is not the caller's business
                print(await ask(llm, "is anybody there?"))
            for endpoint in lb.endpoints():
                print(endpoint.address, endpoint.state, endpoint.picks, "picks")


async def ask(llm: AsyncAnthropic, question: str) -> str:
    message = await llm.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": question}])
    return "".join(block.text for block in message.content if isinstance(block, TextBlock))


def gateway(_request: Received) -> Reply:
    """Stand in for a server that speaks Anthropic's protocol."""
    answer = {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "yes"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return Reply(200, json.dumps(answer))


if __name__ == "__main__":
    asyncio.run(main())
