"""Who calls. The owner's token is made on first start and readable by its owner alone; a token is asked of every call
but health checks."""

from __future__ import annotations

import secrets
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import grpc

from soundctm.errors import SoundCTMError
from soundctm_daemon import status
from soundctm_daemon.calls import Context, Continuation, Handler
from soundctm_daemon.errors import SettingsError, UnauthenticatedError
from soundctm_daemon.private_files import close_to_others, write_private
from soundctm_daemon.tokens import Tokens

_OPEN_METHODS = "/grpc.health.v1.Health/"
_caller: ContextVar[str] = ContextVar("caller")  # no default: a call that was let in without a name is a defect


def load_or_create_token(path: Path) -> str:
    """The token of this file, made if there is none. Raises SettingsError."""
    try:
        if path.exists():
            return _read(path)
        token = secrets.token_urlsafe(32)
        write_private(path, token + "\n")
        return token
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the token file {path} cannot be used ({error}). Make it readable for the daemon's user alone, "
            "or remove it and a new token is made."
        ) from error


def _read(path: Path) -> str:
    close_to_others(path)
    token = path.read_text().strip()
    if not token:
        raise SettingsError(f"the token file {path} is empty. Remove it and a new token is made.")
    return token


def identify(context: Any) -> str:
    """The name of the token that the call under way carries; empty for the owner's own."""
    return _caller.get()


def is_open(details: grpc.HandlerCallDetails) -> bool:
    """Health is everybody's to ask, as often as they like: whoever restarts a daemon must be able to."""
    return details.method.startswith(_OPEN_METHODS)


def refusal(error: SoundCTMError) -> grpc.RpcMethodHandler[Any, Any]:
    """Ends any kind of call with the error, before a byte of its request is read."""

    async def refuse(requests: Any, context: Context) -> None:
        await status.abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls whose metadata `authorization` is not `Bearer <a token we know>`."""

    def __init__(self, tokens: Tokens, token_file: Path) -> None:
        self._tokens, self._token_file = tokens, token_file

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        if is_open(handler_call_details):
            return await continuation(handler_call_details)
        given = dict(handler_call_details.invocation_metadata or ()).get("authorization")
        caller = None if given is None else self._tokens.owner_of(_bearer(given))
        if caller is not None:
            _caller.set(caller)
            return await continuation(handler_call_details)
        what = "carries no token" if given is None else "carries a wrong token, or one that was revoked"
        return refusal(
            UnauthenticatedError(
                f"the call {what}. Send the metadata `authorization: Bearer <token>` with the token in "
                f"{self._token_file}, or one that `soundctm daemon token add NAME` made."
            )
        )


def _bearer(value: str | bytes) -> str:
    """The token behind the word Bearer; what is none stays what it is, and is known to nobody."""
    text = value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
    scheme, _, token = text.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
