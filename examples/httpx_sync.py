"""httpx: every request picks its own pod. Runs without Kubernetes; in a cluster only the target is another."""

import httpx

import kubelb
from kubelb.adapters.httpx import mounts
from kubelb.testing import LocalCluster


def main() -> None:
    with LocalCluster() as cluster:
        backends = cluster.service("reviews.prod", replicas=3)
        target = "static:///" + ",".join(backend.address for backend in backends)  # "reviews.prod:http" in a cluster

        lb = kubelb.LoadBalancer(target)
        # In a cluster the names are those of the Service, and mounts(lb) is enough.
        with lb, httpx.Client(mounts=mounts(lb, hosts=["reviews.prod"])) as client:
            for number in range(30):
                client.get(f"http://reviews.prod/ratings/{number}").raise_for_status()

            backends[0].kill()  # a dead pod is not the caller's business
            response = client.get("http://reviews.prod/ratings/31", extensions={"kubelb": {"deadline": 2.0}})
            print(response.status_code, response.extensions["kubelb"])

            for endpoint in lb.endpoints():
                print(endpoint.address, endpoint.state, endpoint.picks, "picks")


if __name__ == "__main__":
    main()
