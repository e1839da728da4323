"""Who may read slices, what happens to those who may not, and how they are told: with kubeconfigs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from kubelb import NotReady
from kubelb.discovery.kube.kubeconfig import Kubeconfig
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.steps import Reply
from kubelb.discovery.kube.transport import Transport
from kubelb.service import service_of

from .access import RBAC, READ_SLICES, Access, reads_slices, wait_may
from .api import Api, ApiError, Json
from .balancers import Balancers
from .cluster import Cluster
from .controlplane import ControlPlane
from .processes import wait_for
from .proxy import Proxy
from .tokens import expired

ONE, TWO = "10.244.0.1", "10.244.0.2"
RBAC_FILE = Path(__file__).parents[2] / "docs" / "rbac.yaml"
PLURALS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": RBAC + "/namespaces/{}/roles",
    "RoleBinding": RBAC + "/namespaces/{}/rolebindings",
}
FORBIDDEN = "not allowed to {} endpointslices.discovery.k8s.io in namespace {}"

Login = Callable[..., Path]


@pytest.fixture
def login(control_plane: ControlPlane, access: Access, ns: str, tmp_path: Path) -> Login:
    """A kubeconfig of the ServiceAccount `client`, which may do nothing yet; with `url=` it leads to a proxy."""
    access.service_account(ns, "client")
    token = access.token(ns, "client")
    return lambda **options: control_plane.kubeconfig(tmp_path / "client", **{"token": token, **options})


@pytest.fixture
def web(cluster: Cluster, ns: str) -> str:
    """A Service of one ready pod; its name as a target."""
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-1", ONE, {"app": "web"}, "node-a")
    cluster.wait_ready(ns, "web", ONE)
    return f"web.{ns}:http"


@pytest.fixture
def grant(control_plane: ControlPlane, access: Access, ns: str) -> Callable[..., str]:
    """Give `client` a role with these verbs, or with all that is needed; the binding's name, when it is in effect."""

    def grant(*verbs: str) -> str:
        rule: Json = {**READ_SLICES, "verbs": list(verbs)} if verbs else READ_SLICES
        binding = access.bind(ns, access.role(ns, "reads-slices", [rule]), "client")
        view = control_plane.client(access.token(ns, "client"))
        wait_may(view, ns, *rule["verbs"])
        view.close()
        return binding

    return grant


def allowed(view: Api, ns: str) -> bool:
    try:
        return reads_slices(view, ns)
    finally:
        view.close()


def test_the_published_role_is_enough(
    control_plane: ControlPlane, balancers: Balancers, cluster: Cluster, ns: str, tmp_path: Path
) -> None:
    """docs/rbac.yaml, applied as it is, lets `storefront` in `shop` use `reviews.prod`, and do nothing else."""
    for namespace in ("shop", "prod"):
        cluster.namespace(namespace)
    for manifest in yaml.safe_load_all(RBAC_FILE.read_text(encoding="utf-8")):
        cluster.api.create(PLURALS[manifest["kind"]].format(manifest["metadata"]["namespace"]), manifest)
    cluster.service("prod", "reviews", {"http": 8080})
    cluster.pod("prod", "reviews-1", ONE, {"app": "reviews"}, "node-a")
    token = control_plane.access.token("shop", "storefront")
    wait_for(lambda: allowed(control_plane.client(token), "prod"))

    kubeconfig = control_plane.kubeconfig(tmp_path / "storefront", token=token)
    lb = balancers.ready("reviews.prod:http", ONE, kubeconfig=kubeconfig)
    cluster.pod("prod", "reviews-2", TWO, {"app": "reviews"}, "node-b")
    lb.wait_used(ONE, TWO)
    assert not lb.failures
    view = control_plane.client(token)
    for path in ("/api/v1/namespaces/prod/services/reviews", "/api/v1/namespaces/prod/pods", "/api/v1/nodes"):
        with pytest.raises(ApiError, match="403"):
            view.get(path)
    assert not allowed(control_plane.client(token), "shop")
    view.close()


