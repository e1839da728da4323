"""Every request its own endpoint, while URL, Host, cookies, redirects, auth and hooks stay those of the service."""

import hashlib
import re

import pytest

import kubelb
from kubelb.adapters.hosts import service_hosts
from kubelb.service import service_of
from kubelb.target import parse_target
from kubelb.testing import Reply


def test_each_request_has_an_endpoint_of_its_own(world, service, balance):
    """Three requests on one client reach three pods, and the response tells which."""
    svc = service(3)
    client = world.client(balance(*svc, policy="round_robin"))
    seen = {world.get(client, "http://reviews.prod/").extensions["kubelb"]["endpoint"] for _ in range(3)}
    assert seen == {backend.address for backend in svc}
    assert [backend.requests for backend in svc] == [1, 1, 1]


def test_the_server_sees_the_name_and_never_its_own_address(world, service, balance):
    """Host carries the URL's host and port, the port is never dialled, and the response keeps its URL."""
    svc = service(1)
    client = world.client(balance(*svc))
    for url, host in (
        ("http://reviews.prod/a?b=c", "reviews.prod"),
        ("http://reviews.prod:81/a?b=c", "reviews.prod:81"),
        ("http://REVIEWS.prod/a?b=c", "reviews.prod"),
    ):
        response = world.get(client, url)
        assert svc[0].log[-1].headers["host"] == host
        assert svc[0].log[-1].target == "/a?b=c"
        assert str(response.url) == url.replace("REVIEWS", "reviews")
        assert response.extensions["kubelb"] == {"endpoint": svc[0].address, "pod": "", "attempts": 1}


def test_the_target_may_be_said_apart(world, service, balance):
    """httpx's extension "target" replaces the path as ever, for what a URL cannot express."""
    svc = service(1)
    client = world.client(balance(*svc))
    world.request(client, "OPTIONS", "http://reviews.prod/a", extensions={"target": b"*"})
    assert svc[0].log[-1].target == "*"


def test_base_url(world, service, balance):
    """A client with a base URL works as ever."""
    svc = service(1)
    client = world.client(balance(*svc), base_url="http://reviews.prod/api/v1")
    assert world.get(client, "/things").json()["path"] == "/api/v1/things"


def test_cookies_belong_to_the_service(world, service, balance):
    """A cookie that one pod sets comes back to the next one."""
    svc = service(2, handler=lambda request: Reply(200, request.headers.get("cookie", ""), {"set-cookie": "a=1"}))
    client = world.client(balance(*svc, policy="round_robin"))
    assert [world.get(client, "http://reviews.prod/").text for _ in range(2)] == ["", "a=1"]
    assert {cookie.domain for cookie in client.cookies.jar} == {"reviews.prod"}


@pytest.mark.parametrize("location", ["/there", "http://reviews.prod/there", "http://reviews.prod:8080/there"])
def test_a_redirect_is_a_balanced_request_of_its_own(world, service, balance, location):
    """Relative and absolute redirects to the same service are followed, each hop to an endpoint of its own."""

    def answer(request):
        return Reply(302, "", {"location": location}) if request.path == "/here" else Reply(200, request.path)

    svc = service(2, handler=answer)
    lb = balance(*svc, policy="round_robin")
    response = world.get(world.client(lb), "http://reviews.prod/here", follow_redirects=True)
    assert response.text == "/there"
    assert len(response.history) == 1
    assert [backend.requests for backend in svc] == [1, 1]


def test_a_redirect_to_another_host_never_reaches_a_pod(world, cluster, service):
    """It raises an error of kubelb that is also the client's ConnectError, and says what to do."""
    svc = service(1, handler=lambda request: Reply(302, "", {"location": "http://elsewhere.example/steal"}))
    name = f"{svc.name}.{svc.namespace}"
    with kubelb.LoadBalancer(svc.address, discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)) as lb:
        client = world.client(lb, headers={"authorization": "Bearer secret"})
        with pytest.raises(kubelb.WrongHost, match="mounts") as caught:
            world.get(client, f"http://{name}/", follow_redirects=True)
        assert isinstance(caught.value, world.httpx.ConnectError)
        assert caught.value.request.url.host == "elsewhere.example"
        assert "secret" not in str(caught.value)
        assert svc.requests == 1


