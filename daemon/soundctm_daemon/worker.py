"""The engine worker: one thread that owns the engine, loads it, and makes one clip after the other."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundctm.bundle import Bundle
from soundctm.engines.protocol import Engine
from soundctm.errors import CancelledError, SoundCTMError
from soundctm.familiarity import Familiarity
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.clip import ClipRecord, StoredClip
from soundctm_daemon.errors import InternalError, ModelLoadError
from soundctm_daemon.jobs import Failed, Job, JobEvent, JumpDone, Ready, Started
from soundctm_daemon.library import Library
from soundctm_daemon.scheduler import Scheduler

LoadEngine = Callable[[Bundle], Engine]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineState:
    """Digests of bundles: the one in memory, the one being loaded; and why the last load failed, if it did."""

    loaded: str | None = None
    loading: str | None = None
    failed: str | None = None
    problem: str = ""


def torch_loader(device: str, threads: int = 0) -> LoadEngine:
    """Loads with PyTorch, which is imported on the first load: a daemon answers long before that.

    `threads` 0 leaves PyTorch its own choice: all cores. Its threads sleep while they wait for one another instead of
    spinning: on two cores that a DAW keeps busy too, 16 jumps take 2 s and not 16; alone, 0.9 s and not 0.8.
    """

    def load(bundle: Bundle) -> Engine:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when PyTorch is imported
        from soundctm.engines.torch import load_engine

        return load_engine(bundle, device, threads or None)

    return load


class Worker(threading.Thread):
    """Loads the default model, then takes clips from the scheduler until that ends.

    `on_state` is called from this thread whenever `state` changes. A model that fails to load fails the clip that
    asked for it; the next clip tries again, so a repaired bundle needs no restart.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        library: Library,
        catalogue: Catalogue,
        load: LoadEngine,
        on_state: Callable[[EngineState], None],
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self._scheduler, self._library, self._catalogue = scheduler, library, catalogue
        self._load, self._on_state = load, on_state
        self._engine: Engine | None = None
        self.state = EngineState()

    def run(self) -> None:
        self._load_default()
        while (job := self._scheduler.take()) is not None:
            self._scheduler.finish(job, self._outcome(job))

    def _load_default(self) -> None:
        try:
            _, bundle = self._catalogue.find("")
            self._engine_for(bundle)
        except SoundCTMError as error:
            _log.error("the default model cannot be used: %s", error)
        except Exception:  # a dead worker would leave every clip waiting; the next request meets the cause again
            _log.exception("looking for the default model met a defect")

    def _outcome(self, job: Job) -> JobEvent:
        """Ready or Failed; the one place where an unforeseen exception becomes an answer instead of a dead thread."""
        try:
            job.emit(Started())
            return Ready(self._make(job))
        except CancelledError as error:
            return Failed(error)
        except SoundCTMError as error:
            _log.error("clip %s failed: %s", job.clip_id, error)
            return Failed(error)
        except Exception as error:
            _log.exception("clip %s met a defect", job.clip_id)
            return Failed(
                InternalError(
                    f"making the clip failed unexpectedly ({type(error).__name__}: {error}); nothing was stored. The "
                    "daemon's log has the details; please report it."
                )
            )

    def _make(self, job: Job) -> StoredClip:
        from soundctm.render import render

        _stop_if_asked(job)
        engine = self._engine_for(job.bundle)
        began = time.perf_counter()
        audio = render(engine, job.recipe, lambda done, total: job.emit(JumpDone(done, total)), job.stop.is_set)
        render_seconds = time.perf_counter() - began
        _stop_if_asked(job)
        familiarity = engine.familiarity(job.recipe.prompt)
        return self._library.add(_record(job, audio, render_seconds, familiarity), audio)

    def _engine_for(self, bundle: Bundle) -> Engine:
        """The engine in memory if it is this bundle's, else a new one in its place. Raises BundleError and its kinds,
        ModelLoadError."""
        if self._engine is not None and self._engine.digest == bundle.digest:
            return self._engine
        self._engine = None  # two big models would not fit side by side
        self._set_state(EngineState(loading=bundle.digest))
        began = time.perf_counter()
        try:
            engine = self._loaded(bundle)
        except SoundCTMError as error:
            self._set_state(EngineState(failed=bundle.digest, problem=str(error)))
            raise
        self._engine = engine
        _log.info("loaded model %s in %.2f s", bundle.spec.name, time.perf_counter() - began)
        self._set_state(EngineState(loaded=bundle.digest))
        return engine

    def _loaded(self, bundle: Bundle) -> Engine:
        try:
            return self._load(bundle)
        except SoundCTMError:
            raise
        except Exception as error:
            _log.exception("loading %s met a defect", bundle.path)
            raise ModelLoadError(
                f"the model {bundle.spec.name!r} in {bundle.path} cannot be loaded ({type(error).__name__}: {error}). "
                "Run `soundctm doctor`, and look at the daemon's log."
            ) from error

    def _set_state(self, state: EngineState) -> None:
        self.state = state
        self._on_state(state)


def _stop_if_asked(job: Job) -> None:
    if job.stop.is_set():
        raise CancelledError("the clip was cancelled; nothing was stored.")


def _record(
    job: Job, audio: NDArray[np.float32], render_seconds: float, familiarity: Familiarity | None
) -> ClipRecord:
    """What is known of audio float32 [channels, samples]."""
    return ClipRecord(
        id=job.clip_id,
        model=job.model,
        recipe=job.recipe,
        parent_id=job.parent_id,
        label=job.label,
        created_at=time.time(),
        render_seconds=render_seconds,
        sample_rate_hz=job.bundle.spec.codec.sample_rate_hz,
        channels=audio.shape[0],
        samples=audio.shape[1],
        peak=float(np.abs(audio).max(initial=0.0)),
        familiarity=familiarity,
    )
