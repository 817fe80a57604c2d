"""Requests are read here: gRPC itself would answer one that is no message with UNKNOWN, and hold a call that ends
without its request open for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from soundctm.errors import FieldViolation, InvalidRequestError
from soundctm_daemon import status
from soundctm_daemon.calls import Context, Continuation, Handler, behaviour, delivered, rebuilt


class MessageInterceptor(grpc.aio.ServerInterceptor):
    """The last of a server's interceptors. A request that is missing or cannot be read ends its call with
    INVALID_ARGUMENT; what comes behind the one request of a call that takes one is never read."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        inner = behaviour(handler)

        async def call(sent: AsyncIterator[bytes], context: Context) -> Any:
            messages = _read(sent, handler.request_deserializer)
            try:
                request = messages if handler.request_streaming else await _first(messages)
                return await delivered(inner(request, context), context)
            except InvalidRequestError as error:
                await status.abort(context, error)

        return rebuilt(handler, call, request_streaming=True, deserialise=None)


async def _read(sent: AsyncIterator[bytes], deserialise: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """Raises InvalidRequestError."""
    async for data in sent:
        try:
            message = deserialise(data)
        except DecodeError as error:
            seen = f"{len(data)} bytes that cannot be read ({error})"
            raise InvalidRequestError([FieldViolation("request", seen, "a message of the contract")]) from error
        yield message


async def _first(messages: AsyncIterator[Any]) -> Any:
    """Raises InvalidRequestError."""
    async for message in messages:
        return message
    raise InvalidRequestError([FieldViolation("request", "missing", "one message of the contract")])
