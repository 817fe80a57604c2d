"""The engine's thread: tick after tick, one batched step for whoever is to go next."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from soundctm.engines.costs import Cost, Costs
from soundctm.errors import CancelledError, OutOfMemoryError, SoundCTMError
from soundctm.render import step
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.engines import EnginePool
from soundctm_daemon.errands import Errands
from soundctm_daemon.errors import DaemonStoppingError, InternalError
from soundctm_daemon.flight import Flight, candidate_of_waiting
from soundctm_daemon.jobs import Failed
from soundctm_daemon.library import Library
from soundctm_daemon.loading import Loading
from soundctm_daemon.scheduler import Scheduler, Waiting, stopping_error
from soundctm_daemon.storing import Storing
from soundctm_daemon.ticks import Candidate, PassedOver, choose, passed_over_after, rows_together

T = TypeVar("T")
_BEGIN_SECONDS = 0.05  # a tick spends no longer on the prompts of clips that begin in it; the others begin in the next
_log = logging.getLogger(__name__)


class Worker(threading.Thread):
    """Has the default model loaded, then makes clips until the scheduler ends.

    Clips keep the engine they began with. A model that fails to load fails the clips that wait for it; the next one
    tries again, so a repaired bundle needs no restart. `on_tick` is told how long each tick took.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        library: Library,
        catalogue: Catalogue,
        pool: EnginePool,
        on_tick: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self._scheduler, self._catalogue, self._pool, self._on_tick = scheduler, catalogue, pool, on_tick
        self._loading = Loading(pool, scheduler.wake)
        self._storing = Storing(scheduler, library)
        self._flights: dict[str, Flight] = {}
        self._costs: dict[str, Costs] = {}  # by digest
        self._passed_over: PassedOver = {}
        self._errands = Errands()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function on this thread between two ticks. The future fails with DaemonStoppingError at the end."""
        future = self._errands.add(function)
        self._scheduler.wake()
        return future

    def run(self) -> None:
        self._loading.ask(lambda: self._catalogue.find("")[1], "")
        while not self._scheduler.ended:
            seen = self._scheduler.changes()
            try:
                busy = self._tick()
            except Exception as error:  # a dead thread would leave every clip waiting
                self._fail_all(_told(error, "(all in flight)"))
                busy = True
            if not busy:
                self._scheduler.wait(seen)
        self._close()

    def _tick(self) -> bool:
        """One step for some. False when there was nothing to do."""
        self._errands.run()
        self._fail_unloadable()
        self._drop_unwanted()
        began = time.perf_counter()
        candidates = self._candidates()
        chosen = choose(candidates, self._passed_over, self._row_limit)
        if not chosen:
            return False
        flights = self._boarded(chosen)
        self._passed_over = passed_over_after(candidates, chosen, self._passed_over)
        if flights:
            self._step(flights)
        self._on_tick(time.perf_counter() - began)
        return True

    # ---- who is ready ----

    def _candidates(self) -> list[Candidate]:
        """Clips being made, and those waiting whose model is in memory; other models are asked for on the way.

        Where a model waits for the memory of others' clips, nobody who comes after its first clip begins before it.
        """
        ready = [flight.candidate for flight in self._flights.values()]
        crowded_out = ""
        for waiting in self._scheduler.waiting():
            bundle = waiting.job.bundle
            if crowded_out and bundle.digest != crowded_out:
                continue
            if self._loading.in_memory(bundle, idle=not self._flights):
                if self._knows_costs(waiting):
                    ready.append(candidate_of_waiting(waiting))
            elif self._loading.is_crowded_out(bundle.digest):
                crowded_out = bundle.digest
        return ready

    def _knows_costs(self, waiting: Waiting) -> bool:
        """Of the clip's model. A clip whose model cannot be measured fails."""
        digest = waiting.job.bundle.digest
        if digest not in self._costs:
            try:
                self._costs[digest] = self._pool.get(waiting.job.bundle).costs()
            except Exception as error:
                self._fail_waiting(waiting, _told(error, waiting.job.clip_id))
                return False
        return True

    def _row_limit(self, lead: Candidate) -> int:
        costs = self._costs[lead.digest]
        return rows_together(costs.jump if lead.jumping else costs.decode, lead.frames)

    def _boarded(self, chosen: Sequence[Candidate]) -> list[Flight]:
        """The flights of those chosen; who waited begins now."""
        waiting = {waiting.job.clip_id: waiting for waiting in self._scheduler.waiting()}
        flights: list[Flight] = []
        began: float | None = None  # when the first of them did
        for candidate in chosen:
            flight = self._flights.get(candidate.clip_id)
            in_time = began is None or time.perf_counter() - began < _BEGIN_SECONDS
            if flight is None and candidate.clip_id in waiting and in_time:
                began = began or time.perf_counter()
                flight = self._begun(waiting[candidate.clip_id])
            if flight is not None:
                flights.append(flight)
        return flights

    def _begun(self, waiting: Waiting) -> Flight | None:
        job = waiting.job
        if not self._scheduler.begin(waiting):
            return None
        self._pool.pin(job.bundle.digest)
        try:
            flight = Flight(waiting, self._pool.get(job.bundle))
        except Exception as error:
            self._pool.unpin(job.bundle.digest)
            self._scheduler.finish(job, Failed(_told(error, job.clip_id)))
            return None
        self._flights[job.clip_id] = flight
        return flight

    # ---- one step ----

    def _step(self, flights: Sequence[Flight]) -> None:
        """All of them together; where that fails each alone, so that only the guilty one fails."""
        try:
            self._step_together(flights)
        except Exception as error:
            if len(flights) == 1:
                self._fail(flights[0], error)
                return
            _log.warning("a step of %d clips failed and is tried clip by clip: %s", len(flights), error)
            for flight in flights:
                if self._is_wanted(flight):
                    self._step([flight])

    def _step_together(self, flights: Sequence[Flight]) -> None:
        lead, rows = flights[0].candidate, sum(flight.take.rows for flight in flights)
        began = time.perf_counter()
        try:
            takes = step(flights[0].engine, [flight.take for flight in flights])
        except OutOfMemoryError:
            self._learn(lead, lambda cost: cost.too_large(rows * lead.frames))
            raise
        seconds = time.perf_counter() - began
        self._learn(lead, lambda cost: cost.seen(rows * lead.frames, seconds))
        for flight, take in zip(flights, takes, strict=True):
            flight.moved(take)
            if take.done:
                self._land(flight)

    def _learn(self, lead: Candidate, change: Callable[[Cost], Cost]) -> None:
        costs = self._costs[lead.digest]
        self._costs[lead.digest] = (
            replace(costs, jump=change(costs.jump)) if lead.jumping else replace(costs, decode=change(costs.decode))
        )

    def _land(self, flight: Flight) -> None:
        try:
            done = flight.landed(self._costs[flight.job.bundle.digest])
        except Exception as error:
            self._fail(flight, error)
            return
        if done:
            self._store(flight)

    def _store(self, flight: Flight) -> None:
        try:
            record, audio, embedding = flight.result()
        except Exception as error:
            self._fail(flight, error)
            return
        self._leave(flight)
        self._scheduler.made(flight.job)
        self._storing.store(flight.job, record, audio, embedding)

    def _fail(self, flight: Flight, error: Exception) -> None:
        self._leave(flight)
        self._scheduler.finish(flight.job, Failed(_told(error, flight.job.clip_id)))

    def _leave(self, flight: Flight) -> None:
        """It needs its engine no longer."""
        del self._flights[flight.job.clip_id]
        self._pool.unpin(flight.job.bundle.digest)
        self._loading.room_freed()

    # ---- between ticks ----

    def _fail_unloadable(self) -> None:
        """The clips that wait for models that could not be loaded."""
        for digest, error in self._loading.failures().items():
            for waiting in self._scheduler.waiting():
                if waiting.job.bundle.digest == digest:
                    self._fail_waiting(waiting, error)

    def _fail_waiting(self, waiting: Waiting, error: SoundCTMError) -> None:
        if self._scheduler.begin(waiting):
            self._scheduler.finish(waiting.job, Failed(error))

    def _drop_unwanted(self) -> None:
        """Before every step: who was cancelled fails, who has no time left for a better take gives the one it has."""
        for flight in list(self._flights.values()):
            if self._is_wanted(flight) and flight.out_of_time(self._costs[flight.job.bundle.digest]):
                self._store(flight)

    def _is_wanted(self, flight: Flight) -> bool:
        if flight.job.stop.error is not None:
            self._fail(flight, flight.job.stop.error)
            return False
        return True

    def _fail_all(self, error: SoundCTMError) -> None:
        for flight in list(self._flights.values()):
            self._fail(flight, error)
        for waiting in self._scheduler.waiting():
            self._fail_waiting(waiting, error)

    def _close(self) -> None:
        self._fail_all(stopping_error())
        self._errands.close()
        self._loading.close()
        self._storing.close()


def _told(error: Exception, clip_id: str) -> SoundCTMError:
    """What the client is told, and the log."""
    if isinstance(error, CancelledError | DaemonStoppingError):
        return error
    if isinstance(error, SoundCTMError):
        _log.error("clip %s failed: %s", clip_id, error, extra={"clip_id": clip_id})
        return error
    _log.error("clip %s met a defect", clip_id, exc_info=error, extra={"clip_id": clip_id})
    return InternalError(
        f"making the clip failed unexpectedly ({type(error).__name__}: {error}); nothing was stored. The daemon's log "
        "has the details; please report it."
    )
