"""How the async client sends a call, and goes on with one whose connection broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import grpc
from google.protobuf.message import Message

from soundgen import calls, types
from soundgen.connection import UNARY_TIMEOUT_SECONDS, Connection
from soundgen.errors import from_rpc_error
from soundgen.following import Following, Told
from soundgen.patience import RECONNECT_SECONDS, Patience
from soundgen.tls import Tls

_Value = TypeVar("_Value")


class AsyncEvents(AsyncIterator[Told], Generic[Told]):
    """As `sync_calls.Events`. To end early at once, `aclose` it: one that is dropped ends when the loop turns."""

    def __init__(self, events: AsyncGenerator[Told, None]) -> None:
        self._events = events

    async def __anext__(self) -> Told:
        return await anext(self._events)

    async def aclose(self) -> None:
        await self._events.aclose()

    async def clip(self) -> types.Clip:
        """Wait for the end; the clip that became ready last."""
        return (await self.clips())[-1]

    async def clips(self) -> tuple[types.Clip, ...]:
        """Wait for the end; every clip that became ready from now on, in that order."""
        return tuple([event.clip async for event in self if isinstance(event, types.ClipReady)])


class AsyncCalls:
    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        *,
        timeout_seconds: float = UNARY_TIMEOUT_SECONDS,
        reconnect_seconds: float = RECONNECT_SECONDS,
        tls: Tls | None = None,
        plain_text: bool = False,
    ) -> None:
        self.connection = Connection.resolve(address, token, tls, plain_text=plain_text)
        self._timeout_seconds, self._reconnect_seconds = timeout_seconds, reconnect_seconds
        self._channel = self.connection.aio_channel()
        self._methods = calls.methods(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(self, call: calls.Call[_Value], timeout_seconds: float | None = None) -> _Value:
        patience = Patience(self._timeout_seconds if timeout_seconds is None else timeout_seconds, 0.0)
        method = self._methods[call.method]
        while True:
            try:
                response = await method(
                    call.request, timeout=patience.remaining_seconds(), metadata=self.connection.metadata
                )
                return call.decode(response)
            except grpc.RpcError as error:
                problem = from_rpc_error(error, self.connection.target)
                wait_seconds = patience.wait_seconds(problem) if call.repeatable else None
                if wait_seconds is None:
                    raise problem from error
            await asyncio.sleep(wait_seconds)

    def _of_one(self, request: Message, timeout_seconds: float) -> AsyncEvents[types.Event]:
        events = self._events(request, Following(several=False), timeout_seconds)
        return AsyncEvents(cast(AsyncGenerator[types.Event], events))

    def _of_several(self, request: Message, timeout_seconds: float) -> AsyncEvents[types.ClipsEvent]:
        return AsyncEvents(self._events(request, Following(several=True), timeout_seconds))

    async def _events(
        self, request: Message, following: Following, timeout_seconds: float
    ) -> AsyncGenerator[types.ClipsEvent]:
        async with aclosing(self._stream(lambda: request, timeout_seconds)) as messages:
            async for message in messages:
                event = following.take(message)
                if event is not None:
                    yield event
        following.require_done()

    async def _stream(self, next_request: Callable[[], Message], timeout_seconds: float) -> AsyncGenerator[Any]:
        """The messages of a call and, where its connection breaks, those of the next one."""
        patience = Patience(timeout_seconds, self._reconnect_seconds)
        while True:
            request = next_request()
            method = self._methods[calls.method_of(request)]
            call = method(request, timeout=patience.remaining_seconds(), metadata=self.connection.metadata)
            try:
                async for message in call:
                    patience.rewarded()
                    yield message
                return
            except grpc.RpcError as error:
                problem = from_rpc_error(error, self.connection.target)
                wait_seconds = patience.wait_seconds(problem)
                if wait_seconds is None:
                    raise problem from error
            finally:
                call.cancel()
            await asyncio.sleep(wait_seconds)
