"""How much one client may ask for: calls per second and at once by token, and what one connection may carry."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from soundctm_daemon import status
from soundctm_daemon.auth import identify, is_open, refusal
from soundctm_daemon.calls import Context, Continuation, Handler, surrounded
from soundctm_daemon.errors import RateLimitError, TooManyAtOnceError
from soundctm_daemon.settings import Settings

_HANDSHAKE_MS = 10_000        # who connects and says nothing is let go
_KEEPALIVE_MS = 60_000        # a client whose machine is gone frees its connection after two of these


class RequestRate:
    """A bucket of `burst` calls for every client, filled with `per_second` new ones; 0 per second never refuses."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}  # by client: calls left, and when that was counted

    def seconds_to_wait(self, client: str) -> float:
        """Take one call from the client's bucket: 0. An empty one gives nothing but the time until it has one."""
        if not self._per_second:
            return 0.0
        now = self._clock()
        left, counted_at = self._buckets.get(client, (float(self._burst), now))
        left = min(self._burst, left + (now - counted_at) * self._per_second)
        if left < 1.0:
            self._buckets[client] = left, now
            return (1.0 - left) / self._per_second
        self._buckets[client] = left - 1.0, now
        return 0.0


class RateInterceptor(grpc.aio.ServerInterceptor):
    """Stands behind TokenInterceptor: every call it sees has a caller. Health checks pass uncounted."""

    def __init__(self, rate: RequestRate) -> None:
        self._rate = rate

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        if is_open(handler_call_details):
            return await continuation(handler_call_details)
        wait_seconds = self._rate.seconds_to_wait(identify(handler_call_details))
        if not wait_seconds:
            return await continuation(handler_call_details)
        return refusal(RateLimitError(wait_seconds))


class CallsAtOnceInterceptor(grpc.aio.ServerInterceptor):
    """Stands behind TokenInterceptor: no client has more than `most` calls under way. Health checks pass uncounted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: Counter[str] = Counter()  # by client

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None or is_open(handler_call_details):
            return handler
        client = identify(handler_call_details)

        @asynccontextmanager
        async def around(context: Context) -> AsyncIterator[None]:
            if self._under_way[client] >= self._most:
                await status.abort(context, TooManyAtOnceError(self._most))
            self._under_way[client] += 1
            try:
                yield
            finally:
                self._under_way[client] -= 1

        return surrounded(handler, around)


def server_options(settings: Settings) -> tuple[tuple[str, Any], ...]:
    """What gRPC itself keeps to. More calls than a connection may carry wait at the client; a larger message ends its
    call with RESOURCE_EXHAUSTED; a connection beyond the last is closed."""
    return (
        ("grpc.max_receive_message_length", settings.message_limit_kb * 1024),
        ("grpc.max_concurrent_streams", settings.connection_calls),
        ("grpc.max_allowed_incoming_connections", settings.connection_limit),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
    )
