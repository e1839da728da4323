"""requests: every request picks its own pod. Runs without Kubernetes; in a cluster only the target is another."""

import requests

import kubelb
from kubelb.adapters.requests import mount
from kubelb.testing import LocalCluster


def main() -> None:
    with LocalCluster() as cluster:
        backends = cluster.service("reviews.prod", replicas=3)
        target = "static:///" + ",".join(backend.address for backend in backends)  # "reviews.prod:http" in a cluster

        lb = kubelb.LoadBalancer(target)
        with lb, requests.Session() as session:
            mount(session, lb, hosts=["reviews.prod"])  # in a cluster the names are those of the Service
            for number in range(30):
                session.get(f"http://reviews.prod/ratings/{number}", timeout=2.0).raise_for_status()

            backends[0].kill()  # a dead pod is not the caller's business
            response = session.get("http://reviews.prod/ratings/31", timeout=2.0)
            print(response.status_code, response.url)

            for endpoint in lb.endpoints():
                print(endpoint.address, endpoint.state, endpoint.picks, "picks")


if __name__ == "__main__":
    main()
