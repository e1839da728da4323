"""Targets of the own namespace: which one that is, where it is unknown, and what is then served."""

import pytest

import kubelb
from kubelb import DiscoveryOptions, LoadBalancer, NotReady, TargetError
from kubelb.adapters.hosts import service_hosts
from kubelb.adapters.httpx import Transport
from kubelb.discovery import namespace
from kubelb.discovery.namespace import in_own_namespace, placed
from kubelb.service import service_of
from kubelb.target import parse_target
from kubelb.testing import LocalCluster
from runtime.kit import until

OWN = parse_target("reviews:http")


def config(path, current, **namespaces):
    lines = [f"current-context: {current}", "contexts:"]
    for name, own in namespaces.items():
        lines += [f"- name: {name}", "  context:", "    cluster: c", *([f"    namespace: {own}"] if own else [])]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A pod's namespace file, and none of this machine's own settings."""
    for name in ("KUBELB_NAMESPACE", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "namespace"
    file.write_text("team-a\n")
    monkeypatch.setattr(namespace, "NAMESPACE_FILE", str(file))
    return file


def test_the_order(mounted, tmp_path, monkeypatch):
    """The namespace goes with the way to the API server; the variable is for where nothing was given in code."""
    other = config(tmp_path / "other", "a", a="ctx-a", b="ctx-b", bare="")
    assert in_own_namespace(OWN).namespace == "team-a"
    assert in_own_namespace(OWN, other).namespace == "ctx-a"
    assert in_own_namespace(OWN, other, "b").namespace == "ctx-b"
    monkeypatch.setenv("KUBECONFIG", other)
    assert in_own_namespace(OWN).namespace == "ctx-a"
    assert in_own_namespace(OWN, None, "b").namespace == "ctx-b"
    monkeypatch.setenv("KUBELB_NAMESPACE", "given")
    assert in_own_namespace(OWN).namespace == "given"
    assert in_own_namespace(OWN, other).namespace == "ctx-a"
    assert in_own_namespace(OWN, other, "bare").namespace == "given"


@pytest.mark.parametrize("text", [None, "token: 'hunter2\n", "contexts: []\ncurrent-context: a"])
def test_the_variable_does_not_stand_in_for_a_file_that_cannot_be_read(mounted, tmp_path, monkeypatch, text):
    """The kind of fault: a moment's trouble decides for the life of the process, and on another service."""
    monkeypatch.setenv("KUBELB_NAMESPACE", "dev")
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    for given in ({"kubeconfig": str(path)}, {"kubeconfig": str(path), "context": "a"}):
        with pytest.raises(TargetError, match=r"own namespace, and that is unknown: (there is no|the) kubeconfig"):
            in_own_namespace(OWN, **given)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(TargetError, match="own namespace, and that is unknown"):
        in_own_namespace(OWN, context="a")
    config(path, "a", a="prod")
    assert in_own_namespace(OWN, str(path)).namespace == in_own_namespace(OWN, context="a").namespace == "prod"


def test_the_home_of_a_laptop_counts_last(mounted, tmp_path):
    """Where nothing is mounted the current context of ~/.kube/config says it."""
    (tmp_path / ".kube").mkdir()
    config(tmp_path / ".kube" / "config", "here", here="mine")
    assert in_own_namespace(OWN).namespace == "team-a"
    mounted.unlink()
    assert in_own_namespace(OWN).namespace == "mine"


def test_of_several_files_the_first_counts(mounted, tmp_path, monkeypatch):
    """As kubectl merges them, files that are not there left out."""
    one, two = config(tmp_path / "one", "x", y="one"), config(tmp_path / "two", "y", x="two", y="two")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{one}:{two}")
    assert in_own_namespace(OWN).namespace == "two"
    assert in_own_namespace(OWN, context="y").namespace == "one"


