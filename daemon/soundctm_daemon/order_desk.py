"""Between the requests and the scheduler: an order's clips are asked for once, and met again when it is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from soundctm_daemon.clip import StoredClip
from soundctm_daemon.errors import (
    ClipNotFoundError,
    DaemonStoppingError,
    NotInFlightError,
    QueueFullError,
    TooManyJobsError,
)
from soundctm_daemon.job_table import JobTable
from soundctm_daemon.jobs import Job
from soundctm_daemon.library import Library
from soundctm_daemon.orders import Order, Orders
from soundctm_daemon.requests import Asker
from soundctm_daemon.scheduler import Scheduler
from soundctm_daemon.settings import Settings
from soundctm_daemon.subscription import Subscription


@dataclass(frozen=True)
class Placed:
    """The clips of an order: those that are stored already, and the ids of those in flight."""

    stored: tuple[StoredClip, ...]
    in_flight: frozenset[str]


class OrderDesk:
    """On the event loop. `observe` sees every job before it is queued, and gives the one to queue."""

    def __init__(
        self,
        scheduler: Scheduler,
        library: Library,
        table: JobTable,
        settings: Settings,
        observe: Callable[[Job], Job],
    ) -> None:
        self._scheduler, self._library, self._table = scheduler, library, table
        self._settings, self._observe = settings, observe
        self._orders = Orders()

    async def place(
        self, request: Any, asked: Any, client: str, make: Callable[[Asker], list[Job]], reader: Subscription
    ) -> Placed:
        """Ask for the clips of a request; `asked` is the part of it that holds its id and whether it is detached.

        Of an order that was sent before, clips that are stored or in flight are met again; those that failed or were
        cancelled are made anew, from the same recipe. `reader` has the events of all that are in flight, and holds
        them. Raises InvalidRequestError and what `make` raises; QueueFullError, TooManyJobsError,
        DaemonStoppingError: then no clip was asked for.
        """
        request_id = asked.request_id if asked.HasField("request_id") else None
        order = self._orders.open(client, request_id)
        async with order.lock:
            order.require_same(request)
            in_flight = self._met_in_flight(order, reader)
            stored = await asyncio.to_thread(self._stored, [one for one in order.clip_ids if one not in in_flight])
            missing = [number for number, one in enumerate(order.clip_ids) if one not in in_flight | stored.keys()]
            if missing or not order.clip_ids:
                jobs = await asyncio.to_thread(make, Asker(client, request_id or "", order.seed))
                if order.clip_ids:
                    jobs = [jobs[number] for number in missing]
                self._submit(jobs, reader, kept=asked.detached)
                order.note(request, missing, [job.clip_id for job in jobs])
                in_flight |= {job.clip_id for job in jobs}
            return Placed(tuple(stored.values()), frozenset(in_flight))

    def leave(self, reader: Subscription) -> None:
        """Its call has ended: what it alone waited for is cancelled."""
        for clip_id in self._table.leave(reader):
            try:
                self._scheduler.cancel(clip_id)
            except NotInFlightError:
                continue  # done in this very moment

    def _met_in_flight(self, order: Order, reader: Subscription) -> set[str]:
        """Held from here on, so that the end of an earlier call does not cancel them."""
        views = [view for clip_id in order.clip_ids if (view := self._table.find(clip_id)) is not None]
        met = {view.job.clip_id for view in views if not view.ended and view.job.stop.error is None}
        return set(self._table.attach(reader, met, holds=True, how_far=True))

    def _stored(self, clip_ids: Collection[str]) -> dict[str, StoredClip]:
        found = {}
        for clip_id in clip_ids:
            try:
                found[clip_id] = self._library.get(clip_id)
            except ClipNotFoundError:
                continue
        return found

    def _submit(self, jobs: list[Job], reader: Subscription, *, kept: bool) -> None:
        try:
            self._table.add(jobs, kept=kept, client_limit=self._settings.client_jobs)
            self._table.attach(reader, [job.clip_id for job in jobs], holds=True, how_far=False)
            self._scheduler.submit([self._observe(job) for job in jobs])
        except Exception as error:
            self._table.discard(jobs)
            if isinstance(error, QueueFullError | TooManyJobsError):
                error.retry_seconds = self._table.retry_seconds()
            if isinstance(error, DaemonStoppingError):
                error.retry_seconds = max(self._settings.drain_seconds, error.retry_seconds)
            raise
