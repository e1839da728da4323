"""Requests of one user go to one pod: ring hash by a header, or by a key that the caller gives."""

import httpx

import kubelb
from kubelb.adapters.httpx import Transport
from kubelb.testing import LocalCluster


def main() -> None:
    with LocalCluster() as cluster:
        carts = cluster.service("carts.prod", replicas=5)
        policy = kubelb.policies.RingHash(header="x-user-id")
        with (
            kubelb.LoadBalancer(
                carts.address,
                policy=policy,
                discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig, nameserver=cluster.dns.address),
            ) as lb,
            httpx.Client(mounts={"http://carts.prod": Transport(lb)}) as client,
        ):
            for user in ("ann", "ben", "cem", "dora", "eli"):
                answers = [client.get("http://carts.prod/", headers={"x-user-id": user}) for _ in range(4)]
                print(user, sorted({answer.headers["x-backend"] for answer in answers}))
            with kubelb.hints(key="ann"):  # the caller's word goes first, with every client
                print("ann", client.get("http://carts.prod/", headers={"x-user-id": "ben"}).headers["x-backend"])


if __name__ == "__main__":
    main()
