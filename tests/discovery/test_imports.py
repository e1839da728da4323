"""What is imported when."""

import subprocess
import sys

import pytest

HEAVY = ["msgspec", "urllib3", "kubernetes", "ssl", "asyncio", "grpc", "dns", "httpx", "requests", "aiohttp"]


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("kubelb.discovery", set()),
        ("kubelb.discovery.base", set()),
        ("kubelb.discovery.static", set()),
        ("kubelb.discovery.ladder.source", set()),
        ("kubelb.discovery.dns.source", {"dns"}),
        ("kubelb.discovery.kube.source", {"msgspec", "urllib3", "ssl"}),
    ],
)
def test_imports(module, allowed):
    """A package is loaded where it is used and not before; building a source never loads the kubernetes package."""
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= allowed
