"""Certificates that are renewed while a client runs. Without Kubernetes; a mounted Secret changes in the same way."""

import tempfile
from pathlib import Path

import httpx
import trustme

import kubelb
from kubelb.adapters.httpx import Transport
from kubelb.testing import LocalCluster


def replace(file: Path, content: bytes) -> None:
    """Another file under the same name, at once."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(file)


def main() -> None:
    with LocalCluster() as cluster, tempfile.TemporaryDirectory() as folder:
        pods = cluster.service("reviews.prod", replicas=2, tls=True)
        ca = Path(folder) / "ca.pem"
        replace(ca, cluster.ca_pem.encode())

        lb = kubelb.LoadBalancer("static:///" + ",".join(pod.address for pod in pods))
        with lb, httpx.Client(mounts={"https://reviews.prod": Transport(lb, verify=str(ca))}) as client:
            print(client.get("https://reviews.prod/").status_code, "by the authority in the file")

            replace(ca, trustme.CA().cert_pem.bytes())  # another authority, which has signed no pod's certificate
            for pod in pods:
                pod.close_connections()
            try:
                client.get("https://reviews.prod/")
            except httpx.ConnectError as error:
                print("refused by another:", str(error).partition("]")[0][1:])

            replace(ca, cluster.ca_pem.encode())  # and back: the next connection is made with it
            print(client.get("https://reviews.prod/").status_code, "once it is back")


if __name__ == "__main__":
    main()
