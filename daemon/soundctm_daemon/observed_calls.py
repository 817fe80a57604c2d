"""Every call gets an id, a measurement, a span and a line in the log, whatever the service behind it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import grpc

from soundctm_daemon import logs
from soundctm_daemon.calls import Context, Continuation, Handler, surrounded
from soundctm_daemon.metrics import Metrics
from soundctm_daemon.tracing import NoTracing, Tracing

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
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
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

        return surrounded(handler, around)

    def _ended(self, method: str, code: str, seconds: float) -> None:
        self._metrics.call_ended(method, code, seconds)
        level = logging.ERROR if code in _DEFECTS else logging.DEBUG if code == "OK" else logging.INFO
        if method.startswith(_OURS) or method == UNKNOWN_METHOD:  # health is asked by the second, and watched for days
            _log.log(level, "%s ended with %s after %.3f s", method, code, seconds)


def _code(context: Context) -> str:
    """Name of the code the call was given; empty where it has none yet. gRPC gives a number here, not a StatusCode."""
    code: Any = context.code()
    name = _CODE_NAMES.get(getattr(code, "value", (code,))[0], "")
    return "" if name == "OK" else name


def _is_late(context: Context) -> bool:
    remaining: float | None = context.time_remaining()
    return remaining is not None and remaining <= 0.0