@pytest.mark.parametrize(("granted", "missing"), [("list", "watch"), ("watch", "list")])
def test_nothing_less_is_enough(
    balancers: Balancers, ns: str, web: str, login: Login, grant: Callable[..., str], granted: str, missing: str
) -> None:
    """With one of the two verbs alone, health names the other."""
    kubeconfig = login()
    grant(granted)
    lb = balancers(web, kubeconfig=kubeconfig)
    lb.resync_now()
    lb.wait_told(FORBIDDEN.format(missing, ns))
    assert lb.health().synced is (granted == "list")


def test_a_missing_role_is_told_and_can_be_granted_later(
    balancers: Balancers, access: Access, ns: str, web: str, login: Login
) -> None:
    """The error says who may not do what and where, with the rule that is missing; granted, all is well in seconds."""
    lb = balancers(web, kubeconfig=login())
    lb.resync_now()
    lb.wait_told(FORBIDDEN.format("list", ns))
    with pytest.raises(NotReady, match="endpointslices"):
        lb.wait_ready(0.5)
    health = lb.health()
    assert FORBIDDEN.format("list", ns) in health.error
    assert f"system:serviceaccount:{ns}:client" in health.error
    for words in (f"namespace {ns}", '"discovery.k8s.io"', '"endpointslices"', '"list", "watch"'):
        assert words in health.cure
    assert (health.synced, health.age) == (False, None)
    access.bind(ns, access.role(ns, "reads-slices"), "client")
    lb.wait_used(ONE)
    lb.wait_well()
    assert set(lb.failures) == {"forbidden"}


def test_a_role_that_is_taken_away_does_not_take_the_endpoints(
    control_plane: ControlPlane,
    balancers: Balancers,
    access: Access,
    cluster: Cluster,
    proxy: Proxy,
    ns: str,
    web: str,
    login: Login,
    grant: Callable[..., str],
) -> None:
    """Forbidden while running: the endpoints stay, health says why and ages, and the role's return heals it."""
    kubeconfig = login(url=proxy.url)
    binding = grant()
    lb = balancers.ready(web, ONE, kubeconfig=kubeconfig)
    proxy.wait_watch()
    access.revoke(ns, binding)
    token = json.loads(kubeconfig.read_text())["users"][0]["user"]["token"]
    wait_for(lambda: not allowed(control_plane.client(token), ns))
    proxy.cut()  # a watch that runs is not ended by the server
    lb.wait_told(FORBIDDEN.format("watch", ns))
    cluster.pod(ns, "web-2", TWO, {"app": "web"}, "node-b")
    lb.stays(ONE, seconds=1.0)
    assert lb.health().synced
    assert lb.call(lambda attempt: attempt.endpoint.ip) == ONE
    access.bind(ns, "reads-slices", "client")
    lb.wait_used(ONE, TWO, timeout=90.0)  # at worst, after some seconds of being forbidden, it is asked once a minute
    lb.wait_well()


@pytest.mark.parametrize("kind", ["unknown", "expired"])
def test_a_token_that_is_not_accepted_is_told(
    control_plane: ControlPlane,
    access: Access,
    balancers: Balancers,
    ns: str,
    web: str,
    login: Login,
    grant: Callable[..., str],
    kind: str,
) -> None:
    """401 for nobody's token and for one whose time is over: not forbidden, but unauthorized, and from which file."""
    grant()
    token = "nobody-gave-this-out"
    if kind == "expired":
        token = expired(access.token(ns, "client"), control_plane.folder / "service-account.key")
    kubeconfig = login(token=token)
    lb = balancers(web, kubeconfig=kubeconfig)
    lb.resync_now()
    lb.wait_told("HTTP 401")
    with pytest.raises(NotReady):
        lb.wait_ready(0.5)
    health = lb.health()
    assert f"does not accept the credentials from {kubeconfig}: HTTP 401" in health.error
    assert "not expired" in health.cure
    assert set(lb.failures) == {"unauthorized"}
    assert token not in health.error + health.cure
    login()  # writes the right one into the same file
    lb.wait_used(ONE, timeout=60.0)


