"""Every call gets an id, a measurement, a span and a line in the log, whatever the service behind it is."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from soundctm_daemon import logs
from soundctm_daemon.calls import Context
from soundctm_daemon.metrics import Metrics
from soundctm_daemon.tracing import NoTracing, Tracing

if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]  # no such type at run time

UNKNOWN_METHOD = "unknown"  # a label must not hold whatever a stranger sends
_OURS = "/soundgen."
_DEFECTS = ("UNKNOWN", "INTERNAL", "DATA_LOSS")
_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_log = logging.getLogger(__name__)


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Must be the first of a server's interceptors, so that refused calls count too. `methods` are those to tell
    apart, as `/package.Service/Method`."""

    def __init__(self, metrics: Metrics, methods: Collection[str], tracing: Tracing | None = None) -> None:
        self._metrics, self._methods, self._tracing = metrics, frozenset(methods), tracing or NoTracing()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        metadata = tuple(handler_call_details.invocation_metadata or ())
        request_id = logs.begin_request(metadata)
        method = handler_call_details.method
        method = method if method in self._methods else UNKNOWN_METHOD
        handler = await continuation(handler_call_details)
        if handler is None:
            self._ended(method, "UNIMPLEMENTED", 0.0)
            return None
        carrier = {name: value for name, value in metadata if isinstance(value, str)}

        @asynccontextmanager
        async def around(context: Context) -> AsyncIterator[None]:
            context.set_trailing_metadata(((logs.REQUEST_ID_KEY, request_id),))
            began, code = time.perf_counter(), ""
            with self._tracing.call(method, carrier) as span:
                try:
                    yield
                    code = _code(context) or "OK"
                except asyncio.CancelledError:
                    code = "DEADLINE_EXCEEDED" if _is_late(context) else "CANCELLED"
                    raise
                except BaseException:
                    code = _code(context) or "UNKNOWN"
                    raise
                finally:
                    span.end("" if code in ("OK", "CANCELLED") else code, code=code, request_id=request_id)
                    self._ended(method, code, time.perf_counter() - began)

        return _wrapped(handler, around)

    def _ended(self, method: str, code: str, seconds: float) -> None:
        self._metrics.call_ended(method, code, seconds)
        level = logging.ERROR if code in _DEFECTS else logging.DEBUG if code == "OK" else logging.INFO
        if method.startswith(_OURS) or method == UNKNOWN_METHOD:  # health is asked by the second, and watched for days
            _log.log(level, "%s ended with %s after %.3f s", method, code, seconds)


def _wrapped(handler: _Handler, around: Callable[[Context], Any]) -> _Handler:
    """The handler with `around` about it. Its own function may return an awaitable or an asynchronous generator."""
    inner: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

    async def call(request: Any, context: Context) -> Any:
        async with around(context):
            answer = inner(request, context)
            if not inspect.isasyncgen(answer):
                return await answer
            async for message in answer:
                await context.write(message)
            return None

    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    wrapped: _Handler = make(call, handler.request_deserializer, handler.response_serializer)
    return wrapped


def _code(context: Context) -> str:
    """Name of the code the call was given; empty where it has none yet. gRPC gives a number here, not a StatusCode."""
    code: Any = context.code()
    name = _CODE_NAMES.get(getattr(code, "value", (code,))[0], "")
    return "" if name == "OK" else name


def _is_late(context: Context) -> bool:
    remaining: float | None = context.time_remaining()
    return remaining is not None and remaining <= 0.0
