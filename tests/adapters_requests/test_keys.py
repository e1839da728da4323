"""Where a request's key comes from: the hints around it, then what the policy reads from it."""

import pytest
from tests.adapters.keyed import Recording

from kubelb import hints

URL = "http://reviews.prod/carts/7?full=1"


@pytest.mark.parametrize(
    ("source", "headers", "key"),
    [
        ({}, {"x-user": "u7"}, None),
        ({"header": "X-User"}, {"x-user": "u7"}, "u7"),
        ({"header": "X-User"}, {"x-user": b"u7"}, b"u7"),
        ({"header": "X-User"}, {}, None),
        ({"cookie": "session"}, {"Cookie": "theme=dark; session=s1"}, "s1"),
        ({"path": True}, {}, "/carts/7"),
    ],
)
def test_header_cookie_and_path(session, service, balance, source, headers, key):
    """As the policy wants it, with any method; where it wants none, nobody looks."""
    policy = Recording(**source)
    client = session(balance(*service(1), policy=policy))
    client.get(URL, headers=headers)
    client.post(URL, headers=headers, data=b"x")
    assert policy.keys == [key] * 2


def test_a_cookie_that_the_session_keeps(session, service, balance):
    """It is in the request by the time it is balanced."""
    policy = Recording(cookie="session")
    client = session(balance(*service(1), policy=policy))
    client.cookies.set("session", "s1")
    client.get(URL)
    assert policy.keys == ["s1"]


def test_the_callers_word_goes_first(session, service, balance):
    """The block's key, then the header."""
    policy = Recording(header="x-user")
    client = session(balance(*service(1), policy=policy))
    with hints(key="hinted"):
        client.get(URL, headers={"x-user": "u7"})
    with hints(idempotent=True):
        client.get(URL, headers={"x-user": "u7"})
    assert policy.keys == ["hinted", "u7"]
