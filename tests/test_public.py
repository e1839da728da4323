"""What users import: the names there are, what importing them loads, and that their docstrings' examples hold."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import kubelb
from kubelb.core import policies

HEAVY = [
    *("aiohttp", "asyncio", "dns", "grpc", "httpx", "kubernetes", "msgspec", "opentelemetry", "requests", "ssl"),
    *("tenacity", "urllib3", "xxhash"),
]


def modules() -> list[str]:
    found = [info.name for info in pkgutil.walk_packages(kubelb.__path__, "kubelb.")]
    return ["kubelb", *(name for name in found if not name.endswith("__main__"))]


def test_all_names_are_there_and_documented() -> None:
    """`kubelb.__all__` is importable, complete, without repetition, and each name has a docstring."""
    names = [name for name in kubelb.__all__ if name != "policies"]
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(kubelb, name).__doc__, name
    public = {name for name, value in vars(kubelb).items() if isinstance(value, type) and not name.startswith("_")}
    assert public <= set(kubelb.__all__)


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_exports(name: str) -> None:
    """Whatever a module lists in `__all__` it has, and every module opens with a docstring."""
    module = importlib.import_module(name)
    assert module.__doc__, name
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported), f"{name}.{exported}"


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_hold(name: str) -> None:
    """Examples in docstrings print what they say; also those of names that are loaded when they are asked for."""
    module = importlib.import_module(name)
    for exported in getattr(module, "__all__", ()):
        getattr(module, exported)
    assert doctest.testmod(module).failed == 0


def test_importing_kubelb_loads_nothing_heavy() -> None:
    """`import kubelb`, a load balancer over a static list and a call load no client library and no event loop."""
    code = (
        "import sys, kubelb\n"
        "with kubelb.LoadBalancer('static:///127.0.0.1:1') as lb: lb.call(lambda attempt: attempt)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_policies_by_name() -> None:
    """The string of a policy is its class's name in snake_case; another one is an error that lists them."""
    for name, kind in policies.REGISTRY.items():
        assert kind.__name__ == "".join(word.title() for word in name.split("_"))
        assert isinstance(policies.policy_from(name), kind)
        assert getattr(kubelb, kind.__name__) is getattr(kubelb.policies, kind.__name__) is kind
        assert kind.__name__ in kubelb.__all__
    with pytest.raises(ValueError, match=f"'fastest' is unknown; there are {', '.join(policies.REGISTRY)}"):
        kubelb.LoadBalancer("a.b:c", policy="fastest")
    with pytest.raises(TypeError, match="has no build"):
        kubelb.LoadBalancer("a.b:c", policy=7)  # type: ignore[arg-type]


def test_what_a_load_balancer_shows() -> None:
    """What users need, and nothing of what adapters, forks, patches and threads need."""
    users = {
        *("acall", "aclose", "await_ready", "call", "close", "endpoints", "health", "on_event", "resync_now"),
        *("target", "wait_ready"),
    }
    with kubelb.LoadBalancer("static:///127.0.0.1:1") as lb:
        assert {name for name in dir(lb) if not name.startswith("_")} == users
