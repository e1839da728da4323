"""Limits and a circuit breaker: a service that is down is left in peace, and its callers hear of it at once."""

import logging

import kubelb
from kubelb.testing import LocalCluster


def main() -> None:
    logging.basicConfig(format="%(message)s")  # one line of the logger "kubelb" for each change, with its numbers
    limits = kubelb.ConcurrencyLimits(max_requests=100, max_requests_per_endpoint=50)
    breaker = kubelb.CircuitBreaker(failure_rate=0.5, slow_call_duration=1.0)
    with LocalCluster() as cluster:
        backends = cluster.service("reviews.prod", replicas=3)
        target = "static:///" + ",".join(backend.address for backend in backends)  # "reviews.prod:http" in a cluster
        with kubelb.LoadBalancer(target, limits=limits, breaker=breaker) as lb:

            def ask(attempt: kubelb.Attempt) -> str:
                raise ConnectionResetError(attempt.endpoint.authority)  # a bad deploy: all fail alike

            asked = refused = 0
            for _ in range(100):
                try:
                    lb.call(ask)
                except ConnectionResetError:
                    asked += 1
                except kubelb.Unusable as error:
                    refused += 1
                    why = error.reason
            print(f"{asked} calls failed, {refused} were refused: {why}")
            print("the service's circuit:", lb.health().circuit)
            for endpoint in lb.endpoints():
                print(endpoint.address, endpoint.state, endpoint.circuit, *endpoint.reasons, sep=" | ")


if __name__ == "__main__":
    main()