def test_the_names_of_a_service(world, cluster, service):
    """Short, .svc and full names are served, in any case and with a trailing dot; others are not."""
    svc = service(1)
    name = f"{svc.name}.{svc.namespace}"
    with kubelb.LoadBalancer(svc.address, discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)) as lb:
        client = world.client(lb)
        for host in (name, name.upper(), f"{name}.svc", f"{name}.svc.cluster.local", f"{name}.svc.cluster.local."):
            assert world.get(client, f"http://{host}/").status_code == 200
        for host in (svc.name, f"{name}.svc.cluster", f"{name}.svc.cluster.local.evil.example", "127.0.0.1"):
            with pytest.raises(kubelb.WrongHost):
                world.get(client, f"http://{host}/")
        assert svc.requests == 5


def test_hosts_given_by_the_user(world, service, balance):
    """`hosts=` replaces the names, whatever their case; a string, a URL or a port in it is refused."""
    svc = service(1)
    lb = balance(*svc)
    client = world.client(lb, tls={"hosts": ["Api.Example.", "münchen.example", "::1"]})
    for host in ("api.example", "münchen.example", "[::1]"):
        assert world.get(client, f"http://{host}/").status_code == 200
    with pytest.raises(kubelb.WrongHost, match="hosts="):
        world.get(client, "http://reviews.prod/")
    with pytest.raises(TypeError, match="list"):
        world.transport(lb, hosts="api.example")
    for bad in ("http://api.example", "api.example:80", ""):
        with pytest.raises(ValueError, match="bare names"):
            world.transport(lb, hosts=[bad])


def test_mounts_keep_other_hosts_to_themselves(world, service, balance):
    """A mounted transport gets its own host and nothing else."""
    mine, other = service(1), service(1)
    client = world.client(None, mounts={"http://reviews.prod": world.transport(balance(*mine))})
    assert world.get(client, "http://reviews.prod/").extensions["kubelb"]["endpoint"] == mine[0].address
    assert "kubelb" not in world.get(client, f"http://{other[0].address}/").extensions
    assert (mine.requests, other.requests) == (1, 1)


