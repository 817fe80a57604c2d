"""Making clips: requests become jobs, and what happens to them goes back.

Ids of requests are each client's own. Everything else is shared: the daemon serves one person, and whoever has a token
may watch, cancel and list every clip in flight, whichever of their programs asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from soundctm_daemon import status
from soundctm_daemon.calls import Context, answered, or_abort
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.engines import Phase, States
from soundctm_daemon.errors import NotInFlightError
from soundctm_daemon.job_table import JobState, JobTable
from soundctm_daemon.jobs import Failed, Job, Ready
from soundctm_daemon.library import Library
from soundctm_daemon.order_desk import OrderDesk
from soundctm_daemon.requests import LONGEST_NAME, Asker, JobMaker
from soundctm_daemon.scheduler import Scheduler
from soundctm_daemon.settings import Settings
from soundctm_daemon.subscription import Subscription
from soundctm_daemon.wire_jobs import event_message, job_message, ready_message
from soundgen.v1 import generation_service_pb2 as contract
from soundgen.v1 import generation_service_pb2_grpc

_Make = Callable[[Asker], list[Job]]


class GenerationService(generation_service_pb2_grpc.GenerationServiceServicer):
    """`states` gives the engines' states as they are now, `identify` the name of a call's token, empty for the
    owner's own; `observe` sees every job before it is queued, and gives the one to queue."""

    def __init__(
        self,
        scheduler: Scheduler,
        catalogue: Catalogue,
        library: Library,
        settings: Settings,
        states: Callable[[], States],
        identify: Callable[[Context], str] = lambda context: "",
        observe: Callable[[Job], Job] = lambda job: job,
    ) -> None:
        self._scheduler, self._library = scheduler, library
        self._states, self._identify = states, identify
        self._table = JobTable()
        self._desk = OrderDesk(scheduler, library, self._table, settings, observe)
        most_jobs = min(settings.client_jobs, settings.queue_limit)
        self._maker = JobMaker(catalogue, library, self._table.emitter, settings.preview_steps, most_jobs)

    async def Generate(  # type: ignore[override]  # noqa: N802
        self, request: contract.GenerateRequest, context: Context
    ) -> None:
        make = partial(self._maker.generate, request)
        await self._serve(request, request, make, contract.GenerateResponse, context)

    async def GenerateVariations(  # type: ignore[override]  # noqa: N802
        self, request: contract.GenerateVariationsRequest, context: Context
    ) -> None:
        make = partial(self._maker.variations, request)
        await self._serve(request, request.request, make, contract.GenerateVariationsResponse, context)

    async def Refine(  # type: ignore[override]  # noqa: N802
        self, request: contract.RefineRequest, context: Context
    ) -> None:
        make = partial(self._maker.refine, request)
        await self._serve(request, request, make, contract.RefineResponse, context)

    async def RefineProgressively(  # type: ignore[override]  # noqa: N802
        self, request: contract.RefineProgressivelyRequest, context: Context
    ) -> None:
        make = partial(self._maker.refine_progressively, request)
        await self._serve(request, request, make, contract.RefineProgressivelyResponse, context)

    async def Rerender(  # type: ignore[override]  # noqa: N802
        self, request: contract.RerenderRequest, context: Context
    ) -> None:
        make = partial(self._maker.rerender, request)
        await self._serve(request, request, make, contract.RerenderResponse, context)

    async def Watch(  # type: ignore[override]  # noqa: N802
        self, request: contract.WatchRequest, context: Context
    ) -> None:
        clip_id = request.clip_id[:LONGEST_NAME]
        view, reader = self._table.find(clip_id), self._table.reader()
        try:
            followed = view is not None and view.state is not JobState.READY
            if followed and self._table.attach(reader, [clip_id], holds=False, how_far=True):
                await self._pass_on(reader, [clip_id], contract.WatchResponse, context)
                return
        finally:
            self._desk.leave(reader)
        clip = await or_abort(context, lambda: self._library.get(clip_id))
        await context.write(contract.WatchResponse(event=ready_message(clip)))

    async def Cancel(  # noqa: N802
        self, request: contract.CancelRequest, context: Context
    ) -> contract.CancelResponse:
        try:
            self._scheduler.cancel(request.clip_id[:LONGEST_NAME])
        except NotInFlightError as error:
            await status.abort(context, error)
        return contract.CancelResponse()

    async def ListJobs(  # noqa: N802
        self, request: contract.ListJobsRequest, context: Context
    ) -> contract.ListJobsResponse:
        views = self._table.in_flight() + (self._table.ended() if request.include_ended else [])
        return contract.ListJobsResponse(jobs=[job_message(view) for view in views])

    async def _serve(
        self, request: Any, asked: Any, make: _Make, respond: Callable[..., Any], context: Context
    ) -> None:
        """Have the clips made and pass on what happens to them. `asked` is the part of the request that says whether it
        is detached: if not, a caller who leaves, or whose deadline passes, cancels what is not done. `respond` is the
        response's class.
        """
        reader = self._table.reader()
        try:
            placed = await answered(
                context, self._desk.place(request, asked, self._identify(context), make, reader)
            )
            for clip in placed.stored:
                await context.write(respond(event=ready_message(clip)))
            await self._pass_on(reader, placed.in_flight, respond, context, one_is_ready=bool(placed.stored))
        finally:
            self._desk.leave(reader)

    async def _pass_on(
        self,
        reader: Subscription,
        clip_ids: Iterable[str],
        respond: Callable[..., Any],
        context: Context,
        *,
        one_is_ready: bool = False,
    ) -> None:
        """Until the last of the clips is done; where none became ready, the first error ends the call."""
        waiting, first_error = set(clip_ids), None
        while waiting:
            job, event = await reader.next()
            await context.write(respond(event=event_message(event, job, self._is_loading(job))))
            match event:
                case Ready():
                    waiting.discard(job.clip_id)
                    one_is_ready = True
                case Failed(error):
                    waiting.discard(job.clip_id)
                    first_error = first_error or error
        if first_error is not None and not one_is_ready:
            await status.abort(context, first_error)

    def _is_loading(self, job: Job) -> bool:
        state = self._states().get(job.bundle.digest)
        return state is not None and state.phase is Phase.LOADING
