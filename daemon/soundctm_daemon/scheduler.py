"""Which clip is made next. Between the front end's event loop and the worker's thread; every method is thread-safe.

Previews (few jumps) go before everything else, each kind in the order it came.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from soundctm.errors import CancelledError
from soundctm_daemon.errors import DaemonStoppingError, NotInFlightError, QueueFullError
from soundctm_daemon.jobs import Failed, Job, JobEvent, Queued


class Scheduler:
    def __init__(self, queue_limit: int, preview_steps: int) -> None:
        self._queue_limit, self._preview_steps = queue_limit, preview_steps
        self._changed = threading.Condition()
        self._previews: list[Job] = []
        self._others: list[Job] = []
        self._running: Job | None = None
        self._accepting = True
        self._ended = False

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue clips, all or none; each is told its position. Raises QueueFullError, DaemonStoppingError."""
        with self._changed:
            if not self._accepting:
                raise DaemonStoppingError("the daemon is stopping and takes no new clips. Start it and ask again.")
            waiting = len(self._waiting())
            if waiting + len(jobs) > self._queue_limit:
                raise QueueFullError(
                    f"{waiting} clips are waiting already and {len(jobs)} more would be too many: queue_limit allows "
                    f"{self._queue_limit}. Wait for some, cancel some, or raise queue_limit."
                )
            before = self._positions()
            for job in jobs:
                (self._previews if job.recipe.steps <= self._preview_steps else self._others).append(job)
            self._tell_positions(before)
            self._changed.notify_all()

    def take(self) -> Job | None:
        """Wait for the next clip to make; None once `end` was called. The taker calls `finish`."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._waiting())
            if self._ended:
                return None
            self._running = (self._previews or self._others).pop(0)
            return self._running

    def finish(self, job: Job, last_event: JobEvent) -> None:
        """The clip taken is made or has failed: tell it, and tell the others that they have moved up."""
        with self._changed:
            before = self._positions()
            self._running = None
            job.emit(last_event)
            self._tell_positions(before)
            self._changed.notify_all()

    def cancel(self, clip_id: str) -> None:
        """A waiting clip fails at once, a running one before its next jump. Raises NotInFlightError."""
        with self._changed:
            if self._running is not None and self._running.clip_id == clip_id:
                self._running.stop.set()
                return
            for jobs in (self._previews, self._others):
                for job in jobs:
                    if job.clip_id == clip_id:
                        before = self._positions()
                        jobs.remove(job)
                        job.emit(Failed(CancelledError("the clip was cancelled while it waited; nothing was stored.")))
                        self._tell_positions(before)
                        self._changed.notify_all()
                        return
        raise NotInFlightError(f"no clip with the id {clip_id!r} is queued or being made; it may be done already.")

    def cancel_all(self) -> None:
        with self._changed:
            for job in self._waiting():
                job.emit(Failed(CancelledError("the daemon is stopping; the clip was not made. Ask for it again.")))
            self._previews.clear()
            self._others.clear()
            if self._running is not None:
                self._running.stop.set()
            self._changed.notify_all()

    def stop_accepting(self) -> None:
        with self._changed:
            self._accepting = False

    def wait_idle(self, timeout_seconds: float) -> bool:
        """Wait until nothing waits or runs; False when that took too long."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            return self._changed.wait_for(
                lambda: self._running is None and not self._waiting(), deadline - time.monotonic()
            )

    def end(self) -> None:
        """`take` gives None from now on."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _waiting(self) -> list[Job]:
        return self._previews + self._others

    def _positions(self) -> dict[str, int]:
        ahead = 0 if self._running is None else 1
        return {job.clip_id: ahead + index for index, job in enumerate(self._waiting())}

    def _tell_positions(self, before: dict[str, int]) -> None:
        """Each waiting clip whose position is not what it was `before` (a new one had none)."""
        now = self._positions()
        for job in self._waiting():
            if before.get(job.clip_id) != now[job.clip_id]:
                job.emit(Queued(now[job.clip_id]))
