"""DNS discovery: pods from SRV records, while the nameserver fails and pods come. Runs without Kubernetes."""

import time

import kubelb
from kubelb.testing import LocalCluster


def main() -> None:
    with LocalCluster() as cluster:
        reviews = cluster.service("reviews.prod", replicas=2, headless=True)
        # In a cluster: "dns+srv:///_http._tcp.reviews.prod.svc.cluster.local"
        target = f"dns+srv://{cluster.dns.address}/_http._tcp.reviews.prod.svc.cluster.local"
        with kubelb.LoadBalancer(target, policy="round_robin") as lb:
            lb.wait_ready()
            print("at first:", {lb.call(lambda attempt: attempt.endpoint.hostname) for _ in range(10)})

            cluster.dns.down()  # nothing happens to the calls
            lb.resync_now()
            while not lb.health().error:
                time.sleep(0.01)
            print("meanwhile:", len(lb.endpoints()), "endpoints;", lb.health().error)

            reviews.scale(3)
            cluster.dns.up()
            lb.resync_now()
            while len(lb.endpoints()) < 3:
                time.sleep(0.01)
            print("in the end:", [endpoint.address for endpoint in lb.endpoints()])


if __name__ == "__main__":
    main()
