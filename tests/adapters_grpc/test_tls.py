"""TLS: verified against the service's name, client certificates, files that are renewed, per-call credentials."""

import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tests.adapters_grpc.conftest import until

import kubelb
from kubelb.adapters import grpc as balanced

NAME = "reviews.prod.svc.cluster.local"
AS = [("grpc.default_authority", NAME)]


def served(authority: trustme.CA, *names: str, clients: trustme.CA | None = None) -> Any:
    cert = authority.issue_cert(*names)
    chain = b"".join(pem.bytes() for pem in cert.cert_chain_pems)
    return grpc.ssl_server_credentials(
        [(cert.private_key_pem.bytes(), chain)],
        clients.cert_pem.bytes() if clients else None,
        clients is not None,
    )


def trusting(authority: trustme.CA) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes())


def test_the_services_name_is_verified(server: Any, balance: Any) -> None:
    """A certificate for the name is taken on a pod's address; one for the address or for another service is not."""
    authority = trustme.CA()
    right = server(credentials=served(authority, NAME))
    wrong = server(credentials=served(authority, "other.prod.svc.cluster.local", "127.0.0.1"))
    with balanced.secure_channel(balance(right), trusting(authority), AS) as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"x", timeout=20) == b"x@" + right.name
    with balanced.secure_channel(balance(wrong), trusting(authority), AS) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
    assert wrong.total == 0


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("named", rf"with TLS, is their certificate for '{NAME}'.*GRPC_VERBOSITY=info"),
        ("nameless", r"certificate for a pod's address, as there is no \('grpc.default_authority', NAME\)"),
        ("plain", r"do the pods listen there, and without TLS\?.*GRPC_VERBOSITY=info"),
    ],
)
def test_a_handshake_that_fails_says_what_to_look_at(server: Any, balance: Any, how: str, said: str) -> None:
    """From here it looks like a closed port: the error names what was verified, and where gRPC says why."""
    authority = trustme.CA()
    lb = balance(server(credentials=served(authority, "other.prod.svc.cluster.local")))
    made = {
        "named": lambda: balanced.secure_channel(lb, trusting(authority), AS),
        "nameless": lambda: balanced.secure_channel(lb, trusting(authority)),
        "plain": lambda: balanced.insecure_channel(lb),
    }
    with made[how]() as channel, pytest.raises(kubelb.Unusable, match=said):
        channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)


def test_the_wrong_one_of_two_is_passed_over(server: Any, balance: Any) -> None:
    """An address that now belongs to another service has no connection, so it gets no call."""
    authority = trustme.CA()
    right = server(credentials=served(authority, NAME))
    wrong = server(credentials=served(authority, "other.prod.svc.cluster.local"))
    with balanced.secure_channel(balance(right, wrong), trusting(authority), AS) as channel:
        for _ in range(20):
            assert channel.unary_unary("/test.Echo/UU")(b"x", timeout=20) == b"x@" + right.name
    assert wrong.total == 0


def test_the_name_comes_from_the_target(server: Any) -> None:
    """Nothing has to be said of it: SVC.NS.svc.CLUSTER_DOMAIN."""
    from kubelb.testing import LocalCluster

    with LocalCluster() as cluster:
        cluster.service("reviews.prod:grpc", replicas=2, grpc=True, tls=True)
        with (
            kubelb.LoadBalancer(
                "reviews.prod:grpc", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig), ready_timeout=20
            ) as lb,
            balanced.secure_channel(lb, balanced.TlsFiles(ca=cluster.ca_file)) as channel,
        ):
            assert channel.unary_unary("/kubelb.testing.Echo/Unary")(b"x", timeout=20) == b"x"
        with (
            kubelb.LoadBalancer(
                "reviews.prod:grpc",
                discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig, cluster_domain="other"),
            ) as lb,
            balanced.secure_channel(lb, balanced.TlsFiles(ca=cluster.ca_file)) as channel,
            pytest.raises(grpc.RpcError),
        ):
            channel.unary_unary("/kubelb.testing.Echo/Unary")(b"x", timeout=20)


