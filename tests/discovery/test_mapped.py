"""KUBELB_TARGETS: a service at another address, under its own name; a slip in it names the entry and the cure."""

import traceback

import httpx
import pytest

import kubelb
from kubelb.adapters.httpx import mounts
from kubelb.discovery.mapped import mapped
from kubelb.target import parse_target
from kubelb.testing import LocalCluster


def found(monkeypatch, text: str, target: str, namespace: str = "") -> str | None:
    """The target that stands for another one, as text; `namespace` is the own one, where it is known."""
    monkeypatch.setenv("KUBELB_TARGETS", text)
    given = parse_target(target)
    placed = parse_target(target.replace(":", f".{namespace}:", 1)) if namespace else given
    other = mapped(placed, given, "cluster.local")
    return None if other is None else str(other)


@pytest.mark.parametrize(
    ("text", "target", "other"),
    [
        ("", "reviews.prod:http", None),
        (" , ", "reviews.prod:http", None),
        ("ratings.prod=127.0.0.1:1", "reviews.prod:http", None),
        ("reviews.prod=127.0.0.1:8080", "reviews.prod:http", "static:///127.0.0.1:8080"),
        ("reviews.prod=127.0.0.1:8080", "kube:///reviews.prod:http", "static:///127.0.0.1:8080"),
        (" ratings.prod=[::1]:2 , reviews.prod = 127.0.0.1:8080 ", "reviews.prod:http", "static:///127.0.0.1:8080"),
        ("ratings.prod=[::1]:2", "ratings.prod:http", "static:///[::1]:2"),
        ("reviews.prod:grpc=127.0.0.1:1,reviews.prod:http=127.0.0.1:2", "reviews.prod:http", "static:///127.0.0.1:2"),
        ("reviews.prod=127.0.0.1:1+127.0.0.2:1", "reviews.prod:http", "static:///127.0.0.1:1,127.0.0.2:1"),
        ("reviews.prod=127.0.0.1:1,reviews.prod=127.0.0.2:1", "reviews.prod:h", "static:///127.0.0.1:1,127.0.0.2:1"),
        ("reviews.prod=reviews:8080", "reviews.prod:http", "dns:///reviews:8080"),
        ("reviews.prod.svc.cluster.local=localhost:8080", "reviews.prod:http", "dns:///localhost:8080"),
        ("reviews.prod.svc.k8s.test=localhost:8080", "reviews.prod:http", None),
        ("http://reviews.prod=localhost:8080", "reviews.prod:http", "dns:///localhost:8080"),
        ("dns:///db.example:5432=127.0.0.1:5432", "dns:///db.example:5432", "static:///127.0.0.1:5432"),
        ("reviews.prod=127.0.0.1:1", "dns:///reviews.prod.svc.cluster.local:80", "static:///127.0.0.1:1"),
        ("reviews.prod=127.0.0.1:1", "static:///127.0.0.9:9", None),
        ("reviews=127.0.0.1:1", "reviews.prod:http", None),
    ],
)
def test_what_stands_for_a_target(monkeypatch, text, target, other):
    """By service and, where it is said, by port; addresses make a list, a host name is looked up."""
    assert found(monkeypatch, text, target) == other


def test_the_own_namespace(monkeypatch):
    """Either name of a service there is its name: the short one, and the whole one where the namespace is known."""
    for name, namespace in (("reviews", ""), ("reviews", "prod"), ("reviews.prod", "prod")):
        assert found(monkeypatch, f"{name}=127.0.0.1:1", "reviews:http", namespace) == "static:///127.0.0.1:1"
    assert found(monkeypatch, "reviews.prod=127.0.0.1:1", "reviews:http", "test") is None


