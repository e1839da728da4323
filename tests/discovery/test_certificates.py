"""TLS files: what a context is made of, and what that leaves on a disk."""

import ssl
import tempfile

import trustme

from kubelb.discovery.kube.certificates import Material


def test_files_need_no_folder(tmp_path, monkeypatch):
    """The kind: a read-only file system. A pod's CA is a file, which OpenSSL reads where it is; content alone, as in a
    kubeconfig, needs a folder for as long as it takes to load it.
    """
    made = []

    class Seen(tempfile.TemporaryDirectory):
        def __init__(self, **options):
            super().__init__(dir=tmp_path, **options)
            made.append(self.name)

    monkeypatch.setattr(tempfile, "TemporaryDirectory", Seen)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert isinstance(Material(ca=str(tmp_path / "ca.pem")).context(), ssl.SSLContext)
    assert not made
    assert isinstance(Material(ca=authority.cert_pem.bytes()).context(), ssl.SSLContext)
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ca.pem"]
