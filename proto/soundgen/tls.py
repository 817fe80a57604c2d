"""Certificate files, of a daemon or of a client: read, and tried on one another before anybody dials.

Everything is PEM. Files are checked by the standard library; gRPC would only say, much later, that a handshake failed.
"""

from __future__ import annotations

import ipaddress
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from soundgen.errors import TlsError

_HANDSHAKE_ROUNDS = 4  # of messages there and back; TLS 1.3 needs two


@dataclass(frozen=True)
class Tls:
    """How a client trusts and is trusted. `ca` None takes the public authorities; `cert` and `key` are for a daemon
    that asks its clients for a certificate."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Identity:
    """A certificate, those that signed it behind it, and its private key; PEM."""

    chain: bytes
    key: bytes


def read_identity(cert: Path, key: Path, *, of_client: bool) -> Identity:
    """Raises TlsError for files that cannot be read, do not belong together or would not be accepted today."""
    identity = Identity(_read(cert), _read(key))
    _require_certificates(cert, identity.chain)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    _load(server, cert, key)
    if of_client:
        _load(client, cert, key)
    judge = server if of_client else client
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted: all else is looked at
    judge.load_verify_locations(cadata=identity.chain.decode())
    try:
        _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        raise TlsError(
            f"the certificate {cert} would be refused: {error.verify_message}. `openssl x509 -in {cert} -noout -dates "
            "-purpose` shows more; get a new one, or set this machine's clock."
        ) from error
    return identity


def read_authorities(path: Path) -> bytes:
    """Certificates to trust. Raises TlsError where there are none, or all have expired."""
    pem = _read(path)
    _require_certificates(path, pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem.decode())
    ends = [ssl.cert_time_to_seconds(str(authority["notAfter"])) for authority in context.get_ca_certs()]
    if ends and max(ends) < time.time():
        raise TlsError(f"every authority in {path} has expired. Get the present one from who signs the certificates.")
    return pem


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path} cannot be read ({error.strerror}). Name a PEM file this user may read.") from error


def _require_certificates(path: Path, pem: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"{path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----).") from error


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    locked = False

    def no_passphrase() -> str:
        nonlocal locked
        locked = True
        return ""

    try:
        context.load_cert_chain(cert, key, no_passphrase)
    except (ssl.SSLError, OSError) as error:
        if locked:
            raise TlsError(
                f"the private key {key} is locked by a passphrase, which nobody is there to type. Unlock it: "
                f"`openssl pkey -in {key} -out unlocked.pem`."
            ) from error
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"the private key {key} is not that of the certificate {cert}; name the pair.") from error
        raise TlsError(f"{key} and {cert} cannot be used ({reason or 'no private key in PEM form'}).") from error


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """In memory. Raises ssl.SSLCertVerificationError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(_HANDSHAKE_ROUNDS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
