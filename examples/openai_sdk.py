"""OpenAI's SDK on a model of one's own: every completion picks its own pod. Runs without Kubernetes."""

import json

from openai import DefaultHttpxClient, OpenAI

import kubelb
from kubelb.adapters.httpx2 import mounts
from kubelb.testing import LocalCluster, Received, Reply


def main() -> None:
    with LocalCluster() as cluster:
        pods = cluster.service("llm.prod", replicas=3, handler=model)
        # In a cluster there is no need of kubeconfig=.
        with kubelb.LoadBalancer(
            "llm.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)
        ) as lb:
            http_client = DefaultHttpxClient(mounts=mounts(lb))  # the one line; the SDK's own timeouts stay
            # kubelb repeats on another pod, so the SDK need not.
            with OpenAI(base_url="http://llm.prod/v1", api_key="none", http_client=http_client, max_retries=0) as llm:
                for number in range(30):
                    ask(llm, f"question {number}")
                pods[0].kill()  # a dead pod is not the caller's business
                pods[1].fail(503, times=1)  # nor is one that is full, where the caller says that asking twice is fine
                with kubelb.hints(idempotent=True):
                    print(ask(llm, "is anybody there?"))
                    print(*told(llm, "one word after the other"))
            for endpoint in lb.endpoints():
                print(endpoint.address, endpoint.state, endpoint.picks, "picks")


def ask(llm: OpenAI, question: str) -> str | None:
    answer = llm.chat.completions.create(model="m", messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content


def told(llm: OpenAI, question: str) -> list[str]:
    events = llm.chat.completions.create(model="m", messages=[{"role": "user", "content": question}], stream=True)
    with events:
        return [event.choices[0].delta.content or "" for event in events]


def model(request: Received) -> Reply:
    """Stand in for vLLM, or another server that speaks OpenAI's protocol."""
    whole = {"id": "1", "created": 1, "model": "m"}
    if not json.loads(request.body).get("stream"):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}
        return Reply(200, json.dumps({**whole, "object": "chat.completion", "choices": [choice]}))
    words = [{"index": 0, "finish_reason": None, "delta": {"content": word}} for word in ("yes", "and", "no")]
    chunks = [json.dumps({**whole, "object": "chat.completion.chunk", "choices": [word]}) for word in words]
    events = "".join(f"data: {data}\n\n" for data in [*chunks, "[DONE]"])
    return Reply(200, events, {"content-type": "text/event-stream"})


if __name__ == "__main__":
    main()
