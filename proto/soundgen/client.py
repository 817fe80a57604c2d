"""A thin typed client of the daemon, sync (`Client`) and async (`AsyncClient`); `connect` starts the daemon if need be.

    with connect() as client:
        for event in client.generate("heavy rain on a tin roof"):
            print(event)

Every method raises errors of `soundgen.errors` and nothing of gRPC's. Ending an iteration early cancels the clip.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from soundgen import paths, types, wire
from soundgen.connection import (
    CHANNEL_OPTIONS,
    GENERATE_TIMEOUT_SECONDS,
    UNARY_TIMEOUT_SECONDS,
    Connection,
    GenerateSettings,
    RefineSettings,
)
from soundgen.download import Receiver
from soundgen.errors import GenerationFailedError, from_rpc_error
from soundgen.v1 import (
    clip_service_pb2,
    clip_service_pb2_grpc,
    generation_service_pb2,
    generation_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)


def connect(start: bool = True) -> Client:
    """A client of this machine's daemon, which is started if none runs and `start` is set.

    Raises DaemonStartError, UnauthenticatedError.
    """
    if start:
        paths.ensure_daemon()
    return Client()


class Client:
    """`address` is `unix:/path` or `host:port`; None takes this machine's Unix socket and token file."""

    def __init__(
        self, address: str | None = None, token: str | None = None, *, timeout_seconds: float = UNARY_TIMEOUT_SECONDS
    ) -> None:
        self.connection = Connection.resolve(address, token)
        self._timeout_seconds = timeout_seconds
        self._channel = grpc.insecure_channel(self.connection.target, options=CHANNEL_OPTIONS)
        self._generation = generation_service_pb2_grpc.GenerationServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._clips = clip_service_pb2_grpc.ClipServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def generate(
        self,
        prompt: str,
        *,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[GenerateSettings],
    ) -> Iterator[types.Event]:
        """What happens to the clip, `ClipReady` last."""
        request = wire.generate_request(prompt, **settings)
        return self._events(self._generation.Generate, request, timeout_seconds)

    def refine(
        self,
        clip_id: str,
        *,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[RefineSettings],
    ) -> Iterator[types.Event]:
        """The very same clip in more jumps; what happens to it, `ClipReady` last."""
        request = wire.refine_request(clip_id, **settings)
        return self._events(self._generation.Refine, request, timeout_seconds)

    def cancel(self, clip_id: str) -> None:
        """Stop a clip in flight. Raises NotFoundError when there is none of that id."""
        self._call(self._generation.Cancel, generation_service_pb2.CancelRequest(clip_id=clip_id))

    def models(self) -> tuple[types.Model, ...]:
        response = self._call(self._models.ListModels, model_service_pb2.ListModelsRequest())
        return tuple(wire.model(model) for model in response.models)

    def model(self, name: str = "") -> types.Model:
        """By name; empty is the daemon's default. Raises NotFoundError."""
        return wire.model(self._call(self._models.GetModel, model_service_pb2.GetModelRequest(name=name)).model)

    def clip(self, clip_id: str) -> types.Clip:
        """Raises NotFoundError."""
        return wire.clip(self._call(self._clips.GetClip, clip_service_pb2.GetClipRequest(clip_id=clip_id)).clip)

    def clips(self, page_size: int = 0, page_token: str = "") -> types.ClipPage:
        """One page, newest first."""
        request = clip_service_pb2.ListClipsRequest(page_size=page_size, page_token=page_token)
        return _page(self._call(self._clips.ListClips, request))

    def download(self, clip_id: str, destination: Path) -> Path:
        """The clip's WAV file, whole and verified, at `destination`. Raises NotFoundError, DataLossError, OSError."""
        request = clip_service_pb2.DownloadRequest(clip_id=clip_id)
        with Receiver(destination) as receiver, self._translated():
            for message in self._clips.Download(request, metadata=self.connection.metadata):
                receiver.take(message)
        return destination

    def serving(self) -> bool:
        """Whether the model is loaded. Raises DaemonUnreachableError."""
        stub = health_pb2_grpc.HealthStub(self._channel)
        response = self._call(stub.Check, health_pb2.HealthCheckRequest())
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    def _call(self, method: Any, request: Any) -> Any:
        with self._translated():
            return method(request, timeout=self._timeout_seconds, metadata=self.connection.metadata)

    def _events(self, method: Any, request: Any, timeout_seconds: float) -> Iterator[types.Event]:
        with self._translated():
            call = method(request, timeout=timeout_seconds, metadata=self.connection.metadata)
            ready = False
            try:
                for response in call:
                    event = wire.event(response.event)
                    if event is not None:
                        ready = ready or isinstance(event, types.ClipReady)
                        yield event
            finally:
                call.cancel()
        _require_ready(ready)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.connection.target) from error


