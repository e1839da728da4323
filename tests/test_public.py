"""What users import: the names there are, what importing them loads, and that their docstrings' examples hold."""

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import kubelb
from kubelb.core import policies
from kubelb.service import service_of

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


def test_a_load_balancer_has_a_dozen_names() -> None:
    """What stands behind it is the Service's: none of its names is a LoadBalancer's, and an unknown one is an error."""
    with kubelb.LoadBalancer("static:///127.0.0.1:1") as lb:
        names = {name for name in dir(service_of(lb)) if not name.startswith("__")}
        assert {name for name in names if hasattr(lb, name)} == {
            *("aclose", "await_ready", "close", "endpoints", "health", "on_event", "resync_now"),
            *("target", "wait_ready"),
        }
        assert hasattr(lb, "balancer") is False
        assert {"balancer", "feed", "run", "watch", "_budget"} <= names
        with pytest.raises(AttributeError, match="'LoadBalancer' object has no attribute 'watch'"):
            _ = lb.watch  # type: ignore[attr-defined]


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


def test_names_are_where_they_are_said_to_be() -> None:
    """The half that type checkers read and the half that runs name the same, each from the same module."""
    tree = ast.parse(Path(kubelb.__file__).read_text(encoding="utf-8"))
    (chosen,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in chosen.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.name != "*"
    }
    listed = {name for name in kubelb.__all__ if name not in policies.__all__}
    assert told.keys() == listed | {"core", "errors", "events"}  # modules, which `import *` does not bring
    for name, place in told.items():
        module, _, own = place.rpartition(".")
        assert getattr(kubelb, name) is getattr(importlib.import_module(module), own)
    assert set(policies.__all__) < set(kubelb.__all__) < set(dir(kubelb))
    with pytest.raises(AttributeError, match="module 'kubelb' has no attribute 'LoadBalancers'"):
        kubelb.LoadBalancers  # type: ignore[attr-defined]  # noqa: B018


def test_modules_are_there_without_an_import_of_their_own() -> None:
    """The kind: a name that is there or not, by what else was touched: ``except kubelb.errors.NotReady`` of all."""
    for path in ("core.Balancer", "errors.NotReady", "events.Ejected", "policies.Only"):
        assert run(f"import kubelb; print(kubelb.{path}.__name__)") == path.partition(".")[2]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_kubelb_costs_next_to_nothing() -> None:
    """The kind: processes that balance nothing pay for what only a load balancer needs. Of kubelb itself three small
    files are loaded, and nothing of Python's that is dear.
    """
    code = "import sys; before = set(sys.modules); import kubelb; print(*sorted(set(sys.modules) - before))"
    loaded = run(code).split()
    assert [name for name in loaded if name.startswith("kubelb")] == ["kubelb", "kubelb.itself", "kubelb.lazily"]
    assert not {"ast", "dataclasses", "inspect", "logging", "queue", "random", "socket", "threading"} & set(loaded)


def test_all_that_users_import_comes_with_a_load_balancer() -> None:
    """The kind: a name that is first asked for in an ``except`` clause is loaded while a failure is handled, where no
    descriptor may be left for it. With `LoadBalancer` each of them is there; `import *` and `from` find them, too.
    """
    code = (
        "import sys, kubelb; kubelb.LoadBalancer; before = set(sys.modules)\n"
        "[getattr(kubelb, name) for name in kubelb.__all__ if name != 'policies']\n"
        "print([name for name in sys.modules if name not in before and name.startswith('kubelb')])\n"
        "from kubelb import *; print(LoadBalancer.__name__, RingHash.__name__, policies.PeakEwma.__name__)"
    )
    assert run(code).split("\n") == ["[]", "LoadBalancer RingHash PeakEwma"]


def test_forks_are_looked_after_before_anything_is_loaded() -> None:
    """The kind: a thread loads a part of kubelb, another one forks, and the child waits for that part for ever. What
    has forks wait is the first that is loaded, whichever name is asked for.
    """
    for name in ("Retry", "LoadBalancer", "RingHash", "policies", "hints", "__all__"):
        # They stand there in the order in which they were whole.
        loaded = run(f"import sys, kubelb; kubelb.{name}; print(*(n for n in sys.modules if n.startswith('kubelb')))")
        assert loaded.split()[3:5] == ["kubelb.clock", "kubelb.process"]


def test_logging_is_there_before_a_fork_is_waited_for() -> None:
    """Its hook takes its lock before a fork: after kubelb's wait for what is being loaded, which may log."""
    assert (
        run("import sys, kubelb.core; print(list(sys.modules).index('logging') < list(sys.modules).index('mmap'))")
        == "True"
    )
