"""A clip on its way through the engine: its take, and for a clip with a deadline the best take so far."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from numpy.typing import NDArray

from soundctm.engines.costs import Costs
from soundctm.engines.protocol import Engine
from soundctm.errors import NonFiniteAudioError
from soundctm.recipe import Recipe
from soundctm.render import Take, audio_of, begin, stage_of
from soundctm_daemon.anytime import next_steps, seconds_to_go
from soundctm_daemon.clip import ClipRecord
from soundctm_daemon.jobs import Job, JumpDone
from soundctm_daemon.scheduler import Waiting
from soundctm_daemon.ticks import Candidate


class Flight:
    """Belongs to the engine's thread. `engine` is the one it began with, whatever is loaded since."""

    def __init__(self, waiting: Waiting, engine: Engine) -> None:
        """Raises whatever the engine raises for the prompt."""
        self.job: Job = waiting.job
        self.engine = engine
        self._order = waiting.order
        self._began = time.perf_counter()
        self._best: tuple[Recipe, NDArray[np.float32]] | None = None
        recipe = self.job.recipe
        self.take: Take = begin(engine, recipe if self.job.deadline_seconds is None else _in_jumps(recipe, 1))
        self._render_seconds = 0.0

    @property
    def candidate(self) -> Candidate:
        take, job = self.take, self.job
        frames = float(take.frames) if take.jumping else take.frames / take.tiles
        priority = job.first_priority if self._best is None else job.priority
        return Candidate(
            job.clip_id, priority, self._order, job.bundle.digest, take.stage, take.jumping, take.rows, frames
        )

    def moved(self, take: Take) -> None:
        """The take is one step further; a jump is told."""
        jumped, self.take = self.take.jumping, take
        if jumped:
            self.job.emit(JumpDone(take.cursor.done, len(take.cursor.plan)))

    def landed(self, costs: Costs) -> bool:
        """The take is done. True: so is the clip. False: there is time for a take of more jumps, which is begun.

        Raises NonFiniteAudioError where no take is fit to be kept.
        """
        try:
            self._best = self.take.recipe, audio_of(self.engine, self.take)
            self._render_seconds = time.perf_counter() - self._began
        except NonFiniteAudioError:
            if self._best is None:
                raise
            return True
        if self.job.deadline_seconds is None:
            return True
        left = self.job.deadline_seconds - time.monotonic()
        steps = next_steps(self.take, self.job.recipe.steps, left, costs)
        if steps is None:
            return True
        self.take = begin(self.engine, _in_jumps(self.job.recipe, steps))
        return False

    def out_of_time(self, costs: Costs) -> bool:
        """There is a take to give, and this one would come too late."""
        if self._best is None or self.job.deadline_seconds is None:
            return False
        return time.monotonic() + seconds_to_go(self.take, costs) > self.job.deadline_seconds

    def result(self) -> tuple[ClipRecord, NDArray[np.float32], NDArray[np.float32]]:
        """Of the best take: what is known of it, audio float32 [channels, samples], and the prompt's embedding."""
        assert self._best is not None
        recipe, audio = self._best
        job, spec = self.job, self.job.bundle.spec
        means = audio.mean(axis=1, dtype=np.float64)
        record = ClipRecord(
            id=job.clip_id,
            model=job.model,
            recipe=recipe,
            parent_id=job.parent_id,
            label=job.label,
            created_at=time.time(),
            render_seconds=self._render_seconds,
            sample_rate_hz=spec.codec.sample_rate_hz,
            channels=audio.shape[0],
            samples=audio.shape[1],
            peak=float(np.abs(audio).max(initial=0.0)),
            familiarity=self.engine.familiarity(recipe.prompt),
            mean=float(means[np.abs(means).argmax()]),
            asked_samples=spec.samples(recipe.seconds),
            other_weights=job.other_weights,
        )
        return record, audio, self.engine.embed([recipe.prompt])[0]


def candidate_of_waiting(waiting: Waiting) -> Candidate:
    """A clip that would make its first jump."""
    job = waiting.job
    frames = job.bundle.spec.latent_frames(job.recipe.seconds)
    return Candidate(
        job.clip_id,
        job.first_priority,
        waiting.order,
        job.bundle.digest,
        stage=stage_of(frames, None),
        jumping=True,
        rows=1 if job.recipe.nu == 1.0 else 2,
        frames=float(frames),
    )


def _in_jumps(recipe: Recipe, steps: int) -> Recipe:
    return dataclasses.replace(recipe, steps=steps)