@pytest.mark.parametrize("mounted", [True, False])
def test_proxies_of_the_environment_are_not_for_pods(world, service, balance, monkeypatch, mounted):
    """HTTP_PROXY does not get between a transport and its pods."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    svc = service(1)
    lb = balance(*svc)
    mounts = {"http://reviews.prod": world.transport(lb)} if mounted else None
    client = world.client(lb, mounts=mounts)
    assert world.get(client, "http://reviews.prod/").status_code == 200


def test_digest_auth(world, service, balance):
    """An auth flow of two round trips is two balanced requests."""

    def answer(request):
        given = request.headers.get("authorization", "")
        if not given:
            return Reply(401, "", {"www-authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'})
        part = dict(re.findall(r'(\w+)="?([^",]+)"?', given))
        ha1 = hashlib.md5(b"me:r:pw").hexdigest()
        ha2 = hashlib.md5(f"GET:{part['uri']}".encode()).hexdigest()
        text = f"{ha1}:n:{part['nc']}:{part['cnonce']}:auth:{ha2}"
        return Reply(200 if part["response"] == hashlib.md5(text.encode()).hexdigest() else 403)

    svc = service(2, handler=answer)
    client = world.client(balance(*svc, policy="round_robin"))
    auth = world.httpx.DigestAuth("me", "pw")
    assert world.get(client, "http://reviews.prod/x", auth=auth).status_code == 200
    assert [backend.requests for backend in svc] == [1, 1]


def test_event_hooks(world, service, balance):
    """Hooks see every request and response; one that raises on a status leaves nothing in flight."""
    svc = service(1, handler=lambda request: Reply(404 if request.path == "/no" else 200))
    seen = []

    def on_request(request):
        seen.append(request.url.path)

    def on_response(response):
        seen.append(response.status_code)
        response.raise_for_status()

    async def on_request_async(request):
        on_request(request)

    async def on_response_async(response):
        on_response(response)

    hooks = (on_request_async, on_response_async) if world.aio else (on_request, on_response)
    client = world.client(balance(*svc), event_hooks={"request": [hooks[0]], "response": [hooks[1]]})
    world.get(client, "http://reviews.prod/yes")
    with pytest.raises(world.httpx.HTTPStatusError):
        world.get(client, "http://reviews.prod/no")
    assert seen == ["/yes", 200, "/no", 404]


def test_a_key_chooses_and_unknown_hints_are_refused(world, service, balance):
    """`extensions={"kubelb": ...}` reaches the policy; a misspelt hint is an error, not a surprise."""
    svc = service(2)
    client = world.client(balance(*svc))
    assert world.get(client, "http://reviews.prod/", extensions={"kubelb": {"key": "7"}}).status_code == 200
    with pytest.raises(TypeError, match="idempotnet"):
        world.get(client, "http://reviews.prod/", extensions={"kubelb": {"idempotnet": True}})


@pytest.mark.parametrize(
    ("hints", "said"),
    [
        (5, r"extensions\['kubelb'\] is of type int: give a dict"),
        ("key", r"extensions\['kubelb'\] is of type str: give a dict"),
        ({"idempotent": "no"}, r"extensions\['kubelb'\]: idempotent='no': give True or False"),
        ({"deadline": "2"}, r"extensions\['kubelb'\]: deadline='2': give a number of seconds"),
        ({"deadline": float("nan")}, r"extensions\['kubelb'\]: deadline=nan: give a number"),
        ({5: 1}, r"extensions\['kubelb'\] knows .*, not \[5\]"),
    ],
)
def test_hints_of_another_kind_are_refused(world, service, balance, hints, said):
    """Before anything is sent; "no" above all must not mean yes."""
    svc = service(1)
    client = world.client(balance(*svc))
    with pytest.raises(TypeError, match=said):
        world.get(client, "http://reviews.prod/", extensions={"kubelb": hints})
    assert svc[0].requests == 0


def test_a_hint_of_none_says_nothing(world, service, balance):
    """A GET stays one that may be repeated."""
    svc = service(2)
    svc[0].fail(503)
    client = world.client(balance(*svc, policy="round_robin"))
    for _ in range(2):
        response = world.get(
            client, "http://reviews.prod/", extensions={"kubelb": dict.fromkeys(["idempotent", "key"])}
        )
        assert response.status_code == 200


def test_no_endpoints_is_a_connect_error(world, cluster, service):
    """What kubelb refuses is both its own error and the client's, and can be pickled."""
    import pickle

    svc = service(0)
    with kubelb.LoadBalancer(svc.address, discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)) as lb:
        client = world.client(lb)
        with pytest.raises(kubelb.NoEndpoints) as caught:
            world.get(client, f"http://{svc.name}.prod/")
    assert isinstance(caught.value, world.httpx.ConnectError)
    assert caught.value.request.method == "GET"
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is kubelb.NoEndpoints
    assert str(copy) == str(caught.value)


def test_an_unknown_scheme_is_the_callers_mistake(world, service, balance):
    """It raises what the client raises, and blames no endpoint."""
    lb = balance(*service(1))
    transport = world.transport(lb)
    request = world.httpx.Request("GET", "ftp://reviews.prod/")
    with pytest.raises(world.httpx.UnsupportedProtocol):
        if world.aio:
            world.run(transport.handle_async_request(request))
        else:
            transport.handle_request(request)
    (state,) = service_of(lb).balancer.states()
    assert (state.failures, state.successes) == (0, 0)


@pytest.mark.parametrize(
    ("target", "hosts"),
    [
        ("reviews.prod:http", {b"reviews.prod", b"reviews.prod.svc", b"reviews.prod.svc.k8s.test"}),
        (
            "dns+srv:///_http._tcp.reviews.prod.svc.cluster.local",
            {b"reviews.prod", b"reviews.prod.svc", b"reviews.prod.svc.k8s.test", b"reviews.prod.svc.cluster.local"},
        ),
        ("dns:///db.example.org.:80", {b"db.example.org"}),
        ("static:///10.0.0.1:80", None),
    ],
)
def test_the_names_that_a_target_serves(target, hosts):
    """A Service's three, and the one that DNS is asked for; of no name at all, any."""
    assert service_hosts(parse_target(target), "k8s.test", None) == hosts