def test_client_certificates(server: Any, balance: Any, tmp_path: Path) -> None:
    """mTLS from files; without the certificate no connection is made."""
    authority, clients = trustme.CA(), trustme.CA()
    one = server(credentials=served(authority, NAME, clients=clients))
    write(tmp_path, authority, clients)
    files = balanced.TlsFiles(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    with balanced.secure_channel(balance(one), files, AS) as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
    with (
        balanced.secure_channel(balance(one), balanced.TlsFiles(tmp_path / "ca.pem"), AS) as channel,
        pytest.raises(grpc.RpcError),
    ):
        channel.unary_unary("/test.Echo/UU")(b"x", timeout=5)


def write(folder: Path, authority: trustme.CA, clients: trustme.CA) -> None:
    cert = clients.issue_cert("client.prod")
    contents = {
        "ca.pem": authority.cert_pem.bytes(),
        "cert.pem": b"".join(pem.bytes() for pem in cert.cert_chain_pems),
        "key.pem": cert.private_key_pem.bytes(),
    }
    for name, content in contents.items():
        fresh = folder / f"{name}.new"
        fresh.write_bytes(content)
        fresh.replace(folder / name)


def test_renewed_files_are_read_by_the_next_connection(server: Any, balance: Any, tmp_path: Path) -> None:
    """A new authority on both sides: the open connection goes on, the next one is made with what is in the files."""
    old, new = trustme.CA(), trustme.CA()
    one = server(credentials=served(old, NAME, clients=old))
    write(tmp_path, old, old)
    files = balanced.TlsFiles(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    with balanced.secure_channel(balance(one), files, AS) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        assert echo(b"x", timeout=20)
        write(tmp_path, new, new)
        assert echo(b"x", timeout=20)
        one.stop(0)
        one._credentials = served(new, NAME, clients=new)
        one.start()
        assert until(lambda: works(echo), 20)
        assert len(channel.subs) == 1


def works(echo: Any) -> bool:
    try:
        return bool(echo(b"x", timeout=2))
    except grpc.RpcError:
        return False


def test_files_that_cannot_be_used_leave_what_was_read(
    server: Any, balance: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a renewal: the next connection is made with the old ones, and the log says which files."""
    authority = trustme.CA()
    one = server(credentials=served(authority, NAME, clients=authority))
    write(tmp_path, authority, authority)
    files = balanced.TlsFiles(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    with balanced.secure_channel(balance(one), files, AS) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        assert echo(b"x", timeout=20)
        shutil.copy(tmp_path / "ca.pem", tmp_path / "key.pem")
        one.stop(0)
        assert until(lambda: channel.subs.connectivity(False) is not grpc.ChannelConnectivity.READY)
        one.start()
        assert until(lambda: works(echo), 20)
    assert "key.pem" in caplog.text


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """An error that names the option and the file; half a pair is refused."""
    with pytest.raises(FileNotFoundError, match=r"TlsFiles\(ca='/nowhere/ca.pem'\)"):
        balanced.TlsFiles("/nowhere/ca.pem")
    with pytest.raises(ValueError, match="give both or none"):
        balanced.TlsFiles(cert="/nowhere/cert.pem")


def test_credentials_of_a_call(server: Any, balance: Any) -> None:
    """They reach the server, with a token made for the service's name; without TLS gRPC refuses them itself."""
    authority, asked = trustme.CA(), []

    class Token(grpc.AuthMetadataPlugin):
        def __call__(self, context: Any, callback: Any) -> None:
            asked.append(context.service_url)
            callback((("authorization", "Bearer of-a-test"),), None)

    token = grpc.metadata_call_credentials(Token())
    one = server(credentials=served(authority, NAME))
    with balanced.secure_channel(balance(one), trusting(authority), AS) as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"x", timeout=20, credentials=token)
        assert channel.unary_unary("/test.Echo/UU").future(b"x", credentials=token).result(timeout=20)
        assert list(channel.unary_stream("/test.Echo/US")(b"x", credentials=token))
    assert [metadata["authorization"] for metadata in one.metadata] == ["Bearer of-a-test"] * 3
    assert set(asked) == {f"https://{NAME}/test.Echo"}
    with balanced.insecure_channel(balance(server())) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Echo/UU")(b"x", timeout=5, credentials=token)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "of-a-test" not in str(caught.value)
