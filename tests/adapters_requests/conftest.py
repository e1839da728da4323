"""What the tests of the adapter for requests share: sessions; servers and load balancers are those of all adapters."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from tests.adapters.conftest import balance, cluster, in_flight, raw, service, state
from tests.waiting import until

from kubelb.adapters.requests import Adapter

__all__ = ["Session", "balance", "cluster", "in_flight", "raw", "service", "state", "until"]

URL = "http://reviews.prod/"


class Session(requests.Session):
    """A session whose requests do not wait for ever."""

    def request(self, *args: Any, **options: Any) -> requests.Response:
        options.setdefault("timeout", 30.0)
        return super().request(*args, **options)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of this machine would take the place of a session's `verify`: requests' own precedence."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def session() -> Iterator[Callable[..., Session]]:
    """Makes sessions that send everything through an adapter; closed when the test ends."""
    made: list[Session] = []

    def make(lb: Any, **options: Any) -> Session:
        adapter = Adapter(lb, **options)
        session = Session()
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        made.append(session)
        return session

    yield make
    for session in made:
        session.close()
