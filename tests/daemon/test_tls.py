"""TLS on the TCP port: who is trusted by whom, which files are refused and how, certificates renewed while it runs."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from running_daemon import RunningDaemon, steered
from soundctm_daemon.errors import SettingsError
from soundgen import paths
from soundgen.client import Client
from soundgen.connection import Connection, credentials
from soundgen.errors import TlsError
from soundgen.tls import Tls, read_authorities, read_identity

LONG_AGO = datetime.datetime(2019, 1, 1)
PAST = datetime.datetime(2020, 1, 1)
FUTURE = datetime.datetime(2090, 1, 1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def served(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    """Settings of a daemon with a certificate for 127.0.0.1."""
    cert, key = write(authority.issue_cert("127.0.0.1", "localhost"), tmp_path / "daemon")
    return {"tls_cert": cert, "tls_key": key}


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    return authority_file(authority, tmp_path / "ca.pem")


def write(cert: trustme.LeafCert, folder: Path) -> tuple[Path, Path]:
    """Certificate and key as files. A renewal replaces them as a certificate client does."""
    folder.mkdir(exist_ok=True)
    for name, blobs in (("cert.pem", cert.cert_chain_pems), ("key.pem", [cert.private_key_pem])):
        new = folder / f"{name}.new"
        new.write_bytes(b"".join(blob.bytes() for blob in blobs))
        new.chmod(0o600)
        new.replace(folder / name)
    return folder / "cert.pem", folder / "key.pem"


def authority_file(authority: trustme.CA, path: Path) -> Path:
    path.write_bytes(authority.cert_pem.bytes())
    return path


def check_health(connection: Connection) -> int:
    with connection.channel() as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    return int(answer.status)


def shown_by(daemon: RunningDaemon) -> str:
    """The certificate the daemon shows to a new connection."""
    host, _, port = daemon.listening.address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


def test_a_client_that_knows_the_authority_is_served(models: Path, served: dict[str, Any], ca: Path) -> None:
    with RunningDaemon(steered(), **served) as daemon:
        connection = Connection.resolve(daemon.listening.address, None, Tls(ca))
        assert check_health(connection)
        assert asyncio.run(check_health_async(connection))
        with Client(daemon.listening.address, tls=Tls(ca)) as client:
            assert client.models()
        with Client() as client:  # the Unix socket stays as it is
            assert client.models()


async def check_health_async(connection: Connection) -> int:
    async with connection.aio_channel() as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    return int(answer.status)


def test_plain_text_and_strangers_authorities_find_nobody(models: Path, served: dict[str, Any], tmp_path: Path) -> None:
    stranger = authority_file(trustme.CA(), tmp_path / "stranger.pem")
    with RunningDaemon(steered(), **served) as daemon:
        for tls in (None, Tls(stranger), Tls()):
            with pytest.raises(grpc.RpcError) as caught:
                check_health(Connection(daemon.listening.address, "x", tls))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_name_the_certificate_does_not_hold_is_not_trusted(
    models: Path, authority: trustme.CA, ca: Path, tmp_path: Path
) -> None:
    cert, key = write(authority.issue_cert("elsewhere.example"), tmp_path / "elsewhere")
    with RunningDaemon(steered(), tls_cert=cert, tls_key=key) as daemon:
        with pytest.raises(grpc.RpcError) as caught:
            check_health(Connection(daemon.listening.address, "x", Tls(ca)))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_daemon_that_asks_for_certificates_takes_its_own_authoritys(
    models: Path, served: dict[str, Any], ca: Path, authority: trustme.CA, tmp_path: Path
) -> None:
    cert, key = write(authority.issue_cert("studio@example.org"), tmp_path / "client")
    foreign_cert, foreign_key = write(trustme.CA().issue_cert("studio@example.org"), tmp_path / "foreign")
    with RunningDaemon(steered(), **served, tls_client_ca=ca) as daemon:
        mutual = Connection(daemon.listening.address, "x", Tls(ca, cert, key))
        assert check_health(mutual)
        for tls in (Tls(ca), Tls(ca, foreign_cert, foreign_key)):
            with pytest.raises(grpc.RpcError) as caught:
                check_health(replace(mutual, tls=tls))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with mutual.channel() as channel, pytest.raises(grpc.RpcError) as caught:  # a certificate is no token
            channel.unary_unary("/soundgen.v1.ModelService/ListModels")(b"", timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_renewed_certificate_is_taken_without_a_restart_and_a_wrong_one_is_not(
    models: Path, authority: trustme.CA, ca: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "daemon"
    cert, key = write(authority.issue_cert("127.0.0.1"), folder)
    with RunningDaemon(steered(), tls_cert=cert, tls_key=key) as daemon:
        first = shown_by(daemon)
        write(authority.issue_cert("127.0.0.1"), folder)
        renewed = shown_by(daemon)
        assert renewed != first
        key.write_text("half a key")
        assert shown_by(daemon) == renewed
        assert "the former ones go on" in caplog.text
        cert.unlink()
        assert check_health(Connection(daemon.listening.address, "x", Tls(ca)))


def refused(settings: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught, RunningDaemon(steered(), **settings):
        pass
    return str(caught.value)


def test_files_that_cannot_be_used_stop_the_start_and_are_named(
    models: Path, served: dict[str, Any], authority: trustme.CA, tmp_path: Path
) -> None:
    cert, key = served["tls_cert"], served["tls_key"]
    _, other_key = write(authority.issue_cert("127.0.0.1"), tmp_path / "other")
    junk, locked = tmp_path / "junk.pem", tmp_path / "locked.pem"
    junk.write_bytes(b"\x00\xff no certificate")
    locked.write_bytes(
        serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    missing = tmp_path / "missing.pem"
    for change, said in (
        ({"tls_cert": missing}, f"{missing} cannot be read (No such file or directory)"),
        ({"tls_key": missing}, f"{missing} cannot be read"),
        ({"tls_key": tmp_path}, f"{tmp_path} cannot be read (Is a directory)"),
        ({"tls_client_ca": missing}, f"{missing} cannot be read"),
        ({"tls_cert": junk}, f"{junk} holds no certificate in PEM form"),
        ({"tls_cert": key}, f"{key} holds no certificate in PEM form"),
        ({"tls_client_ca": junk}, f"{junk} holds no certificate in PEM form"),
        ({"tls_key": junk}, f"{junk} and {cert} cannot be used"),
        ({"tls_key": cert}, f"{cert} and {cert} cannot be used"),
        ({"tls_key": other_key}, f"the private key {other_key} is not that of the certificate {cert}"),
        ({"tls_key": locked}, f"the private key {locked} is locked by a passphrase"),
    ):
        assert said in refused({**served, **change})


@pytest.mark.parametrize(
    ("begins", "ends", "said"), [(LONG_AGO, PAST, "certificate has expired"), (FUTURE, None, "not yet valid")]
)
@pytest.mark.parametrize("of_client", [False, True])
def test_a_certificate_out_of_its_time_is_refused(
    authority: trustme.CA, tmp_path: Path, begins: Any, ends: Any, said: str, of_client: bool
) -> None:
    cert, key = write(authority.issue_cert("127.0.0.1", not_before=begins, not_after=ends), tmp_path / "late")
    with pytest.raises(TlsError, match=rf"cert\.pem would be refused: .*{said}"):
        read_identity(cert, key, of_client=of_client)


def test_authorities_that_have_all_expired_are_refused(tmp_path: Path) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, LONG_AGO, PAST)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    old = tmp_path / "old.pem"
    old.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    with pytest.raises(TlsError, match=r"every authority in .*old\.pem has expired"):
        read_authorities(old)


def test_a_clients_files_are_checked_before_it_dials(ca: Path, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="go together"):
        credentials(Tls(ca, cert=ca))
    with pytest.raises(TlsError, match=r"missing\.pem cannot be read"):
        Connection("127.0.0.1:1", "x", Tls(tmp_path / "missing.pem")).channel()


@pytest.mark.parametrize("address", ["studio:50717", "10.0.0.7:50717", "[2001:db8::1]:50717", "dns:///studio:1", ":1"])
def test_a_token_does_not_cross_a_network_in_the_clear_untold(address: str, ca: Path) -> None:
    with pytest.raises(TlsError, match="is on another machine; without TLS"):
        Connection.resolve(address, "x")
    assert Connection.resolve(address, "x", plain_text=True).tls is None
    assert Connection.resolve(address, "x", Tls(ca)).tls == Tls(ca)


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1", "ipv4:127.0.0.1:1"])
def test_this_machine_is_dialled_without_more(address: str) -> None:
    assert Connection.resolve(address, "x").target == address


def test_the_unix_socket_speaks_no_tls(ca: Path) -> None:
    with pytest.raises(TlsError, match="which speaks no TLS"):
        Connection.resolve("unix:/tmp/daemon.sock", "x", Tls(ca))


def test_the_environment_names_a_daemon_elsewhere(monkeypatch: pytest.MonkeyPatch, ca: Path) -> None:
    assert Connection.resolve(None, "x") == Connection(f"unix:{paths.socket_path()}", "x", None)
    monkeypatch.setenv("SOUNDCTM_ADDRESS", "studio:50717")
    with pytest.raises(TlsError, match="SOUNDCTM_CA"):
        Connection.resolve(None, "x")
    monkeypatch.setenv("SOUNDCTM_CA", str(ca))
    assert Connection.resolve(None, "x") == Connection("studio:50717", "x", Tls(ca))
