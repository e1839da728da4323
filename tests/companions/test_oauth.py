"""OAuth clients: the token is fetched, used and renewed, while each request goes to its own pod."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session
from tests.companions.pods import counts, serving

import kubelb
from kubelb.adapters import httpx2 as twin
from kubelb.adapters.requests import mount
from kubelb.testing import Received, Reply, Service

URL = "http://reviews.prod"
TOKEN = f"{URL}/token"
OLD = {"access_token": "old", "refresh_token": "r", "token_type": "Bearer", "expires_at": time.time() - 60}


def handler(request: Received) -> Reply:
    """Grant a token for an hour, and want it for everything else."""
    if request.path == "/token":
        grant = parse_qs(request.body.decode())["grant_type"][0]
        token = {"access_token": grant, "refresh_token": "r", "token_type": "Bearer", "expires_in": 3600}
        return Reply(200, json.dumps(token), {"content-type": "application/json"})
    bearer = request.headers.get("authorization", "")
    return Reply(200 if bearer.startswith("Bearer ") else 401, bearer)


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Service, kubelb.LoadBalancer]]:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    with serving("reviews.prod", handler) as pair:
        yield pair


def by_requests_oauthlib(lb: kubelb.LoadBalancer, token: Any = None) -> Any:
    session = OAuth2Session(
        client=BackendApplicationClient("me"),
        token=token,
        auto_refresh_url=TOKEN,
        auto_refresh_kwargs={"client_id": "me", "client_secret": "s"},
        token_updater=lambda token: None,
    )
    mount(session, lb)
    return session


def by_authlib_on_requests(lb: kubelb.LoadBalancer, token: Any = None) -> Any:
    session = AuthlibSession("me", "s", token=token, token_endpoint=TOKEN, grant_type="client_credentials")
    mount(session, lb)
    return session


def by_authlib_on_httpx2(lb: kubelb.LoadBalancer, token: Any = None) -> Any:
    mounts = twin.mounts(lb)
    return OAuth2Client("me", "s", token=token, token_endpoint=TOKEN, grant_type="client_credentials", mounts=mounts)


CLIENTS = [by_requests_oauthlib, by_authlib_on_requests, by_authlib_on_httpx2]


@pytest.mark.parametrize("make", CLIENTS)
def test_a_token(pods, make):
    """Fetched from one pod, valid at all of them; a dead one is not noticed."""
    service, lb = pods
    with make(lb) as client:
        client.fetch_token(TOKEN, client_secret="s")
        assert [client.get(f"{URL}/x").text for _ in range(5)] == ["Bearer client_credentials"] * 5
        assert counts(service) == [2, 2, 2]
        service[0].kill()
        assert [client.get(f"{URL}/x").text for _ in range(4)] == ["Bearer client_credentials"] * 4
        assert counts(service)[0] == 0


@pytest.mark.parametrize("make", CLIENTS)
def test_an_old_token(pods, make):
    """It is renewed first: one more request, to a pod of its own."""
    service, lb = pods
    with make(lb, dict(OLD)) as client:
        assert [client.get(f"{URL}/x").text for _ in range(2)] == ["Bearer refresh_token"] * 2
    assert counts(service) == [1, 1, 1]


def test_asyncio(pods):
    """Authlib's asyncio client: one renewal for all that wait for it."""
    service, lb = pods

    async def main() -> None:
        mounts = twin.async_mounts(lb)
        async with AsyncOAuth2Client("me", "s", token=dict(OLD), token_endpoint=TOKEN, mounts=mounts) as client:
            answers = await asyncio.gather(*(client.get(f"{URL}/x") for _ in range(8)))
            assert [answer.text for answer in answers] == ["Bearer refresh_token"] * 8
            assert counts(service) == [3, 3, 3]
            service[0].kill()
            assert (await client.get(f"{URL}/x")).text == "Bearer refresh_token"

    asyncio.run(main())
