"""What clients find a cluster by: its folder with kubeconfigs, the mount of a service account, and the CA.

Files are replaced in one step and readable by their owner alone; all of them go when the cluster closes.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from uuid import uuid4

from kubelb.testing import kubeconfig
from kubelb.testing.certificates import Authority
from kubelb.testing.users import READ, User, Users

OWNER = User("system:serviceaccount:default:kubelb", verbs=READ, resources=("endpointslices", "services"))


class Identity:
    """The owner's token and every file that holds it. `publish` writes them once the API has a URL."""

    def __init__(self, users: Users) -> None:
        self.token = users.add(OWNER)
        self._users = users
        self._url = ""
        self._tls = False
        self._folder = Path(tempfile.mkdtemp(prefix="kubelb-testing-"))
        self._authority: Authority | None = None

    @property
    def authority(self) -> Authority:
        """Made when it is first asked for. Raises `ImportError` without trustme."""
        if self._authority is None:
            self._authority = Authority(self._folder)
        return self._authority

    @property
    def kubeconfig(self) -> Path:
        return self._folder / "kubeconfig"

    @property
    def mount(self) -> Path:
        return self._folder / "serviceaccount"

    def publish(self, url: str, *, tls: bool) -> None:
        """Write the files for an API at `url`."""
        self._url, self._tls = url, tls
        self.mount.mkdir()
        (self.mount / "namespace").write_text("default")
        if tls:
            (self.mount / "ca.crt").write_text(self.authority.pem)
        self._write_token()

    def kubeconfig_for(self, token: str, namespace: str) -> Path:
        """A new one for another token."""
        path = self._folder / f"kubeconfig-{uuid4().hex[:8]}"
        self._write(path, token, namespace)
        return path

    def rotate(self, keep_old: bool) -> str:
        """A new token for the owner, in the same files."""
        old, self.token = self.token, self._users.add(OWNER)
        self._write_token()
        if not keep_old:
            self._users.remove(old)
        return self.token

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write_token(self) -> None:
        kubeconfig.write_private(self.mount / "token", self.token)
        self._write(self.kubeconfig, self.token, "default")

    def _write(self, path: Path, token: str, namespace: str) -> None:
        ca = str(self.authority.file) if self._tls else None
        kubeconfig.write(path, url=self._url, token=token, namespace=namespace, ca=ca)
