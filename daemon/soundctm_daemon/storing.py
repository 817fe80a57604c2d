"""Clips go to the disk beside the clips being made: on a thread of its own, in the order they were made."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from soundctm.errors import SoundCTMError
from soundctm_daemon.clip import ClipRecord
from soundctm_daemon.errors import InternalError
from soundctm_daemon.jobs import Failed, Job, JobEvent, Ready
from soundctm_daemon.library import Library
from soundctm_daemon.scheduler import Scheduler

_MOST_UNSTORED = 16  # clips in memory that the disk has not taken yet; then the engine waits for it
_log = logging.getLogger(__name__)


class Storing:
    def __init__(self, scheduler: Scheduler, library: Library) -> None:
        self._scheduler, self._library = scheduler, library
        self._thread = ThreadPoolExecutor(1, "storing")
        self._room = threading.BoundedSemaphore(_MOST_UNSTORED)

    def store(
        self, job: Job, record: ClipRecord, audio: NDArray[np.float32], embedding: NDArray[np.float32]
    ) -> None:
        """Returns at once, unless the disk is far behind; the job is finished when it is done."""
        self._room.acquire()
        self._thread.submit(self._store, job, record, audio, embedding)

    def close(self) -> None:
        """Once everything is stored."""
        self._thread.shutdown()

    def _store(
        self, job: Job, record: ClipRecord, audio: NDArray[np.float32], embedding: NDArray[np.float32]
    ) -> None:
        try:
            self._scheduler.finish(job, self._outcome(job, record, audio, embedding))
        finally:
            self._room.release()

    def _outcome(
        self, job: Job, record: ClipRecord, audio: NDArray[np.float32], embedding: NDArray[np.float32]
    ) -> JobEvent:
        try:
            self._scheduler.begin_writing(job)
        except SoundCTMError as error:
            return Failed(error)
        try:
            return Ready(self._library.add(record, audio, embedding))
        except SoundCTMError as error:
            _log.error("clip %s could not be stored: %s", job.clip_id, error, extra={"clip_id": job.clip_id})
            return Failed(error)
        except Exception as error:
            _log.exception("storing clip %s met a defect", job.clip_id, extra={"clip_id": job.clip_id})
            return Failed(
                InternalError(
                    f"storing the clip failed unexpectedly ({type(error).__name__}: {error}); nothing was stored. The "
                    "daemon's log has the details; please report it."
                )
            )
