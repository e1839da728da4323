"""The wheel as a user gets it: `python tests/check_wheel.py dist`.

Installs it alone into an empty environment: `import kubelb` must work, and whatever needs an extra must say in an
ImportError which pip command brings it. The sdist must hold what is needed to test it.
"""

import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

MISSING = {
    "import kubelb.adapters.httpx": "kubelb[httpx]",
    "import kubelb.adapters.httpx2": "kubelb[httpx2]",
    "import kubelb.adapters.requests": "kubelb[requests]",
    "import kubelb.adapters.grpc": "kubelb[grpc]",
    "import kubelb.adapters.grpc.aio": "kubelb[grpc]",
    "import kubelb; kubelb.LoadBalancer('static:///127.0.0.1:80', policy='ring_hash')": "kubelb[hash]",
    "from kubelb.testing import LocalCluster as L; L().__enter__().service('a.b', grpc=True)": "kubelb[grpc]",
    "from kubelb.testing import LocalCluster; LocalCluster(tls=True).start()": "kubelb[testing]",
    "from kubelb.discovery.kube.kubeconfig import Kubeconfig; Kubeconfig({kubeconfig!r}).open()": "kubelb[kubernetes]",
}
"""What needs an extra, and the extra."""
IMPORT = "import kubelb; lb = kubelb.LoadBalancer('static:///127.0.0.1:80'); print(lb.call(lambda a: a.number))"
FAIL = """
try:
    {statement}
except ImportError as error:
    assert "pip install '{extra}'" in str(error), error
else:
    raise SystemExit("it works without {extra}")
"""


def main(dist: Path) -> int:
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("LICENSE", "README.md", "CHANGELOG.md", "src/kubelb/py.typed", "tests/conftest.py", "mkdocs.yml"):
        assert needed in names, f"{sdist.name} lacks {needed}"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, str(wheel)], check=True)
        run(python, IMPORT)
        kubeconfig = Path(folder) / "config"
        kubeconfig.touch()
        for statement, extra in MISSING.items():
            run(python, FAIL.format(statement=statement.format(kubeconfig=str(kubeconfig)), extra=extra))
        command = [str(Path(folder) / "bin" / "kubelb"), "demo"]
        demo = subprocess.run(command, capture_output=True, text=True, check=False)
        assert demo.returncode == 2, demo
        assert "pip install" in demo.stderr, demo
    print(f"{wheel.name} and {sdist.name} are whole")
    return 0


def run(python: str, code: str) -> None:
    subprocess.run([python, "-W", "error", "-c", code], check=True, cwd="/")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
