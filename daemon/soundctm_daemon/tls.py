"""TLS for the TCP port. Certificates that were renewed are taken without a restart."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import grpc

from soundctm_daemon.errors import SettingsError
from soundctm_daemon.settings import Settings
from soundgen.errors import TlsError
from soundgen.tls import read_authorities, read_identity

_log = logging.getLogger(__name__)


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """None without `tls_cert`. Raises SettingsError for files that cannot be used."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = _Files(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    try:
        first = files.read()
    except TlsError as error:
        raise SettingsError(f"TLS cannot be set up: {error}") from error
    if settings.tls_key.stat().st_mode & 0o077:
        _log.warning("the private key %s can be used by others than its owner: `chmod 600` it", settings.tls_key)
    return grpc.dynamic_ssl_server_credentials(
        first,
        files.renewed,  # type: ignore[arg-type]  # None is documented
        require_client_authentication=settings.tls_client_ca is not None,
    )


class _Files:
    """`renewed` is called by gRPC's threads before every handshake."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._lock = threading.Lock()
        self._stamp = self._look()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Raises TlsError."""
        identity = read_identity(self._cert, self._key, of_client=False)
        authorities = None if self._client_ca is None else read_authorities(self._client_ca)
        return grpc.ssl_server_certificate_configuration([(identity.key, identity.chain)], authorities)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold when they are others than before; None keeps what is in use."""
        with self._lock:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            try:
                configuration = self.read()
            except TlsError as error:
                _log.error("the certificates have changed and cannot be used; the former ones go on. %s", error)
                return None
            _log.info("the certificates have changed; new connections get the new ones")
            return configuration

    def _look(self) -> tuple[object, ...]:
        files = (self._cert, self._key, self._client_ca)
        return tuple(_stamp(path) for path in files if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size
