"""How the sync client sends a call, and goes on with one whose connection broke."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
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


class Events(Iterator[Told], Generic[Told]):
    """What happens, as it happens; the request is sent when the first event is asked for."""

    def __init__(self, events: Generator[Told, None, None]) -> None:
        self._events = events

    def __next__(self) -> Told:
        return next(self._events)

    def close(self) -> None:
        """End early; so does dropping the iterator."""
        self._events.close()

    def clip(self) -> types.Clip:
        """Wait for the end; the clip that became ready last."""
        return self.clips()[-1]

    def clips(self) -> tuple[types.Clip, ...]:
        """Wait for the end; every clip that became ready from now on, in that order."""
        return tuple(event.clip for event in self if isinstance(event, types.ClipReady))


class SyncCalls:
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
        self._channel = self.connection.channel()
        self._methods = calls.methods(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def _ask(self, call: calls.Call[_Value], timeout_seconds: float | None = None) -> _Value:
        patience = Patience(self._timeout_seconds if timeout_seconds is None else timeout_seconds, 0.0)
        while True:
            try:
                response = self._methods[call.method](
                    call.request, timeout=patience.remaining_seconds(), metadata=self.connection.metadata
                )
                return call.decode(response)
            except grpc.RpcError as error:
                problem = from_rpc_error(error, self.connection.target)
                wait_seconds = patience.wait_seconds(problem) if call.repeatable else None
                if wait_seconds is None:
                    raise problem from error
            time.sleep(wait_seconds)

    def _of_one(self, request: Message, timeout_seconds: float) -> Events[types.Event]:
        return Events(cast(Generator[types.Event], self._events(request, Following(several=False), timeout_seconds)))

    def _of_several(self, request: Message, timeout_seconds: float) -> Events[types.ClipsEvent]:
        return Events(self._events(request, Following(several=True), timeout_seconds))

    def _events(self, request: Message, following: Following, timeout_seconds: float) -> Generator[types.ClipsEvent]:
        with closing(self._stream(lambda: request, timeout_seconds)) as messages:
            for message in messages:
                event = following.take(message)
                if event is not None:
                    yield event
        following.require_done()

    def _stream(self, next_request: Callable[[], Message], timeout_seconds: float) -> Generator[Any]:
        """The messages of a call and, where its connection breaks, those of the next one."""
        patience = Patience(timeout_seconds, self._reconnect_seconds)
        while True:
            request = next_request()
            method = self._methods[calls.method_of(request)]
            call = method(request, timeout=patience.remaining_seconds(), metadata=self.connection.metadata)
            try:
                for message in call:
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
            time.sleep(wait_seconds)
