"""What services and interceptors share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar

import grpc

from soundctm.errors import SoundCTMError
from soundctm_daemon import status

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]"
_T = TypeVar("_T")


async def answered(context: Context, work: Awaitable[_T]) -> _T:
    """The result of work; an error of ours ends the call."""
    try:
        return await work
    except SoundCTMError as error:
        await status.abort(context, error)


async def or_abort(context: Context, work: Callable[[], _T]) -> _T:
    """The result of blocking work, done in another thread; an error of ours ends the call."""
    return await answered(context, asyncio.to_thread(work))


def surrounded(handler: Any, around: Callable[[Context], AbstractAsyncContextManager[None]]) -> Handler:
    """The handler, of any kind of call, with `around` about it."""
    inner = behaviour(handler)

    async def call(request: Any, context: Context) -> Any:
        async with around(context):
            return await delivered(inner(request, context), context)

    return rebuilt(handler, call, request_streaming=handler.request_streaming, deserialise=handler.request_deserializer)


def behaviour(handler: Any) -> Callable[[Any, Context], Any]:
    """The handler's own function, which may return an awaitable or an asynchronous generator."""
    function: Callable[[Any, Context], Any] = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return function


async def delivered(answer: Any, context: Context) -> Any:
    """The one answer of such a function; several are written, then None."""
    if not inspect.isasyncgen(answer):
        return await answer
    async for message in answer:
        await context.write(message)
    return None


def rebuilt(
    handler: Any, call: Callable[[Any, Context], Any], *, request_streaming: bool, deserialise: Any
) -> Handler:
    """A handler with another function, which answers as the former does."""
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[request_streaming, bool(handler.response_streaming)]
    made: Handler = make(call, deserialise, handler.response_serializer)
    return made
