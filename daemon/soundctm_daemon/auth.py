"""The token: made on first start, readable by its owner alone, asked of every call but health checks."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from soundctm_daemon import status
from soundctm_daemon.errors import SettingsError, UnauthenticatedError

_OPEN_METHODS = "/grpc.health.v1.Health/"
_OWNER_ONLY = 0o600
_log = logging.getLogger(__name__)


def load_or_create_token(path: Path) -> str:
    """The token of this file, made if there is none. Raises SettingsError."""
    try:
        if path.exists():
            return _read(path)
        return _create(path)
    except OSError as error:
        raise SettingsError(
            f"the token file {path} cannot be used ({error.strerror}). Make it readable for the daemon's user alone, "
            "or remove it and a new token is made."
        ) from error


def _create(path: Path) -> str:
    """Written aside and renamed: a file that is there holds a whole token."""
    token, partial = secrets.token_urlsafe(32), path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "w") as file:
        file.write(token + "\n")
    partial.replace(path)
    return token


def _read(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        _log.warning("the token file %s could be read by others; it is closed to them now", path)
        path.chmod(_OWNER_ONLY)
    token = path.read_text().strip()
    if not token:
        raise SettingsError(f"the token file {path} is empty. Remove it and a new token is made.")
    return token


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls whose metadata `authorization` is not `Bearer <token>`."""

    def __init__(self, token: str, token_file: Path) -> None:
        self._expected = f"Bearer {token}".encode()
        self._token_file = token_file

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method.startswith(_OPEN_METHODS):
            return await continuation(handler_call_details)
        given = dict(handler_call_details.invocation_metadata or ()).get("authorization")
        if given is not None and hmac.compare_digest(_bytes(given), self._expected):
            return await continuation(handler_call_details)
        what = "carries no token" if given is None else "carries a wrong token"
        error = UnauthenticatedError(
            f"the call {what}. Send the metadata `authorization: Bearer <token>` with the token in {self._token_file}."
        )

        async def refuse(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await status.abort(context, error)

        return grpc.unary_unary_rpc_method_handler(refuse)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
