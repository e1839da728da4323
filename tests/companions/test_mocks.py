"""The usual mocks over clients that kubelb is mounted on, with no cluster: they answer as over the bare client.

A mock that is passed by lets the request out: here it would find no cluster, and raise NotReady.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pook
import pytest
import requests
import requests_mock
import responses
import respx
import vcr

import kubelb
from kubelb.adapters import httpx2 as twin
from kubelb.adapters.httpx import async_mounts, mounts
from kubelb.adapters.requests import mount
from kubelb.testing import mocked

URL = "http://reviews.prod/x"
CASSETTE = """interactions:
- request:
    body: null
    headers: {}
    method: GET
    uri: http://reviews.prod/x
  response:
    body: {string: mocked}
    headers: {Content-Length: ['6']}
    status: {code: 200, message: OK}
version: 1
"""


@pytest.fixture
def lb() -> Iterator[kubelb.LoadBalancer]:
    """As in the tests of an application: its cluster is not there."""
    with kubelb.LoadBalancer(
        "kube:///reviews.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig="/nonexistent"), ready_timeout=0.1
    ) as lb:
        yield lb


def by_httpx(lb: kubelb.LoadBalancer) -> str:
    with httpx.Client(mounts=mounts(lb)) as client:
        return client.get(URL).text


def by_async_httpx(lb: kubelb.LoadBalancer) -> str:
    async def main() -> str:
        async with httpx.AsyncClient(mounts=async_mounts(lb)) as client:
            return (await client.get(URL)).text

    return asyncio.run(main())


def by_requests(lb: kubelb.LoadBalancer) -> str:
    with requests.Session() as session:
        mount(session, lb)
        return session.get(URL, timeout=2).text


HTTPX = pytest.mark.parametrize("get", [by_httpx, by_async_httpx])
ALL = pytest.mark.parametrize("get", [by_httpx, by_async_httpx, by_requests])


@HTTPX
def test_respx(lb, kubelb_disabled, get):
    """It patches httpcore's pools."""
    with respx.mock:
        respx.get(URL).respond(text="mocked")
        assert get(lb) == "mocked"


@HTTPX
def test_pytest_httpx(lb, kubelb_disabled, httpx_mock, get):
    """It patches the transports of httpx."""
    httpx_mock.add_response(url=URL, text="mocked")
    assert get(lb) == "mocked"


def test_responses(lb, kubelb_disabled):
    """It patches the send of requests' own adapter."""
    with responses.RequestsMock() as mock:
        mock.get(URL, body="mocked")
        assert by_requests(lb) == "mocked"


def test_requests_mock(lb):
    """It patches how a session chooses its adapter, so that it needs no help."""
    with requests_mock.Mocker() as mock:
        mock.get(URL, text="mocked")
        assert by_requests(lb) == "mocked"


@ALL
def test_vcrpy(lb, kubelb_disabled, tmp_path: Path, get):
    """It patches the connections underneath."""
    (tmp_path / "cassette.yaml").write_text(CASSETTE)
    with vcr.use_cassette(str(tmp_path / "cassette.yaml"), record_mode="none"):
        assert get(lb) == "mocked"


@ALL
def test_pook(lb, kubelb_disabled, get):
    """It patches the transports of httpx, and urllib3."""
    with pook.use():
        pook.get(URL).reply(200).body("mocked")
        assert get(lb) == "mocked"


def answer(request: Any) -> httpx.Response:
    return httpx.Response(200, text=f"mocked {request.url.host}")


@HTTPX
def test_mock_transport(lb, get):
    """It takes the place of the mounted transport, for as long as the block lasts, and other hosts are untouched."""
    with mocked(httpx.MockTransport(answer)):
        assert get(lb) == "mocked reviews.prod"
    with pytest.raises(kubelb.NotReady):
        get(lb)


def test_mock_transport_of_httpx2(lb):
    """The twin's, over the twin's client."""
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, text="mocked"))
    with httpx2.Client(mounts=twin.mounts(lb)) as client, mocked(transport):
        assert client.get(URL).text == "mocked"


def test_an_adapter_for_requests(lb):
    """A session's requests go to another adapter."""
    adapter = requests_mock.Adapter()
    adapter.register_uri("GET", URL, text="mocked")
    with mocked(adapter):
        assert by_requests(lb) == "mocked"


def test_what_is_no_transport():
    """It says what to give."""
    with pytest.raises(TypeError, match="MockTransport"):
        mocked(answer)


def test_without_help_a_mock_may_be_passed_by(lb):
    """Why there is the fixture: a pod would be picked before the mock is asked."""
    with respx.mock, pytest.raises(kubelb.NotReady):
        respx.get(URL).respond(text="mocked")
        by_httpx(lb)
