"""The clips in flight. Between the front end's event loop and the engine's thread; every method is thread-safe.

A clip waits, then is being made, then is being stored; in all three it is in flight, and can be stopped until its file
is being written. What happens to it is told under the lock, so that events of one clip never overtake one another.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from soundctm.errors import CancelledError, SoundCTMError
from soundctm_daemon.errors import DaemonStoppingError, NotInFlightError, QueueFullError
from soundctm_daemon.jobs import Failed, Job, JobEvent, Priority, Queued, Started


@dataclass(frozen=True, eq=False)
class Waiting:
    """`order` rises with every clip that comes."""

    order: int
    job: Job


class Scheduler:
    def __init__(self, queue_limit: int) -> None:
        self._queue_limit = queue_limit
        self._changed = threading.Condition()
        self._changes = 0
        self._submitted = 0
        self._waiting: list[Waiting] = []       # in the order they will be made
        self._making: dict[str, Job] = {}
        self._storing: dict[str, Job] = {}
        self._writing: set[str] = set()         # of those being stored: too late to stop them
        self._accepting = True
        self._ended = False

    # ---- the front end's ----

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue all of them or none; each is told its position. Raises QueueFullError, DaemonStoppingError."""
        with self._changed:
            if not self._accepting:
                raise DaemonStoppingError("the daemon is stopping and takes no new clips. Start it and ask again.")
            if len(self._waiting) + len(jobs) > self._queue_limit:
                raise QueueFullError(
                    f"{len(self._waiting)} clips are waiting already, {len(jobs)} more were asked for, and "
                    f"{self._queue_limit} may wait. Wait for some, cancel some, or raise queue_limit."
                )
            before = self._positions()
            self._waiting += [Waiting(self._submitted + index, job) for index, job in enumerate(jobs)]
            self._waiting.sort(key=lambda waiting: (waiting.job.first_priority, waiting.order))
            self._submitted += len(jobs)
            self._tell_positions(before)
            self._notify()

    def cancel(self, clip_id: str) -> None:
        """A waiting clip fails at once, one being made before its next jump or tile, one being stored before its file
        is written. Raises NotInFlightError; a clip whose file is being written is as good as done.
        """
        with self._changed:
            if self._stop_running(clip_id, CancelledError("the clip was cancelled; nothing was stored.")):
                return
            found = next((waiting for waiting in self._waiting if waiting.job.clip_id == clip_id), None)
            if found is None:
                raise NotInFlightError(
                    f"no clip with the id {clip_id!r} is queued or being made; it may be done already."
                )
            before = self._positions()
            self._waiting.remove(found)
            found.job.emit(Failed(CancelledError("the clip was cancelled while it waited; nothing was stored.")))
            self._tell_positions(before)
            self._notify()

    def stop_all(self) -> None:
        """Everything in flight fails with DaemonStoppingError, as soon as if it were cancelled."""
        with self._changed:
            for waiting in self._waiting:
                waiting.job.emit(Failed(stopping_error()))
            self._waiting.clear()
            for clip_id in (*self._making, *self._storing):
                self._stop_running(clip_id, stopping_error())
            self._notify()

    def stop_accepting(self) -> None:
        with self._changed:
            self._accepting = False

    def wait_idle(self, timeout_seconds: float) -> bool:
        """Wait until nothing is in flight; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._waiting or self._making or self._storing), timeout_seconds
            )

    def end(self) -> None:
        """The engine's thread is to end."""
        with self._changed:
            self._ended = True
            self._notify()

    def load(self) -> tuple[Mapping[Priority, int], Mapping[Priority, int]]:
        """How many clips of each kind wait, and how many are being made or stored."""
        with self._changed:
            running = (*self._making.values(), *self._storing.values())
            return Counter(waiting.job.priority for waiting in self._waiting), Counter(job.priority for job in running)

    # ---- the engine's ----

    @property
    def ended(self) -> bool:
        return self._ended

    def changes(self) -> int:
        """A number that every change raises: asked before looking, it tells `wait` what was seen."""
        with self._changed:
            return self._changes

    def wait(self, seen: int) -> None:
        """Until something has changed since `changes` gave `seen`."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes != seen)

    def wake(self) -> None:
        """Something that the engine's thread waits for has happened elsewhere."""
        with self._changed:
            self._notify()

    def waiting(self) -> list[Waiting]:
        """In the order they will be made."""
        with self._changed:
            return list(self._waiting)

    def begin(self, waiting: Waiting) -> bool:
        """It is being made from now on and is told so. False where it was cancelled meanwhile."""
        with self._changed:
            if waiting not in self._waiting:
                return False
            before = self._positions()
            self._waiting.remove(waiting)
            self._making[waiting.job.clip_id] = waiting.job
            waiting.job.emit(Started())
            self._tell_positions(before)
            return True

    def made(self, job: Job) -> None:
        """It is being stored from now on: others move up."""
        with self._changed:
            before = self._positions()
            self._storing[job.clip_id] = self._making.pop(job.clip_id)
            self._tell_positions(before)

    def begin_writing(self, job: Job) -> None:
        """Its file is written from now on. Raises what it is to fail with where it was stopped before."""
        with self._changed:
            if job.stop.error is not None:
                raise job.stop.error
            self._writing.add(job.clip_id)

    def finish(self, job: Job, last_event: JobEvent) -> None:
        """A clip that was begun is ready or has failed: tell it, and tell the others that they have moved up."""
        with self._changed:
            before = self._positions()
            self._making.pop(job.clip_id, None)
            self._storing.pop(job.clip_id, None)
            self._writing.discard(job.clip_id)
            job.emit(last_event)
            self._tell_positions(before)
            self._notify()

    def _stop_running(self, clip_id: str, error: SoundCTMError) -> bool:
        """False where it is not being made or stored, or can be stopped no more."""
        job = self._making.get(clip_id) or self._storing.get(clip_id)
        if job is None or clip_id in self._writing:
            return False
        job.stop.error = job.stop.error or error
        self._notify()
        return True

    def _notify(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def _positions(self) -> dict[str, int]:
        return {waiting.job.clip_id: len(self._making) + index for index, waiting in enumerate(self._waiting)}

    def _tell_positions(self, before: Mapping[str, int]) -> None:
        """Each waiting clip whose position is not what it was `before` (a new one had none)."""
        now = self._positions()
        for waiting in self._waiting:
            clip_id = waiting.job.clip_id
            if before.get(clip_id) != now[clip_id]:
                waiting.job.emit(Queued(now[clip_id]))


def stopping_error() -> DaemonStoppingError:
    """Of a clip that the end of the daemon cut short."""
    return DaemonStoppingError("the daemon is stopping and did not finish the clip. Start it and ask again.")
