"""`kubelb[testing]`: a cluster with TLS, whose pods have certificates too."""

import ssl
import urllib.request

import using

import kubelb
from kubelb.testing import LocalCluster

with LocalCluster(tls=True) as cluster:
    cluster.service("reviews.prod:https", replicas=2, tls=True)
    target = cluster.dns.target("reviews.prod", "https")  # slices are there over TLS, with the same authority
    with kubelb.LoadBalancer(target) as lb:
        context = ssl.create_default_context(cafile=cluster.ca_file)
        context.check_hostname = False  # a certificate names the Service, and urllib asks for the address

        def get(attempt: kubelb.Attempt) -> int:
            url = f"https://{attempt.endpoint.authority}/"
            with urllib.request.urlopen(url, timeout=10, context=context) as answer:
                return answer.status

        assert [lb.call(get) for _ in range(4)] == [200] * 4
using.done("trustme", "cryptography")
