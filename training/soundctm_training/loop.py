"""The loop every training runs in: budget, learning rate, reports, samples, checkpoints, and a clean way to stop."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from soundctm_training.averaging import learning_rate_factor
from soundctm_training.config import Reporting, TrainingConfig
from soundctm_training.journal import Journal, open_journal
from soundctm_training.runs import Budget, Run, RunError, claimed, open_run
from soundctm_training.workers import Workers

logger = logging.getLogger(__name__)

SAMPLES_FOLDER = "samples"


class StoppedError(RunError):
    """A signal ended the run before its budget; everything is saved."""

    reason = "TRAINING_STOPPED"


class NotFiniteError(RunError):
    """A loss or gradient is NaN or infinite."""

    reason = "TRAINING_NOT_FINITE"


class Trainer(Protocol):
    """What is trained. `train_step` is a function of the state and the step alone, whatever happened before."""

    @property
    def warmup_steps(self) -> int: ...

    def train_step(self, step: int, rate: float) -> Mapping[str, float]:
        """One optimiser step at `rate` times the learning rate; returns losses by name.

        Raises NotFiniteError before anything is changed.
        """

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...

    def export(self, folder: Path) -> None:
        """Write the weights that are kept."""

    def sample(self, folder: Path, step: int) -> None:
        """Write what the network makes of a few prompts into `folder`."""


def require_finite(losses: Mapping[str, float], step: int, batch: str) -> None:
    """Raises NotFiniteError naming the step, the batch and the losses."""
    bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if bad:
        raise NotFiniteError(
            f"step {step}: {', '.join(f'{name} is {value}' for name, value in bad.items())} in the batch of {batch}. "
            "Nothing was changed; the checkpoint before this step is whole. Look at these clips for faulty values, "
            "or lower the learning rate"
        )


@dataclass
class _Stop:
    """The signal that asked for an end, or 0."""

    number: int = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.number = number


@contextmanager
def _listening() -> Iterator[_Stop]:
    """SIGTERM and SIGINT end the loop after the step in hand."""
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Every:
    """True once every so many seconds."""

    seconds: float
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        current = time.monotonic()
        if current - self._last < self.seconds:
            return False
        self._last = current
        return True


def train(
    make: Callable[[], Trainer], config: TrainingConfig, folder: Path, budget: Budget, workers: Workers
) -> Run:
    """Train until the budget is spent, from the folder's checkpoint where there is one.

    Raises RunError: another process is in the folder, it holds another configuration, the disk is full (the last
    checkpoint is whole), a loss is not finite (NotFiniteError), or a signal came (StoppedError, after saving).
    """
    first = workers.rank == 0
    claim: AbstractContextManager[None] = claimed(folder) if first else nullcontext()
    with claim, _listening() as stop:
        trainer = make()
        with workers.one_after_the_first():
            run, state = open_run(folder, budget, config, reader=not first)
        if state is not None:
            trainer.load(state)
        with open_journal(run, config, on=first) as journal, _progress(first) as progress:
            _steps(trainer, run, config.reporting, workers, stop, journal, progress)
        if first:
            _keep(run, trainer)
    if stop.number:
        raise StoppedError(f"stopped by {signal.Signals(stop.number).name} at step {run.step}; everything is saved in"
                      f" {folder}, and the same command continues from there")
    return run


def _steps(
    trainer: Trainer, run: Run, settings: Reporting, workers: Workers, stop: _Stop, journal: Journal, progress: Progress
) -> None:
    save, sample = _Every(settings.save_seconds), _Every(settings.sample_seconds)
    bar = progress.add_task("", total=1.0, left="")
    gathered: list[Mapping[str, float]] = []
    start = (time.monotonic(), workers.agree(run.share))
    while (share := workers.agree(run.share)) < 1 and not workers.any(stop.number != 0):
        factor = learning_rate_factor(run.step, share, trainer.warmup_steps)
        gathered.append(trainer.train_step(run.step, factor))
        run.step += 1
        if workers.rank:
            continue
        progress.update(bar, completed=share, description=f"step {run.step}", left=_left(start, share))
        if run.step % settings.report_steps == 0:
            journal.report(run, {**_means(gathered), "rate": factor})
            gathered.clear()
        if save.due():
            _keep(run, trainer)
        if sample.due():
            trainer.sample(run.folder / SAMPLES_FOLDER, run.step)
    if gathered and not workers.rank:
        journal.report(run, {**_means(gathered), "rate": learning_rate_factor(run.step, share, trainer.warmup_steps)})


def _means(rows: list[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _left(start: tuple[float, float], share: float) -> str:
    done = share - start[1]
    if done <= 0:
        return ""
    seconds = (time.monotonic() - start[0]) * (1 - share) / done
    return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"


def _progress(on: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    return Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), disable=not on, transient=True)


def _keep(run: Run, trainer: Trainer) -> None:
    run.save(trainer.state())
    trainer.export(run.folder)
