"""`kubelb[requests]`: a session that is mounted; a stream; a retry where a pod is gone."""

import requests
import using

from kubelb.adapters.requests import mount
from kubelb.testing import LocalCluster

URL = "http://reviews.prod/"

with LocalCluster() as cluster:
    service = cluster.service("reviews.prod:http", replicas=2)
    with (
        using.balancer(cluster) as lb,
        requests.Session() as session,
    ):
        mount(session, lb)
        assert [session.get(URL, timeout=10).status_code for _ in range(4)] == [200] * 4
        with session.get(URL, stream=True, timeout=10) as answer:
            assert b"".join(answer.iter_content(10)) is not None
        service[0].kill()
        assert [session.get(URL, timeout=10).status_code for _ in range(4)] == [200] * 4
using.done("requests", "urllib3")
