"""Ejection, watched before it is let loose: one pod of four fails half of what it is given, and never five in a row."""

import logging

import kubelb
from kubelb.testing import LocalCluster


def serve(target: str, *, observe: bool) -> None:
    turns = dict.fromkeys(target.removeprefix("static:///").split(","), 0)
    bad = next(iter(turns))

    def ask(attempt: kubelb.Attempt) -> str:
        address = attempt.endpoint.authority
        turns[address] += 1
        if address == bad and turns[address] % 2:
            raise ConnectionResetError(address)
        return address

    outliers = kubelb.OutlierDetection(observe=observe)
    with kubelb.LoadBalancer(target, policy="round_robin", outliers=outliers) as lb:
        for _ in range(200):
            lb.call(ask, idempotent=True)
        for endpoint in lb.endpoints():
            print(endpoint.address, endpoint.state, endpoint.picks, "picks", *endpoint.reasons)


def main() -> None:
    logging.basicConfig(format="%(message)s")  # each decision is a line of the logger "kubelb", with its numbers
    with LocalCluster() as cluster:
        backends = cluster.service("reviews.prod", replicas=4)
        target = "static:///" + ",".join(backend.address for backend in backends)  # "reviews.prod:http" in a cluster
        serve(target, observe=True)
        serve(target, observe=False)


if __name__ == "__main__":
    main()
