"""Every request its own endpoint, while URL, Host, cookies, redirects, auth and hooks stay those of the service."""

import hashlib
import pickle
import re
import subprocess
import sys

import pytest
import requests
from tests.adapters_requests.conftest import URL, Session
from tests.spelled import spelled

import kubelb
from kubelb.adapters.requests import Adapter, mount
from kubelb.service import service_of
from kubelb.testing import Reply


def test_each_request_has_an_endpoint_of_its_own(session, service, balance):
    """Three requests of one session reach three pods."""
    svc = service(3)
    client = session(balance(*svc, policy="round_robin"))
    assert [client.get(URL).status_code for _ in range(3)] == [200, 200, 200]
    assert [backend.requests for backend in svc] == [1, 1, 1]


def test_the_server_sees_the_name_and_never_its_own_address(session, service, balance):
    """Host carries the URL's host and port, the port is never dialled, and the response keeps URL and request."""
    svc = service(1)
    client = session(balance(*svc))
    for url, host in (
        ("http://reviews.prod/a?b=c", "reviews.prod"),
        ("http://reviews.prod:81/a?b=c", "reviews.prod:81"),
        ("http://reviews.prod:80/a?b=c", "reviews.prod"),
        ("http://me:pw@reviews.prod/a?b=c", "reviews.prod"),
    ):
        response = client.get(url)
        assert svc[0].log[-1].headers["host"] == host
        assert svc[0].log[-1].target == "/a?b=c"
        assert (response.url, response.request.url) == (url, url)
        assert "Host" not in response.request.headers
    client.get(URL, headers={"host": "other.name"})
    assert svc[0].log[-1].headers["host"] == "other.name"


def test_cookies_belong_to_the_service(session, service, balance):
    """A cookie that one pod sets comes back to the next one."""
    svc = service(2, handler=lambda request: Reply(200, request.headers.get("cookie", ""), {"set-cookie": "a=1"}))
    client = session(balance(*svc, policy="round_robin"))
    assert [client.get(URL).text for _ in range(2)] == ["", "a=1"]
    assert client.cookies.list_domains() == ["reviews.prod"]


@pytest.mark.parametrize("location", ["/there", "http://reviews.prod/there", "http://reviews.prod:8080/there"])
def test_a_redirect_is_a_balanced_request_of_its_own(session, service, balance, location):
    """Relative and absolute redirects are followed, each hop to an endpoint of its own; history tells of them."""

    def answer(request):
        return Reply(302, "", {"location": location}) if request.path == "/here" else Reply(200, request.path)

    svc = service(2, handler=answer)
    response = session(balance(*svc, policy="round_robin")).get(URL + "here")
    assert response.text == "/there"
    assert [hop.url for hop in response.history] == [URL + "here"]
    assert response.url == (location if "//" in location else "http://reviews.prod/there")
    assert [backend.requests for backend in svc] == [1, 1]


def test_a_redirect_to_another_host_never_reaches_a_pod(session, service, balance):
    """It raises an error of kubelb that is also requests' ConnectionError, and says what to do."""
    svc = service(1, handler=lambda request: Reply(302, "", {"location": "http://elsewhere.example/steal"}))
    client = session(balance(*svc), hosts=["reviews.prod"])
    with pytest.raises(kubelb.WrongHost, match=r"mount\(session, lb\)") as caught:
        client.get(URL, auth=("me", "secret"))
    assert isinstance(caught.value, requests.ConnectionError)
    assert caught.value.request.url == "http://elsewhere.example/steal"
    assert "secret" not in str(caught.value)
    assert svc.requests == 1


def test_mount_takes_exactly_the_names_of_its_service(cluster, service):
    """A session matches prefixes: neither a longer name nor one behind an @ gets in, and any port does."""
    svc = service(1)
    name = f"{svc.name}.{svc.namespace}"
    with (
        kubelb.LoadBalancer(svc.address, discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)) as lb,
        Session() as client,
    ):
        adapter = mount(client, lb)
        for host in (name, name.upper(), f"{name}:8080", f"{name}.svc", f"{name}.svc.cluster.local", f"{name}."):
            assert client.get(f"http://{host}/").status_code == 200
        assert svc.requests == 6
        for url in (f"http://{name}.evil.example/", f"http://{name}-2.example/", "http://127.0.0.1/"):
            assert client.get_adapter(url) is not adapter
        for host in ("evil.example", "127.0.0.1:1"):
            with pytest.raises(kubelb.WrongHost, match=host.partition(":")[0]):
                client.get(f"http://{name}:x@{host}/")
        assert svc.requests == 6
        assert client.get_adapter(f"https://{name}/") is adapter


def test_mount_needs_a_name(balance):
    """A static list has none of its own."""
    with requests.Session() as client, pytest.raises(ValueError, match="hosts="):
        mount(client, balance("127.0.0.1:9"))