def test_the_token_is_on_the_wire_and_nowhere_else(
    balancers: Balancers,
    proxy: Proxy,
    web: str,
    login: Login,
    grant: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every request carries it; no log line, repr, event or health does, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    kubeconfig = login(url=proxy.url)
    grant()
    lb = balancers.ready(web, ONE, kubeconfig=kubeconfig)
    proxy.wait_watch()
    proxy.cut_lists = 1
    lb.resync_now()
    wait_for(lambda: "discovery is back" in caplog.text)
    wait_for(lambda: len(proxy.watches) >= 2)
    headers = {seen.headers.get("authorization", "") for seen in proxy.seen}
    assert len(headers) == 1
    scheme, _, token = headers.pop().partition(" ")
    assert scheme == "Bearer"
    assert len(token) > 500
    source = service_of(lb).opening.now.source
    said = caplog.text + repr(lb) + repr(lb.events) + repr(lb.health()) + repr(source)  # type: ignore[union-attr]
    assert "discovery is back" in said
    assert token not in said
    assert token[-40:] not in said


def test_impersonation(
    control_plane: ControlPlane, balancers: Balancers, access: Access, ns: str, web: str, tmp_path: Path
) -> None:
    """`as:` of a kubeconfig's user: what that account may do counts, and no more, although the login may everything."""
    access.service_account(ns, "reader")
    path = control_plane.kubeconfig(tmp_path / "config")
    config = json.loads(path.read_text())
    reader = f"system:serviceaccount:{ns}:reader"
    config["users"][0]["user"] |= {"as": reader}
    path.write_text(json.dumps(config))
    lb = balancers(web, kubeconfig=path)
    lb.resync_now()
    lb.wait_told(FORBIDDEN.format("list", ns))
    assert f'User "{reader}" cannot list' in lb.health().error
    access.bind(ns, access.role(ns, "reads-slices"), "reader")
    lb.wait_used(ONE)
    lb.wait_well()


def test_who_the_server_takes_us_for(control_plane: ControlPlane, tmp_path: Path) -> None:
    """Uid, groups and extra keys, with all that has to be escaped, arrive as they stand in the file."""
    path = control_plane.kubeconfig(tmp_path / "config")
    config = json.loads(path.read_text())
    extra = {"example.com/scopes": ["view", "edit"], "100%": ["x"], "a b": ["jané"]}
    config["users"][0]["user"] |= {
        "as": "jané",
        "as-uid": "42",
        "as-groups": ["system:masters", "ops, and more"],
        "as-user-extra": extra,
    }
    path.write_text(json.dumps(config))
    transport = Transport(Kubeconfig(str(path)), Lifeline(), print)
    body = b'{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}'
    answer = transport.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    transport.close()
    assert isinstance(answer, Reply), answer
    told = json.loads(answer.body)["status"]["userInfo"]
    assert (told["username"], told["uid"], told["extra"]) == ("jané", "42", extra)
    assert set(told["groups"]) - {"system:authenticated"} == {"system:masters", "ops, and more"}


def test_one_that_may_not_impersonate(balancers: Balancers, web: str, login: Login, grant: Callable[..., str]) -> None:
    """The cure is another than a Role for slices, which this login has."""
    grant()
    kubeconfig = login()
    config = json.loads(kubeconfig.read_text())
    config["users"][0]["user"]["as"] = "jane"
    kubeconfig.write_text(json.dumps(config))
    lb = balancers(web, kubeconfig=kubeconfig)
    lb.resync_now()
    lb.wait_told("cannot impersonate")
    assert '"impersonate"' in lb.health().cure


def test_a_namespace_that_does_not_exist(balancers: Balancers, login: Login, grant: Callable[..., str]) -> None:
    """RBAC refuses it as any other: a typo is thought of before a Role."""
    grant()
    lb = balancers("web.no-such-namespace:http", kubeconfig=login())
    lb.resync_now()
    lb.wait_told(FORBIDDEN.format("list", "no-such-namespace"))
    assert lb.health().cure.startswith("if no-such-namespace is the right namespace, ")