@pytest.mark.parametrize(
    ("text", "context", "why"),
    [
        ("", None, "no current-context is set"),
        ("contexts: [{name: a, context: {cluster: c}}]", "a", "the context of"),
        ("contexts: [{name: a, context: {namespace: b}}]", "c", "there is no context 'c'"),
        ("contexts: [{name: a, context: 7}]\ncurrent-context: a", None, "context in context 'a' of"),
        ("token: 'hunter2\n", None, "ScannerError while it was read"),
        ("- 7", None, "TypeError while it was read"),
        ("contexts: [{name: a, context: {namespace: A_b}}]", "a", "config says 'A_b', which is no namespace"),
        ("contexts: [{name: a, context: {namespace: b/c}}]", "a", "config says 'b/c', which is no namespace"),
        (None, None, "there is no kubeconfig at"),
    ],
    ids=range(9),
)
def test_unknown(mounted, tmp_path, text, context, why):
    """The error says where it was looked for and how to say it; what stands in a file is not repeated."""
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TargetError) as caught:
        in_own_namespace(OWN, str(path), context)
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)
    if "is no namespace" in why:
        assert f"the context of {path} says" in str(caught.value)
        assert "; correct it there, or give SVC.NS:PORT" in str(caught.value)
    else:
        assert "give SVC.NS:PORT; or set KUBELB_NAMESPACE" in str(caught.value)


@pytest.mark.parametrize("name", ["Bad_NS", "a.b", "a:b", "-x", "x" * 64, "Bad NS", "b/c", "a@b"])
def test_a_name_that_is_no_namespace_is_told_with_its_place(mounted, tmp_path, monkeypatch, name):
    """The kind: the error takes it for a part of the target, which is right, and its cure leads astray."""
    mounted.write_text(name)
    with pytest.raises(TargetError) as caught:
        placed(OWN)
    assert f"'reviews:http' is in the own namespace, and {mounted} says {name!r}, which is no" in str(caught.value)
    monkeypatch.setenv("KUBELB_NAMESPACE", name)
    for find in (placed, in_own_namespace):
        with pytest.raises(TargetError) as caught:
            find(OWN)
        assert f"KUBELB_NAMESPACE says {name!r}, which is no namespace" in str(caught.value)
        assert "correct it there" in str(caught.value)
    bare = config(tmp_path / "bare", "a", a="")
    with pytest.raises(TargetError, match="KUBELB_NAMESPACE says "):
        in_own_namespace(OWN, bare)


def test_the_health_of_a_wrong_context_has_a_cure(mounted, tmp_path):
    """It is read on a thread of discovery: what is wrong with it is told by health, reason and cure apart."""
    with LoadBalancer(
        "reviews:http",
        discovery=DiscoveryOptions(kubeconfig=config(tmp_path / "c", "a", a="Bad NS")),
        ready_timeout=0.05,
    ) as lb:
        with pytest.raises(NotReady):
            lb.wait_ready(0.05)
        until(lambda: lb.health().error)
        assert lb.health().error.endswith("63 at most)")
        assert lb.health().cure == "correct it there, or give SVC.NS:PORT"


def test_other_targets_are_left_alone(mounted):
    """Those that name a namespace, and those that have none."""
    for text in ("reviews.prod:http", "static:///10.0.0.1:80", "dns:///example.org:80"):
        assert in_own_namespace(parse_target(text)) == placed(parse_target(text)) == parse_target(text)


def test_hosts(mounted, tmp_path):
    """http://reviews/ is served beside the long names, and alone for as long as the namespace is in a kubeconfig."""
    full = {b"reviews", b"reviews.team-a", b"reviews.team-a.svc", b"reviews.team-a.svc.cluster.local"}
    with LoadBalancer("reviews:http") as lb:
        service = service_of(lb)
        assert service_hosts(lb.target, service.cluster_domain, None, service.own_namespace) == full
    with LoadBalancer("reviews:http", discovery=DiscoveryOptions(kubeconfig=str(tmp_path / "c"))) as lb:
        service = service_of(lb)
        assert service_hosts(lb.target, service.cluster_domain, None, service.own_namespace) == {b"reviews"}
    with LoadBalancer("reviews.team-a:http") as lb:
        service = service_of(lb)
        assert service_hosts(lb.target, service.cluster_domain, None, service.own_namespace) == full - {b"reviews"}
    with LoadBalancer("https://reviews.a.svc.corp.example:8443/") as lb:
        service = service_of(lb)
        assert service.cluster_domain == "corp.example"
        assert b"reviews.a.svc.corp.example" in service_hosts(lb.target, service.cluster_domain, None)


