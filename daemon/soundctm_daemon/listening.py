"""Where a server listens: the Unix socket for this user, the TCP port for whoever has a token."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import grpc

from soundctm_daemon.errors import SettingsError
from soundctm_daemon.settings import DEFAULT_PORT, Settings
from soundctm_daemon.tls import server_credentials
from soundgen import paths
from soundgen.tls import is_loopback

_NOBODY_ELSE = 0o177
_log = logging.getLogger(__name__)


def bind_socket(server: grpc.aio.Server, path: Path) -> None:
    """The socket is closed to other users from its first moment. Raises SettingsError."""
    before = os.umask(_NOBODY_ELSE)
    try:
        _bind(server, paths.socket_target(path), None)
    finally:
        os.umask(before)


def bind_tcp(server: grpc.aio.Server, settings: Settings) -> str:
    """host:port it listens at, with TLS where the settings name a certificate. Raises SettingsError."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    credentials = server_credentials(settings)
    if credentials is None and not is_loopback(settings.host):
        _log.warning("without TLS, prompts and tokens cross the network of %s in the clear", settings.host)
    if settings.port is not None:
        return f"{host}:{_bind(server, f'{host}:{settings.port}', credentials)}"
    try:
        return f"{host}:{_bind(server, f'{host}:{DEFAULT_PORT}', credentials)}"
    except SettingsError:
        port = _bind(server, f"{host}:0", credentials)
        _log.warning("port %d is taken by another program; listening at %s:%d", DEFAULT_PORT, host, port)
        return f"{host}:{port}"


def bind_again(server: grpc.aio.Server, settings: Settings, address: str) -> None:
    """Where a server listened that ended: at its TCP `address` and its socket. Raises SettingsError while it still
    holds them: its socket's file goes with it, and would take a new one's along."""
    if settings.socket.exists():
        raise SettingsError(f"{settings.socket} is still held by the server that listened there.")
    bind_tcp(server, replace(settings, port=int(address.rpartition(":")[2])))
    bind_socket(server, settings.socket)


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is not None:
            return server.add_secure_port(address, credentials)
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise SettingsError(f"the daemon cannot listen at {address}: {error}") from error