def test_hosts_given_by_the_user(session, service, balance):
    """`hosts=` replaces the names, whatever their case; a string, a URL or a port in it is refused."""
    svc = service(1)
    lb = balance(*svc)
    client = session(lb, hosts=["Api.Example.", "münchen.example", "::1"])
    for host in ("api.example", "API.example.", "münchen.example", "[::1]:80"):
        assert client.get(f"http://{host}/").status_code == 200
    assert svc[0].log[-1].headers["host"] == "[::1]"
    with pytest.raises(kubelb.WrongHost, match="hosts="):
        client.get(URL)
    with pytest.raises(TypeError, match="list"):
        Adapter(lb, hosts="api.example")
    with pytest.raises(ValueError, match="bare names"):
        Adapter(lb, hosts=["http://api.example"])


@pytest.mark.parametrize("how", ["environment", "session"])
def test_proxies_are_not_for_pods(session, service, balance, monkeypatch, how):
    """Neither HTTP_PROXY nor the session's proxies get between an adapter and its pods."""
    svc = service(1)
    client = session(balance(*svc))
    if how == "environment":
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    else:
        client.proxies = {"http": "http://127.0.0.1:1"}
    assert client.get(URL + "x").status_code == 200
    assert svc[0].log[-1].target == "/x"


def test_digest_auth(session, service, balance):
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
    client = session(balance(*svc, policy="round_robin"))
    response = client.get(URL + "x", auth=requests.auth.HTTPDigestAuth("me", "pw"))
    assert (response.status_code, len(response.history)) == (200, 1)
    assert [backend.requests for backend in svc] == [1, 1]


def test_hooks(session, service, balance):
    """A response hook sees every response; one that raises on a status leaves nothing in flight."""
    svc = service(1, handler=lambda request: Reply(404 if request.path == "/no" else 200))
    seen = []

    def on_response(response, **options):
        seen.append((response.status_code, options["timeout"]))
        response.raise_for_status()

    client = session(balance(*svc))
    client.hooks["response"].append(on_response)
    client.get(URL + "yes")
    with pytest.raises(requests.HTTPError):
        client.get(URL + "no")
    assert seen == [(200, 30.0), (404, 30.0)]


def test_what_is_refused_is_requests_own_error_too(session, cluster, service):
    """No endpoints is a ConnectionError, with service and reason; it pickles as kubelb's own."""
    svc = service(0)
    lb = kubelb.LoadBalancer(svc.address, discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig))
    with lb, pytest.raises(kubelb.NoEndpoints) as caught:
        session(lb).get(f"http://{svc.name}.prod/")
    error = caught.value
    assert isinstance(error, requests.ConnectionError)
    assert (error.request.method, error.response, error.errno) == ("GET", None, None)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kubelb.NoEndpoints
    assert str(copy) == str(error)
    with pytest.raises(kubelb.Closed) as caught:
        session(lb).get(f"http://{svc.name}.prod/")
    assert isinstance(caught.value, requests.ConnectionError)


@pytest.mark.parametrize(
    ("timeout", "patience", "refused", "caught"),
    [
        (0.2, 5.0, kubelb.DeadlineExceeded, requests.Timeout),
        (5.0, 0.2, kubelb.NotReady, requests.ConnectionError),
    ],
)
def test_waiting_for_the_first_endpoints(session, timeout, patience, refused, caught):
    """The caller's timeout that ends it is a Timeout, the load balancer's patience a ConnectionError."""
    options = {"kubeconfig": "/nonexistent", "ready_timeout": patience}
    with kubelb.LoadBalancer("kube:///reviews.prod:http", **spelled(options)) as lb, pytest.raises(refused) as error:
        session(lb).get(URL, timeout=timeout)
    assert isinstance(error.value, caught)


def test_an_unknown_scheme_is_the_callers_mistake(session, service, balance):
    """It raises what requests raises, and blames no endpoint."""
    lb = balance(*service(1))
    client = session(lb)
    client.mount("ftp://", client.get_adapter(URL))
    with pytest.raises(requests.exceptions.InvalidSchema):
        client.get("ftp://reviews.prod/")
    (state,) = service_of(lb).balancer.states()
    assert (state.failures, state.successes) == (0, 0)


def test_an_adapter_is_not_pickled(balance):
    """Neither it nor a session that holds it; it says why."""
    client = requests.Session()
    lb = balance("127.0.0.1:9")
    mount(client, lb, hosts=["reviews.prod"])
    with pytest.raises(TypeError, match="each process"):
        pickle.dumps(client)
    client.close()


def test_without_requests_the_extra_is_named():
    """An ImportError that says which pip command brings it."""
    code = "import sys; sys.modules['requests'] = None\nimport kubelb.adapters.requests"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: " in done.stderr
    assert "pip install 'kubelb[requests]'" in done.stderr


def test_closing_an_adapter_leaves_a_given_load_balancer_open(service):
    """It closes the one that it made from a target, and no other."""
    svc = service(1)
    target = f"static:///{svc[0].address}"
    with kubelb.LoadBalancer(target) as lb:
        with Session() as client:
            mount(client, lb, hosts=["reviews.prod"])
            assert client.get(URL).status_code == 200
        assert lb.call(lambda attempt: attempt.number) == 1
    adapter = Adapter(target)
    adapter.close()
    adapter.close()
    with pytest.raises(kubelb.Closed):
        adapter.lb.balancer.pick()
