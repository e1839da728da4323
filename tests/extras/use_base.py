"""kubelb without any extra: slices, DNS, and whatever client the caller has; an answer that unpacks to very much."""

import gzip
import io
import tracemalloc
import urllib.request

import urllib3
import using

import kubelb
from kubelb.testing import LocalCluster


def get(attempt: kubelb.Attempt) -> int:
    with urllib.request.urlopen(f"http://{attempt.endpoint.authority}/", timeout=10) as answer:
        return answer.status


with LocalCluster() as cluster:
    cluster.service("reviews.prod:http", replicas=2, headless=True)
    for lb in (using.balancer(cluster), kubelb.LoadBalancer(cluster.dns.target("reviews.prod", "http"))):
        with lb:
            assert [lb.call(get) for _ in range(4)] == [200] * 4
            assert len(lb.endpoints()) == 2

# A bomb: what is left of it when a connection is given back is not unpacked.
packed = io.BytesIO(gzip.compress(bytes(64 << 20)))
answer = urllib3.HTTPResponse(packed, headers={"Content-Encoding": "gzip"}, preload_content=False)
tracemalloc.start()
assert len(answer.read1(1 << 20, decode_content=True)) <= 1 << 20
answer.drain_conn()
assert tracemalloc.get_traced_memory()[1] < 16 << 20, tracemalloc.get_traced_memory()
using.done("dnspython", "msgspec", "opentelemetry-api", "tenacity", "urllib3")
