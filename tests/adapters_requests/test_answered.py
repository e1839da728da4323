"""Which endpoint a response came from, in the response itself."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import requests
from tests.adapters_requests.conftest import URL

from kubelb.adapters.requests import answered_by
from kubelb.testing import Reply


def test_which_pod_answered(session, service, balance):
    """As httpx tells it in `extensions`: the endpoint and the attempts; each hop and each hook has its own."""

    def answer(request):
        return Reply(302, "", {"location": "/there"}) if request.path == "/here" else Reply(200, "there")

    svc = service(2, handler=answer)
    client = session(balance(*svc, policy="round_robin"))
    hooked = []
    client.hooks["response"].append(lambda response, **options: hooked.append(answered_by(response)))
    response = client.get(URL + "here")
    assert type(response) is requests.Response
    (hop,) = response.history
    told = [answered_by(hop), answered_by(response)]
    assert sorted(each["endpoint"] for each in told) == sorted(backend.address for backend in svc)
    assert [each["attempts"] for each in told] == [1, 1]
    assert hooked == told
    assert response.kubelb is answered_by(response)
    assert answered_by(requests.Response()) is None


def test_which_pod_answered_at_last(session, service, balance):
    """The number counts the attempts before it; a status that ends the tries tells, too."""
    svc = service(2)
    svc[0].fail(503)
    client = session(balance(*svc, policy="round_robin"))
    told = [answered_by(client.get(URL)) for _ in range(2)]
    assert {each["endpoint"] for each in told} == {svc[1].address}
    assert 2 in {each["attempts"] for each in told} <= {1, 2}
    svc[1].fail(500)
    with pytest.raises(requests.HTTPError) as caught:
        client.get(URL).raise_for_status()
    assert answered_by(caught.value.response)["endpoint"] == svc[1].address


@pytest.mark.parametrize("way", [lambda response: pickle.loads(pickle.dumps(response)), copy.copy, copy.deepcopy])
def test_which_pod_answered_is_kept_in_copies(session, service, balance, way):
    """Copies of copies, and the hops in their history; nothing else of a response is lost by it."""
    svc = service(1, handler=lambda request: Reply(302, "", {"location": "/x"}) if request.path == "/" else Reply(200))
    response = session(balance(*svc)).get(URL)
    told = {"endpoint": svc[0].address, "pod": "", "attempts": 1}
    again = way(way(response))
    assert answered_by(again) == told
    assert [answered_by(hop) for hop in again.history] == [told]
    assert (again.url, again.status_code, again.content) == (response.url, 200, response.content)
    assert set(vars(again)) == set(vars(way(plain_response()))) | {"kubelb", "__attrs__"}


def plain_response() -> requests.Response:
    response = requests.Response()
    response.raw = io.BytesIO()
    return response


def test_which_pod_answered_is_unpickled_without_kubelb(session, service, balance):
    """A cache or a worker may have no kubelb: it gets a response of requests, and plain values."""
    svc = service(1)
    pickled = pickle.dumps(session(balance(*svc)).get(URL))
    code = "import pickle, sys; r = pickle.loads(sys.stdin.buffer.read()); print(r.kubelb, 'kubelb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"{ {'endpoint': svc[0].address, 'pod': '', 'attempts': 1} } False"
