"""What is imported when."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

import kubelb

HEAVY = ["msgspec", "urllib3", "kubernetes", "ssl", "asyncio", "grpc", "dns", "httpx", "requests", "aiohttp"]


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("kubelb.discovery", set()),
        ("kubelb.discovery.base", set()),
        ("kubelb.discovery.static", set()),
        ("kubelb.discovery.ladder.source", set()),
        ("kubelb.discovery.dns.source", {"dns"}),
        ("kubelb.discovery.kube.source", {"msgspec", "ssl"}),
    ],
)
def test_imports(module, allowed):
    """A package is loaded where it is used and not before; building a source never loads the kubernetes package."""
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= allowed


@pytest.mark.parametrize(
    ("target", "there"),
    [
        ("reviews.prod:http", {"msgspec", "ssl"}),
        ("kube:///reviews.prod:http", {"msgspec", "ssl"}),
        ("dns:///reviews.prod.svc.cluster.local:80", {"dns"}),
        ("static:///127.0.0.1:80", set()),
    ],
)
def test_no_request_pays_for_imports(target, there):
    """The kind: the first request waits for what could have been imported before. It is there after the constructor,
    each target has its own alone, and building the source loads no more of kubelb.
    """
    code = (
        f"import sys, kubelb, kubelb.discovery.select as select; lb = kubelb.LoadBalancer({target!r})\n"
        "service = kubelb.service.service_of(lb)\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))\n"
        "before = set(sys.modules)\n"
        "select.source_for(lb.target, service.placing.options, service._clock, service._emit)\n"
        "print(*(name for name in sys.modules if name not in before and name.startswith('kubelb')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, more = done.stdout.split("\n")[:2]
    assert there <= set(loaded.split()) <= there | {"ssl"}
    assert more == ""


def test_no_look_up_pays_for_imports():
    """The kind: a package loads much more than what is used of it, in the middle of a first request. dnspython's
    resolver, which could read resolv.conf, brings an HTTP client, asyncio and a second; until that is over no stop
    ends the thread. Nothing at all is loaded by a look-up.
    """
    code = (
        "import sys, kubelb; lb = kubelb.LoadBalancer('dns://127.0.0.1:1/reviews:80')\n"
        "from kubelb.discovery.dns.asker import Asker\n"
        "from kubelb.discovery.dns.nameservers import Nameservers\n"
        "from kubelb.discovery.dns.steps import Question\n"
        "before = set(sys.modules)\n"
        "config = Nameservers(('127.0.0.1', 1)).config()\n"
        "asker = Asker(lambda: False); asker.ask([Question('reviews.', 'A')], config); asker.close()\n"
        "print('asked', *(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if not name.startswith("encodings")] == ["asked"]


LAPTOP = [
    *("command", "impersonate", "kubeconfig", "login", "merge", "plugin", "provider", "proxied", "serverurl", "stanza"),
]
WHERE = {"a pod": [], "a pod behind a proxy": ["proxied"], "a laptop": LAPTOP}


@pytest.mark.parametrize("where", WHERE)
def test_a_pod_does_not_pay_for_kubeconfigs_and_proxies(where):
    """The kind: every pod imports what only a laptop uses. There it is imported before the first request, as ever. A
    fork, which looks after exec plugins, loads nothing either.
    """
    pod = where != "a laptop"
    code = (
        "import sys, kubelb, kubelb.discovery.select as select; lb = kubelb.LoadBalancer('reviews.prod:http')\n"
        "service = kubelb.service.service_of(lb)\n"
        f"loaded = lambda: [name for name in {LAPTOP!r} if 'kubelb.discovery.kube.' + name in sys.modules]\n"
        "first = loaded(); select.source_for(lb.target, service.placing.options, service._clock, service._emit)\n"
        "import kubelb.discovery.kube.sharing as sharing; sharing.after_fork_in_child()\n"
        "print(*first) if first == loaded() else print('more', *loaded())"
    )
    hidden = ("KUBE", "HOME", "HTTPS_PROXY", "https_proxy")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"} if pod else {}
    environment |= {"https_proxy": "http://127.0.0.1:1"} if where == "a pod behind a proxy" else {}
    if pod:  # no token is mounted here, so a kubeconfig would be looked for all the same: say that one is
        code = f"import pathlib; pathlib.Path.exists = lambda self: True; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == WHERE[where], done.stderr


def test_no_value_is_replaced_by_way_of_a_dataclass():
    """The kind: what is a record only until something asks for a dataclass, and the first request asks. `replace` of
    the records makes none, 2 ms each.
    """
    root = pathlib.Path(kubelb.__file__).parent
    for folder in ("core", "discovery", "runtime", "telemetry", "adapters", "."):
        for path in (root / folder).glob("*.py" if folder == "." else "**/*.py"):
            if path.name not in {"kubeconfig.py", "records.py"}:  # a laptop's, and what both are made of
                text = path.read_text(encoding="utf-8")
                assert not [line for line in text.splitlines() if "dataclasses import" in line and "replace" in line], (
                    path
                )


def test_a_missing_package_is_told_by_the_source_and_not_by_the_constructor():
    """As ever: a ladder steps down from it, and health names it."""
    code = "import sys; sys.modules['msgspec'] = None; import kubelb; print(kubelb.LoadBalancer('a.b:c'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "a.b:c" in done.stdout


def test_no_circle():
    """The kind: two files that cannot be read one after the other. Imports for types and inside functions count too."""
    root = pathlib.Path(kubelb.__file__).parent.parent
    needs = {}
    for path in (root / "kubelb/discovery").rglob("*.py"):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        needs[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{each.name}" for each in node.names}
                needs[name] |= {node.module, *names}
    while leaves := [name for name, of in needs.items() if not of & needs.keys()]:
        for name in leaves:
            del needs[name]
    assert not needs
