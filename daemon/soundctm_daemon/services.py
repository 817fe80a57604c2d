"""The three services. They validate, queue and look up; whatever blocks runs in other threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc

from soundctm.errors import BundleError, FieldViolation, InvalidRequestError, SoundCTMError
from soundctm_daemon import status, wire
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.errors import NotInFlightError
from soundctm_daemon.jobs import Failed, Job, JobEvent, Ready
from soundctm_daemon.library import Library
from soundctm_daemon.requests import LONGEST_NAME, Emit, generate_job, refine_job
from soundctm_daemon.scheduler import Scheduler
from soundctm_daemon.worker import EngineState
from soundgen.v1 import (
    clip_service_pb2,
    clip_service_pb2_grpc,
    generation_service_pb2,
    generation_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

CHUNK_BYTES = 256 * 1024
_DEFAULT_PAGE, _LARGEST_PAGE = 50, 200
Context = grpc.aio.ServicerContext[Any, Any]
_T = TypeVar("_T")


class GenerationService(generation_service_pb2_grpc.GenerationServiceServicer):
    """`state` gives the engine's state as it is now."""

    def __init__(
        self, scheduler: Scheduler, catalogue: Catalogue, library: Library, state: Callable[[], EngineState]
    ) -> None:
        self._scheduler, self._catalogue, self._library, self._state = scheduler, catalogue, library, state

    async def Generate(  # type: ignore[override]  # noqa: N802
        self, request: generation_service_pb2.GenerateRequest, context: Context
    ) -> None:
        await self._follow(
            lambda emit: generate_job(request, self._catalogue, emit),
            lambda event: generation_service_pb2.GenerateResponse(event=event),
            context,
        )

    async def Refine(  # type: ignore[override]  # noqa: N802
        self, request: generation_service_pb2.RefineRequest, context: Context
    ) -> None:
        await self._follow(
            lambda emit: refine_job(request, self._catalogue, self._library, emit),
            lambda event: generation_service_pb2.RefineResponse(event=event),
            context,
        )

    async def Cancel(  # noqa: N802
        self, request: generation_service_pb2.CancelRequest, context: Context
    ) -> generation_service_pb2.CancelResponse:
        try:
            self._scheduler.cancel(request.clip_id[:LONGEST_NAME])
        except NotInFlightError as error:
            await status.abort(context, error)
        return generation_service_pb2.CancelResponse()

    async def _follow(
        self,
        make_job: Callable[[Emit], Job],
        respond: Callable[[generation_service_pb2.ClipEvent], Any],
        context: Context,
    ) -> None:
        """Queue the job and pass on its events. A caller who leaves, or whose deadline passes, cancels it."""
        events: asyncio.Queue[JobEvent] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(event: JobEvent) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            job = await asyncio.to_thread(make_job, emit)
            self._scheduler.submit(job)
        except SoundCTMError as error:
            await status.abort(context, error)
        try:
            while True:
                event = await events.get()
                await context.write(respond(wire.event_message(event, job, self._state().loading is not None)))
                if isinstance(event, Ready):
                    return
                if isinstance(event, Failed):
                    await status.abort(context, event.error)
        finally:
            self._abandon(job)

    def _abandon(self, job: Job) -> None:
        try:
            self._scheduler.cancel(job.clip_id)
        except NotInFlightError:
            return  # as it should be: the clip is done


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, catalogue: Catalogue, state: Callable[[], EngineState]) -> None:
        self._catalogue, self._state = catalogue, state

    async def ListModels(  # noqa: N802
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        return model_service_pb2.ListModelsResponse(models=await asyncio.to_thread(self._all))

    async def GetModel(  # noqa: N802
        self, request: model_service_pb2.GetModelRequest, context: Context
    ) -> model_service_pb2.GetModelResponse:
        model = await _or_abort(context, lambda: self._one(request.name[:LONGEST_NAME]))
        return model_service_pb2.GetModelResponse(model=model)

    def _one(self, name: str) -> model_service_pb2.Model:
        name, bundle = self._catalogue.find(name)
        return wire.model_message(name, bundle, name == self._catalogue.default_name, self._state())

    def _all(self) -> list[model_service_pb2.Model]:
        models = []
        for name in self._catalogue.names():
            try:
                models.append(self._one(name))
            except BundleError as error:
                models.append(wire.unusable_model_message(name, name == self._catalogue.default_name, error))
        return models


class ClipService(clip_service_pb2_grpc.ClipServiceServicer):
    def __init__(self, library: Library) -> None:
        self._library = library

    async def GetClip(  # noqa: N802
        self, request: clip_service_pb2.GetClipRequest, context: Context
    ) -> clip_service_pb2.GetClipResponse:
        clip = await _or_abort(context, lambda: self._library.get(request.clip_id[:LONGEST_NAME]))
        return clip_service_pb2.GetClipResponse(clip=wire.clip_message(clip))

    async def ListClips(  # noqa: N802
        self, request: clip_service_pb2.ListClipsRequest, context: Context
    ) -> clip_service_pb2.ListClipsResponse:
        clips, following = await _or_abort(context, lambda: self._library.page(*_page_of(request)))
        return clip_service_pb2.ListClipsResponse(
            clips=[wire.clip_message(clip) for clip in clips],
            next_page_token="" if following is None else str(following),
        )

    async def Download(  # noqa: N802
        self, request: clip_service_pb2.DownloadRequest, context: Context
    ) -> AsyncIterator[clip_service_pb2.DownloadResponse]:
        clip = await _or_abort(context, lambda: self._library.get(request.clip_id[:LONGEST_NAME]))
        data = await _or_abort(context, lambda: self._library.read(clip))
        header = clip_service_pb2.DownloadHeader(size_bytes=len(data), sha256=clip.sha256)
        yield clip_service_pb2.DownloadResponse(header=header)
        for start in range(0, len(data), CHUNK_BYTES):
            yield clip_service_pb2.DownloadResponse(chunk=data[start : start + CHUNK_BYTES])


async def _or_abort(context: Context, work: Callable[[], _T]) -> _T:
    """The result of blocking work, done in another thread; an error of ours ends the call."""
    try:
        return await asyncio.to_thread(work)
    except SoundCTMError as error:
        await status.abort(context, error)


def _page_of(request: clip_service_pb2.ListClipsRequest) -> tuple[int, int | None]:
    """Page size and sequence number to stay below. Raises InvalidRequestError."""
    if request.page_size > _LARGEST_PAGE:
        violation = FieldViolation("page_size", str(request.page_size), f"0 (takes {_DEFAULT_PAGE}) to {_LARGEST_PAGE}")
        raise InvalidRequestError([violation])
    token = request.page_token
    if token and not (token.isascii() and token.isdigit() and len(token) < 19):
        violation = FieldViolation("page_token", repr(token[:40]), "empty, or the next_page_token of the page before")
        raise InvalidRequestError([violation])
    return request.page_size or _DEFAULT_PAGE, int(token) if token else None