@pytest.mark.parametrize("seed", [None, ["127.0.0.9:9"]])
def test_a_namespace_that_is_found_later(monkeypatch, tmp_path, seed):
    """The kind of fault: a mapping asked too early counts for nothing, and requests go to the real cluster.

    The whole name counts as soon as a kubeconfig has told the namespace, and before any seed.
    """
    config = tmp_path / "config"
    config.write_text("{current-context: a, contexts: [{name: a, context: {cluster: c, namespace: prod}}]}")
    monkeypatch.delenv("KUBELB_NAMESPACE", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setenv("KUBELB_TARGETS", "reviews.prod=127.0.0.1:8080")
    with kubelb.LoadBalancer("reviews:http", discovery=kubelb.DiscoveryOptions(seed=seed), ready_timeout=20.0) as lb:
        assert lb.call(lambda attempt: attempt.endpoint.authority) == "127.0.0.1:8080"
        assert lb.health().source == "static"
        assert str(lb.target) == "reviews.prod:http"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("reviews.prod", "give NAME=ADDRESS:PORT"),
        ("=127.0.0.1:80", "give NAME=ADDRESS:PORT"),
        ("reviews.prod=", "give NAME=ADDRESS:PORT"),
        ("reviews.prod=8080", "'8080' is no address with a port"),
        ("reviews.prod=127.0.0.1", "no address with a port"),
        ("reviews.prod=http://127.0.0.1:80", "no address with a port"),
        ("reviews.prod=127.0.0.1:http", "no address with a port"),
        ("reviews.prod=127.0.0.1:99999", "99999"),
        ("reviews.prod=::1:80", "brackets"),
        ("reviews.prod=a b:80", "no DNS name"),
        ("Reviews.prod=127.0.0.1:80", "no Service name"),
        ("static:///127.0.0.1:1=127.0.0.1:80", "is no service"),
        ("reviews.prod=a:80+127.0.0.1:80", "one host name alone"),
        ("reviews.prod=127.0.0.1:80;carts.prod=127.0.0.1:81", "separated by commas"),
    ],
)
def test_a_slip_names_entry_and_cure(monkeypatch, entry, says):
    """Also in the entry of another service, and when the load balancer is made."""
    monkeypatch.setenv("KUBELB_TARGETS", f"ratings.prod=127.0.0.1:1,{entry}")
    with pytest.raises(kubelb.TargetError, match="KUBELB_TARGETS") as caught:
        kubelb.LoadBalancer("reviews.prod:http")
    assert says in str(caught.value)
    assert entry.partition("+")[0].partition("=")[2] in str(caught.value)


def test_no_password_is_repeated(monkeypatch):
    """A login has no place there."""
    monkeypatch.setenv("KUBELB_TARGETS", "reviews.prod=me:pw@127.0.0.1:80")
    with pytest.raises(kubelb.TargetError, match="login") as caught:
        kubelb.LoadBalancer("reviews.prod:http")
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "reviews.prod=http://h/?token=hunter2",
        "reviews.prod=http://h/?t=hunter2",
        "reviews.prod=http://h/hooks/hunter2",
        "reviews.prod=h/hunter2:80",
        "reviews.prod=h?key=hunter2:80",
        "reviews.prod=h#hunter2:80",
        "reviews.prod=127.0.0.1:80+h?hunter2:80",
        "https://h/?t=hunter2",
        "https://h/hunter2",
        "https://h/hunter2=127.0.0.1:80",
        "reviews.prod/hunter2=127.0.0.1:80",
        "ratings.prod=u:hunter2,more@h:80",
        "ratings.prod=http://u:hunter2,more@h:80",
        "ratings.prod=127.0.0.1:80,password=hunter2",
    ],
)
def test_no_secret_is_repeated(monkeypatch, text):
    """The kind of fault: the error shows what was pasted in place of an address. Neither it nor its context does."""
    monkeypatch.setenv("KUBELB_TARGETS", text)
    with pytest.raises(kubelb.TargetError, match=r"KUBELB_TARGETS: entry .*give reviews.prod=127") as caught:
        kubelb.LoadBalancer("reviews.prod:http")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("place", ["127.0.0.1", "localhost"])
def test_the_service_keeps_its_name(monkeypatch, place):
    """Requests to its names reach the other address; kubeconfig, nameserver and seed are not used there."""
    with LocalCluster() as cluster:
        svc = cluster.service("other.test", replicas=1)
        ip, port = svc[0].address.rsplit(":", 1)
        place = ip if place == "127.0.0.1" else place
        monkeypatch.setattr("kubelb.discovery.dns.hosts.LOOPBACK", (ip,))  # each pod has an address of its own
        monkeypatch.setattr("kubelb.discovery.dns.hosts._parse", lambda text: {})
        monkeypatch.setenv("KUBELB_TARGETS", f"reviews.prod={place}:{port}")
        with (
            kubelb.LoadBalancer(
                "reviews.prod:http",
                discovery=kubelb.DiscoveryOptions(
                    kubeconfig="/nonexistent", nameserver="127.0.0.1:9", seed=["127.0.0.1:9"]
                ),
            ) as lb,
            httpx.Client(mounts=mounts(lb)) as client,
        ):
            for name in ("reviews.prod", "reviews.prod.svc.cluster.local"):
                assert client.get(f"http://{name}/").extensions["kubelb"]["endpoint"] == svc[0].address
            assert str(lb.target) == "reviews.prod:http"
            assert lb.health().synced
        assert svc.requests == 2
