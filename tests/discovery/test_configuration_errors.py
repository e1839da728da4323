"""A refusal before the first endpoint says whether time was short or something has to be mended."""

import pytest
from tests.spelled import spelled

from kubelb import DiscoveryOptions, LoadBalancer, NotReady
from kubelb.testing import LocalCluster

from .nameserver import Nameserver
from .test_stop import wait_for

MENDED = "by an error in the configuration: "


def at(server):
    return ":".join(map(str, server.address))


def refused(lb):
    with pytest.raises(NotReady) as caught:
        lb.call(lambda attempt: attempt)
    return str(caught.value)


@pytest.mark.parametrize("target", ["kube:///reviews.prod:http", "reviews.prod:http", "reviews:http"])
def test_a_kubeconfig_that_is_not_there(tmp_path, target):
    """The kind: "not learnt in time" sounds like a timeout that a longer wait would mend. From slices alone, from the
    ladder, and where the own namespace is to be read from that file.
    """
    with Nameserver(lambda asked: asked.answer(rcode="SERVFAIL")) as server:
        options = {"kubeconfig": str(tmp_path / "none"), "ready_timeout": 0.05}
        with LoadBalancer(target, **spelled(options, nameserver=at(server))) as lb:
            lb.resync_now()
            wait_for(lambda: lb.health().kind == "credentials")
            said = refused(lb)
    assert MENDED in said
    assert "in time" not in said
    assert str(tmp_path / "none") in said


def test_a_token_that_may_not():
    """403 is mended by a Role; while a server that does not answer is a matter of time."""
    with LocalCluster() as cluster:
        cluster.service("reviews.prod:http", replicas=1)
        cluster.api.forbid()
        with LoadBalancer(
            "kube:///reviews.prod:http", discovery=DiscoveryOptions(kubeconfig=cluster.kubeconfig), ready_timeout=0.05
        ) as lb:
            lb.resync_now()
            wait_for(lambda: lb.health().kind == "forbidden")
            assert MENDED in refused(lb)


def test_a_server_that_is_not_there():
    """That may pass by itself."""
    with (
        Nameserver(lambda asked: asked.answer(rcode="SERVFAIL")) as server,
        LoadBalancer(f"dns://{at(server)}/reviews:80", ready_timeout=0.05) as lb,
    ):
        lb.resync_now()
        wait_for(lambda: "SERVFAIL" in lb.health().error)
        assert "no endpoints were learnt in time from dns: " in refused(lb)
        assert lb.health().kind == "server-error"