def test_a_request_to_the_short_name(mounted):
    """The whole way, in the namespace of a kubeconfig's context."""
    import httpx

    with LocalCluster() as cluster:
        cluster.service("reviews.default:http", replicas=1)
        with (
            LoadBalancer(
                "reviews:http", discovery=DiscoveryOptions(kubeconfig=cluster.kubeconfig), ready_timeout=60.0
            ) as lb,
            httpx.Client(mounts={"http://reviews": Transport(lb)}, timeout=60.0) as client,
        ):
            assert client.get("http://reviews/x").status_code == 200
            assert str(lb.target) == "reviews.default:http"
            with pytest.raises(kubelb.errors.WrongHost, match="reviews"):
                client._transport_for_url(httpx.URL("http://reviews/")).handle_request(
                    httpx.Request("GET", "http://elsewhere/")
                )


def test_an_unknown_namespace_is_told_and_waited_for_once(mounted, tmp_path):
    """health() has the reason; the first call waits in vain, the next ones fail at once."""
    with LoadBalancer(
        "reviews:http", discovery=DiscoveryOptions(kubeconfig=str(tmp_path / "none")), ready_timeout=0.2
    ) as lb:
        for _ in range(2):
            with pytest.raises(NotReady, match="the own namespace, and that is unknown"):
                lb.call(lambda attempt: attempt)
        assert lb.health().error.startswith("target 'reviews:http' is in the own namespace, and that is unknown")
        assert "KUBELB_NAMESPACE" in lb.health().cure
        with pytest.raises(NotReady):
            lb.wait_ready(20.0)


@pytest.mark.parametrize("asked", [True, False])
def test_a_kubeconfig_that_comes_later_counts(mounted, tmp_path, monkeypatch, caplog, asked):
    """Calls fail at once until then; it is tried again in its own time, or at once where `resync_now` asks."""
    caplog.set_level("INFO", "kubelb")
    monkeypatch.setattr("kubelb.discovery.backoff.FIRST", 30.0 if asked else 0.05)
    monkeypatch.setenv("KUBELB_TARGETS", "reviews.late=127.0.0.1:8080")
    path = tmp_path / "later"
    with LoadBalancer("reviews:http", discovery=DiscoveryOptions(kubeconfig=str(path)), ready_timeout=0.2) as lb:
        with pytest.raises(NotReady, match="there is no kubeconfig at"):
            lb.call(lambda attempt: attempt)
        assert service_of(lb)._first_wait() == 0.0
        config(path, "a", a="late")
        if asked:
            lb.resync_now()
        until(lambda: lb.health().synced)
        assert lb.call(lambda attempt: attempt.endpoint.authority) == "127.0.0.1:8080"
        assert lb.health().error == ""
        assert service_of(lb)._first_wait() == 0.2
    assert "reviews.late:http: discovery is back after" in caplog.text


def test_grpc_authority(mounted, tmp_path):
    """The full name, also where the namespace is learnt after the channel was made."""
    grpc = pytest.importorskip("grpc")
    from kubelb.adapters.grpc import insecure_channel

    path = config(tmp_path / "c", "a", a="ctx")
    with (
        LoadBalancer("reviews:http", discovery=DiscoveryOptions(kubeconfig=path)) as lb,
        insecure_channel(lb) as channel,
    ):
        assert ("grpc.default_authority", "reviews") in channel._options
        service = service_of(lb)
        service.placing.find(service.tell, service._rename)
        assert ("grpc.default_authority", "reviews.ctx.svc.cluster.local") in channel._options
    assert grpc
