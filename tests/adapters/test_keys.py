"""Where a request's key comes from: what is said with it, the hints around it, then what the policy reads from it."""

from typing import Any

import pytest
from tests.adapters.keyed import Recording
from tests.adapters.world import World

from kubelb import hints

URL = "http://reviews.prod/carts/7?full=1"


def test_a_policy_that_asks_for_nothing_gets_nothing(world: World, service: Any, balance: Any) -> None:
    """Whatever a request may hold, nobody looks."""
    policy = Recording()
    client = world.client(balance(*service(1), policy=policy))
    world.get(client, URL, headers={"x-user": "u7"})
    assert policy.keys == [None]


@pytest.mark.parametrize(
    ("source", "headers", "key"),
    [
        ({"header": "X-User"}, {"x-user": "u7"}, "u7"),
        ({"header": "X-User"}, {}, None),
        ({"cookie": "session"}, {"cookie": "theme=dark; session=s1"}, "s1"),
        ({"path": True}, {}, b"/carts/7"),
        ({"header": "x-user", "path": True}, {}, b"/carts/7"),
    ],
)
def test_header_cookie_and_path(
    world: World, service: Any, balance: Any, source: dict[str, Any], headers: dict[str, str], key: Any
) -> None:
    """As the policy wants it, with any method."""
    policy = Recording(**source)
    client = world.client(balance(*service(1), policy=policy))
    world.get(client, URL, headers=headers)
    world.request(client, "POST", URL, headers=headers, content=b"x")
    assert policy.keys == [key] * 2


def test_a_cookie_that_the_client_keeps(world: World, service: Any, balance: Any) -> None:
    """A session's cookie is in the request by the time it is balanced."""
    policy = Recording(cookie="session")
    client = world.client(balance(*service(1), policy=policy), cookies={"session": "s1"})
    world.get(client, URL)
    assert policy.keys == ["s1"]


def test_the_callers_word_goes_first(world: World, service: Any, balance: Any) -> None:
    """The request's own, then the block's, then the header."""
    policy = Recording(header="x-user")
    client = world.client(balance(*service(1), policy=policy))
    with hints(key="hinted"):
        world.get(client, URL, headers={"x-user": "u7"})
        world.get(client, URL, extensions={"kubelb": {"key": b"own"}})
    with hints(idempotent=True):
        world.get(client, URL, headers={"x-user": "u7"})
    assert policy.keys == ["hinted", b"own", "u7"]


def test_a_key_of_another_type_is_the_callers_mistake(world: World, service: Any, balance: Any) -> None:
    """Said before anything is sent, with value and cure; no endpoint is to blame."""
    lb = balance(*service(1))
    client = world.client(lb)
    with pytest.raises(TypeError, match=r"key=7: give text or bytes, e.g. str\(key\)"):
        world.get(client, URL, extensions={"kubelb": {"key": 7}})
    assert [view.picks for view in lb.endpoints()] == [0]


def test_the_same_key_goes_to_the_same_endpoint(world: World, service: Any, balance: Any) -> None:
    """Through a real ring: each user's requests are all at one of five pods, and not all users at the same."""
    client = world.client(balance(*service(5), policy="ring_hash"))
    homes = []
    for user in range(8):
        with hints(key=f"user-{user}"):
            (home,) = {world.get(client, URL).headers["x-backend"] for _ in range(4)}
        homes.append(home)
    assert len(set(homes)) > 1


def test_a_dead_pods_keys_go_to_the_same_next_one(world: World, service: Any, balance: Any) -> None:
    """No error is seen, neither before its ejection nor after; whose pods live stays where he is."""
    pods = service(5)
    client = world.client(balance(*pods, policy="ring_hash", slow_start=None))

    def homes() -> dict[str, str]:
        found = {}
        for user in range(12):
            with hints(key=f"user-{user}"):
                (found[f"user-{user}"],) = {world.get(client, URL).headers["x-backend"] for _ in range(2)}
        return found

    before = homes()
    dead = before["user-0"]
    next(pod for pod in pods if pod.name == dead).kill()
    after = homes()
    assert dead not in after.values()
    assert {user: home for user, home in after.items() if before[user] != dead} == {
        user: home for user, home in before.items() if home != dead
    }
    with hints(key="user-0"):
        assert {world.get(client, URL).headers["x-backend"] for _ in range(20)} == {after["user-0"]}
