"""The official Kubernetes client reads a LocalCluster by its kubeconfig, over TLS, like any cluster."""

from __future__ import annotations

import threading

import pytest

from kubelb.testing import LocalCluster

kubernetes = pytest.importorskip("kubernetes")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:HTTPResponse.getheaders:DeprecationWarning")  # kubernetes 35 still asks that way
def test_the_official_client_lists_watches_and_reads() -> None:
    """Pages, a watch that sees a pod go, a Service, the version, and an error with its reason."""
    with LocalCluster(tls=True, lag=0.02) as cluster:
        svc = cluster.service("reviews.prod", replicas=3)
        cluster.service("ratings.prod", replicas=1)
        configuration = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config(cluster.kubeconfig, client_configuration=configuration)
        with kubernetes.client.ApiClient(configuration) as client:
            discovery = kubernetes.client.DiscoveryV1Api(client)
            first = discovery.list_namespaced_endpoint_slice("prod", limit=1)
            assert (len(first.items), first.metadata.remaining_item_count) == (1, 1)
            threading.Timer(0.05, svc[0].kill).start()
            ready = []
            for event in kubernetes.watch.Watch().stream(
                discovery.list_namespaced_endpoint_slice,
                "prod",
                label_selector="kubernetes.io/service-name=reviews",
                timeout_seconds=1,
            ):
                ready.append([endpoint.conditions.ready for endpoint in event["object"].endpoints])
                if len(ready) == 3:
                    break
            assert ready == [[True, True, True], [False, True, True], [True, True]]
            service = kubernetes.client.CoreV1Api(client).read_namespaced_service("reviews", "prod")
            assert service.spec.ports[0].name == "http"
            assert kubernetes.client.VersionApi(client).get_code().git_version.startswith("v1.")
            with pytest.raises(kubernetes.client.ApiException) as caught:
                discovery.read_namespaced_endpoint_slice("nothing", "prod")
            assert caught.value.status == 404
