"""One reader of jobs' events. A reader that is slow, or reads nothing at all, holds nobody up and costs little memory:
of events it has not read yet, later positions and jumps take the place of earlier ones; how a job ended is never lost.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from soundctm_daemon.jobs import Job, JobEvent

WAITING_EVENTS = 256  # beyond these, a job has one event of each kind


class Subscription:
    """Made on the event loop that reads it. `lock` guards what waits; `put` is called under it, from any thread."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._waiting: deque[tuple[Job, JobEvent]] = deque()

    def put(self, job: Job, event: JobEvent) -> None:
        if len(self._waiting) >= WAITING_EVENTS:
            same = next((number for number, told in enumerate(self._waiting) if _is_like(told, job, event)), None)
            if same is not None:
                del self._waiting[same]
        self._waiting.append((job, event))
        if len(self._waiting) > 1:
            return  # the reader knows
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            return  # the loop is closed: the daemon has ended and nobody reads

    async def next(self) -> tuple[Job, JobEvent]:
        """The next event and the job it is about; waits for it."""
        while True:
            self._news.clear()
            with self._lock:
                if self._waiting:
                    return self._waiting.popleft()
            await self._news.wait()


def _is_like(told: tuple[Job, JobEvent], job: Job, event: JobEvent) -> bool:
    return told[0].clip_id == job.clip_id and type(told[1]) is type(event)
