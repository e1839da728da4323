"""The ladder: no permission to read slices, so DNS; then the permission, so slices. Runs without Kubernetes."""

import time

import kubelb
from kubelb.testing import LocalCluster


def main() -> None:
    with LocalCluster() as cluster:
        cluster.service("reviews.prod:http", replicas=3, headless=True)
        cluster.api.forbid("list")  # as a ServiceAccount without a Role
        with kubelb.LoadBalancer(
            "reviews.prod:http",
            # in a pod neither of these is needed
            discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig, nameserver=cluster.dns.address),
        ) as lb:
            lb.wait_ready()
            health = lb.health()
            print(f"{len(lb.endpoints())} endpoints from {health.source}, because {health.fallback[:60]}...")
            print("cure:", health.cure)

            cluster.api.allow()
            lb.resync_now()  # else within a minute
            while lb.health().fallback:
                time.sleep(0.01)
            print(f"{len(lb.endpoints())} endpoints from {lb.health().source}")


if __name__ == "__main__":
    main()
