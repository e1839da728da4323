"""huggingface_hub on a model server of one's own: every request picks its own pod. Runs without Kubernetes."""

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # else it asks the public Hub which tools there are, once

import httpx2
from huggingface_hub import InferenceClient, set_client_factory

import kubelb
from kubelb.adapters.httpx2 import mounts
from kubelb.testing import LocalCluster, Received, Reply


def main() -> None:
    with LocalCluster() as cluster:
        pods = cluster.service("tgi.prod", replicas=3, handler=model)
        # In a cluster there is no need of kubeconfig=.
        with kubelb.LoadBalancer(
            "tgi.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)
        ) as lb:
            # The one line, before anything else is asked of the library: it makes one client for everything.
            set_client_factory(lambda: httpx2.Client(mounts=mounts(lb), follow_redirects=True, timeout=None))
            llm = InferenceClient(base_url="http://tgi.prod/v1", api_key="none")
            for number in range(30):
                ask(llm, f"question {number}")
            pods[0].kill()  # a dead pod is not the caller's business
            print(ask(llm, "is anybody there?"))
            for endpoint in lb.endpoints():
                print(endpoint.address, endpoint.state, endpoint.picks, "picks")


def ask(llm: InferenceClient, question: str) -> str | None:
    answer = llm.chat_completion([{"role": "user", "content": question}], model="m")
    content: str | None = answer.choices[0].message.content
    return content


def model(_request: Received) -> Reply:
    """Stand in for a server that speaks OpenAI's protocol."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return Reply(200, json.dumps(answer), {"content-type": "application/json"})


if __name__ == "__main__":
    main()
