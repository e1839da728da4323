"""The wheel as a user gets it: `python tests/check_wheel.py dist`.

Installs it alone into an empty environment: `import kubelb` must work, and whatever needs an extra must say in an
ImportError which pip command brings it. Then with each extra by itself, in the newest versions that there are, and uses
it (`tests/extras`; with the lowest ones `make matrix` does). Both must be complete: the wheel has each file of the
package, and the sdist each file of the repository.
"""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from extras import __main__ as extras

ROOT = Path(__file__).parents[1]

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
    complete(wheel, sdist)
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
    return extras.main(wheel=wheel)


def complete(wheel: Path, sdist: Path) -> None:
    """Compare both with what is in the repository, or in the sdist that this is run from."""
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*") if path.is_file())
    package = {name for name in files if "__pycache__" not in name}
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    lacking = sorted({*package, *done.stdout.splitlines()} - names)
    assert not lacking, f"{sdist.name} lacks {lacking}"
    with zipfile.ZipFile(wheel) as packed:
        lacking = sorted(package - {f"src/{name}" for name in packed.namelist()})
    assert not lacking, f"{wheel.name} lacks {lacking}"


def run(python: str, code: str) -> None:
    subprocess.run([python, "-W", "error", "-c", code], check=True, cwd="/")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
