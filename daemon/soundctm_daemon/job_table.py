"""Every job in flight, and those that ended lately: how far each is, who reads its events, whose calls need it.

Events come from any thread through a job's `emit`; everything else belongs to the event loop. Nothing here blocks, and
nothing here calls the scheduler, which may call `emit` under a lock of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from soundctm.errors import SoundCTMError
from soundctm.recipe import Recipe
from soundctm_daemon.errors import TooManyJobsError
from soundctm_daemon.jobs import Failed, Job, JobEvent, JumpDone, Queued, Ready, Started
from soundctm_daemon.subscription import Subscription

REMEMBERED_SECONDS = 3600.0
REMEMBERED_JOBS = 1000
_RECENT_RENDERS = 32
_SHORTEST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.2, 60.0


class JobState(Enum):
    QUEUED = auto()
    RUNNING = auto()
    READY = auto()
    FAILED = auto()


@dataclass(frozen=True)
class JobView:
    """How far a job is. `recipe` is the job's, once it is ready the clip's, which may have fewer jumps."""

    job: Job
    recipe: Recipe
    state: JobState = JobState.QUEUED
    position: int = 0
    jumps_done: int = 0
    jumps_total: int = 0
    last_event: JobEvent | None = None

    @property
    def ended(self) -> bool:
        return self.state in (JobState.READY, JobState.FAILED)

    @property
    def error(self) -> SoundCTMError | None:
        return self.last_event.error if isinstance(self.last_event, Failed) else None


@dataclass
class _Entry:
    """`readers` are told what happens, and whether they hold the clip: without any holder it is abandoned, unless it
    is `kept`."""

    view: JobView
    kept: bool
    ended_seconds: float = 0.0
    readers: dict[Subscription, bool] = field(default_factory=dict)


class JobTable:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, from anywhere, and never goes back."""
        self._clock = clock
        self._lock = threading.Lock()
        self._in_flight: dict[str, _Entry] = {}             # in the order they came
        self._ended: OrderedDict[str, _Entry] = OrderedDict()  # in the order they ended
        self._render_seconds: deque[float] = deque(maxlen=_RECENT_RENDERS)

    def emitter(self, clip_id: str) -> Callable[[JobEvent], None]:
        """What a job of this clip takes as `emit`."""
        return functools.partial(self._take, clip_id)

    def add(self, jobs: Sequence[Job], *, kept: bool, client_limit: int) -> None:
        """All of them or none; at least one, all of one client. `kept` ones go on when nobody waits for them.

        Raises TooManyJobsError where the client has more than `client_limit` in flight then.
        """
        with self._lock:
            own = sum(entry.view.job.client == jobs[0].client for entry in self._in_flight.values())
            if own + len(jobs) > client_limit:
                raise TooManyJobsError(
                    f"{own} clips of this client are in flight and it asks for {len(jobs)} more; client_jobs allows "
                    f"{client_limit} at once. Wait for some, cancel some, or raise client_jobs."
                )
            for job in jobs:
                self._in_flight[job.clip_id] = _Entry(JobView(job, job.recipe, jumps_total=job.recipe.steps), kept)

    def discard(self, jobs: Collection[Job]) -> None:
        """They were never queued."""
        with self._lock:
            for job in jobs:
                self._in_flight.pop(job.clip_id, None)

    def find(self, clip_id: str) -> JobView | None:
        with self._lock:
            self._forget()
            entry = self._in_flight.get(clip_id) or self._ended.get(clip_id)
            return None if entry is None else entry.view

    def in_flight(self) -> list[JobView]:
        """In the order they will be made: running ones first."""
        with self._lock:
            views = [entry.view for entry in self._in_flight.values()]
        return sorted(views, key=lambda view: (view.state is JobState.QUEUED, view.position, view.job.created_at))

    def ended(self) -> list[JobView]:
        """Latest first."""
        with self._lock:
            self._forget()
            return [entry.view for entry in reversed(self._ended.values())]

    def reader(self) -> Subscription:
        """Of no job yet; made on the event loop that reads it. Who made it calls `leave` in the end."""
        return Subscription(self._lock)

    def attach(self, reader: Subscription, clip_ids: Collection[str], *, holds: bool, how_far: bool) -> list[str]:
        """Let the reader have these jobs' events from now on; first, if `how_far`, one that says how far each is. Gives
        the ids of those it has: one that ended may be forgotten by now."""
        known = []
        with self._lock:
            for clip_id in clip_ids:
                entry = self._in_flight.get(clip_id) or self._ended.get(clip_id)
                if entry is None:
                    continue
                known.append(clip_id)
                if how_far:
                    reader.put(entry.view.job, _how_far(entry.view))
                if not entry.view.ended:
                    entry.readers[reader] = holds
        return known

    def leave(self, reader: Subscription) -> list[str]:
        """The reader reads no more. Gives the clips in flight that it alone held and that are not kept."""
        abandoned = []
        with self._lock:
            for clip_id, entry in self._in_flight.items():
                held = entry.readers.pop(reader, False)
                if held and not entry.kept and not any(entry.readers.values()):
                    abandoned.append(clip_id)
        return abandoned

    def retry_seconds(self) -> float:
        """When a place may be free: the time a clip took lately."""
        with self._lock:
            recent = statistics.median(self._render_seconds) if self._render_seconds else 1.0
        return min(max(recent, _SHORTEST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)

    def _take(self, clip_id: str, event: JobEvent) -> None:
        with self._lock:
            entry = self._in_flight.get(clip_id)
            if entry is None:
                return
            entry.view = _after(entry.view, event)
            for reader in entry.readers:
                reader.put(entry.view.job, event)
            if isinstance(event, Ready):
                self._render_seconds.append(event.clip.record.render_seconds)
            if entry.view.ended:
                entry.readers.clear()
                entry.ended_seconds = self._clock()
                self._ended[clip_id] = self._in_flight.pop(clip_id)
                self._forget()

    def _forget(self) -> None:
        oldest = self._clock() - REMEMBERED_SECONDS
        while self._ended:
            clip_id, entry = next(iter(self._ended.items()))
            if len(self._ended) <= REMEMBERED_JOBS and entry.ended_seconds > oldest:
                return
            del self._ended[clip_id]


def _after(view: JobView, event: JobEvent) -> JobView:
    change = functools.partial(dataclasses.replace, view, last_event=event)
    match event:
        case Queued(position):
            return change(state=JobState.QUEUED, position=position)
        case Started():
            return change(state=JobState.RUNNING, position=0)
        case JumpDone(done, total):
            return change(state=JobState.RUNNING, position=0, jumps_done=done, jumps_total=total)
        case Ready(clip):
            return change(state=JobState.READY, position=0, recipe=clip.record.recipe or view.recipe)
        case Failed():
            return change(state=JobState.FAILED, position=0)


def _how_far(view: JobView) -> JobEvent:
    return Queued(view.position) if view.last_event is None else view.last_event
