"""Making clips: requests become jobs, and what happens to them goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from soundctm.errors import SoundCTMError
from soundctm_daemon import status, wire
from soundctm_daemon.calls import Context
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.errors import NotInFlightError
from soundctm_daemon.jobs import Failed, Job, JobEvent, Ready
from soundctm_daemon.library import Library
from soundctm_daemon.requests import LONGEST_NAME, Emit, generate_job, refine_job
from soundctm_daemon.scheduler import Scheduler
from soundctm_daemon.worker import EngineState
from soundgen.v1 import generation_service_pb2, generation_service_pb2_grpc


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