class AsyncClient:
    """As `Client`, for asyncio; make it where its event loop runs."""

    def __init__(
        self, address: str | None = None, token: str | None = None, *, timeout_seconds: float = UNARY_TIMEOUT_SECONDS
    ) -> None:
        self.connection = Connection.resolve(address, token)
        self._timeout_seconds = timeout_seconds
        self._channel = grpc.aio.insecure_channel(self.connection.target, options=CHANNEL_OPTIONS)
        self._generation = generation_service_pb2_grpc.GenerationServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._clips = clip_service_pb2_grpc.ClipServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    def generate(
        self,
        prompt: str,
        *,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[GenerateSettings],
    ) -> AsyncIterator[types.Event]:
        request = wire.generate_request(prompt, **settings)
        return self._events(self._generation.Generate, request, timeout_seconds)

    def refine(
        self,
        clip_id: str,
        *,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[RefineSettings],
    ) -> AsyncIterator[types.Event]:
        request = wire.refine_request(clip_id, **settings)
        return self._events(self._generation.Refine, request, timeout_seconds)

    async def cancel(self, clip_id: str) -> None:
        await self._call(self._generation.Cancel, generation_service_pb2.CancelRequest(clip_id=clip_id))

    async def models(self) -> tuple[types.Model, ...]:
        response = await self._call(self._models.ListModels, model_service_pb2.ListModelsRequest())
        return tuple(wire.model(model) for model in response.models)

    async def model(self, name: str = "") -> types.Model:
        response = await self._call(self._models.GetModel, model_service_pb2.GetModelRequest(name=name))
        return wire.model(response.model)

    async def clip(self, clip_id: str) -> types.Clip:
        response = await self._call(self._clips.GetClip, clip_service_pb2.GetClipRequest(clip_id=clip_id))
        return wire.clip(response.clip)

    async def clips(self, page_size: int = 0, page_token: str = "") -> types.ClipPage:
        request = clip_service_pb2.ListClipsRequest(page_size=page_size, page_token=page_token)
        return _page(await self._call(self._clips.ListClips, request))

    async def download(self, clip_id: str, destination: Path) -> Path:
        """Writes from another thread: a slow disk does not stop the loop."""
        call: Any = self._clips.Download(
            clip_service_pb2.DownloadRequest(clip_id=clip_id), metadata=self.connection.metadata
        )
        try:
            with Receiver(destination) as receiver:
                async for message in call:
                    await asyncio.to_thread(receiver.take, message)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.connection.target) from error
        return destination

    async def serving(self) -> bool:
        stub = health_pb2_grpc.HealthStub(self._channel)
        response = await self._call(stub.Check, health_pb2.HealthCheckRequest())
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def _call(self, method: Any, request: Any) -> Any:
        call: Awaitable[Any] = method(request, timeout=self._timeout_seconds, metadata=self.connection.metadata)
        try:
            return await call
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.connection.target) from error

    async def _events(self, method: Any, request: Any, timeout_seconds: float) -> AsyncIterator[types.Event]:
        call = method(request, timeout=timeout_seconds, metadata=self.connection.metadata)
        ready = False
        try:
            async for response in call:
                event = wire.event(response.event)
                if event is not None:
                    ready = ready or isinstance(event, types.ClipReady)
                    yield event
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.connection.target) from error
        finally:
            call.cancel()
        _require_ready(ready)


def _page(response: clip_service_pb2.ListClipsResponse) -> types.ClipPage:
    return types.ClipPage(tuple(wire.clip(clip) for clip in response.clips), response.next_page_token)


def _require_ready(ready: bool) -> None:
    if not ready:
        raise GenerationFailedError("the daemon ended the call without a clip and without saying why. Try again.")
