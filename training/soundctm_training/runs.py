"""A run is a folder: resolved configuration, metrics, samples, and a checkpoint from which it continues exactly.

config.json, metrics.jsonl (a row per report), tensorboard/, samples/, checkpoint.pt and the exported weights. Files
that must not be lost are written aside, flushed to the disk and renamed; a lock keeps a second process out.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from soundctm.errors import SoundCTMError

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
CONFIG = "config.json"
_LOCK = "run.lock"


class RunError(SoundCTMError):
    """A run that cannot start, continue or save."""

    reason = "TRAINING_RUN"


class Clock(Enum):
    """What a budget of minutes counts: the time that passes, or what this process computes on all its cores."""

    WALL = "wall"
    CPU = "cpu"


@dataclass(frozen=True)
class Budget:
    """How long a run trains: `steps`, or `minutes` over all its parts. Only a budget of steps resumes bit for bit,
    because the learning rate follows the share of the budget that is spent."""

    steps: int | None = None
    minutes: float | None = None
    clock: Clock = Clock.WALL

    def __post_init__(self) -> None:
        """Raises RunError unless exactly one of steps and minutes is given and positive."""
        given = [value for value in (self.steps, self.minutes) if value is not None]
        if len(given) != 1 or given[0] <= 0:
            raise RunError(
                f"a budget of steps={self.steps}, minutes={self.minutes}; give exactly one of them, above 0",
            )

    def share(self, step: int, seconds: Mapping[Clock, float]) -> float:
        """Of the budget, 0 to 1."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        return min(seconds[self.clock] / (60 * (self.minutes or 0.0)), 1.0)


def now() -> dict[Clock, float]:
    """Seconds of both clocks."""
    return {Clock.WALL: time.monotonic(), Clock.CPU: time.process_time()}


@dataclass
class Run:
    """`spent` and `step` come from the checkpoint when the run is continued."""

    folder: Path
    budget: Budget
    step: int = 0
    spent: dict[Clock, float] = field(default_factory=lambda: dict.fromkeys(Clock, 0.0))
    _started: dict[Clock, float] = field(default_factory=now)

    @property
    def seconds(self) -> dict[Clock, float]:
        """Spent so far, in all parts of the run."""
        current = now()
        return {clock: self.spent[clock] + current[clock] - self._started[clock] for clock in Clock}

    @property
    def share(self) -> float:
        return self.budget.share(self.step, self.seconds)

    def row(self, values: Mapping[str, float]) -> dict[str, float]:
        """A row of metrics.jsonl."""
        seconds = self.seconds
        times = {"seconds": round(seconds[Clock.WALL], 1), "cpu_seconds": round(seconds[Clock.CPU], 1)}
        return {"step": self.step, **times, **values}

    def append_metrics(self, row: Mapping[str, float]) -> None:
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")

    def save(self, state: Mapping[str, Any]) -> None:
        """The checkpoint. Raises RunError when it cannot be written; the one before it is then still whole."""
        spent = {clock.value: seconds for clock, seconds in self.seconds.items()}
        whole = {**state, "step": self.step, "spent": spent}
        write_whole(self.folder / CHECKPOINT, lambda path: torch.save(whole, path))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write` fills a file aside, which then takes the place of `path`: a stop at any moment leaves a whole file.

    Raises RunError naming the file and the disk's free space when it cannot be written.
    """
    aside = path.with_name(path.name + ".new")
    try:
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError, safetensors as its own
        aside.unlink(missing_ok=True)
        raise RunError(f"{path} could not be written ({error}); {free_space(path.parent)}; the file before it is kept"
                       " and the same command continues from it") from error


def free_space(folder: Path) -> str:
    stats = os.statvfs(folder)
    return f"{stats.f_bavail * stats.f_frsize / 1e6:.0f} MB are free in {folder}"


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """safetensors, whole or not at all."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, lambda aside: _save_tensors(kept, aside))


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except Exception as error:  # safetensors wraps the system's errors in a type of its own
        raise OSError(str(error)) from error


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder. Raises RunError when one is already there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise RunError(
                f"process {lock.read().strip() or '?'} already works in {folder}; wait for it, or give another --out"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def open_run(
    folder: Path, budget: Budget, config: object, *, reader: bool = False
) -> tuple[Run, dict[str, Any] | None]:
    """A new run, or the one checkpointed in the folder with its state.

    `config` (a dataclass) is saved beside a new run; a `reader` writes nothing. Raises RunError when the folder holds
    a run of another configuration, or a checkpoint that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resolved = json.loads(json.dumps(plain(config)))
    stored, checkpoint = folder / CONFIG, folder / CHECKPOINT
    if checkpoint.is_file() and stored.is_file():
        _require_same(json.loads(stored.read_text(encoding="utf-8")), resolved, folder)
    elif not reader:
        write_whole(stored, lambda path: path.write_text(json.dumps(resolved, indent=1) + "\n", encoding="utf-8"))
    if not checkpoint.is_file():
        return Run(folder, budget), None
    try:
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    except Exception as error:  # a damaged archive shows itself in many types
        raise RunError(f"{checkpoint} cannot be read ({error}); take it away to start the run anew") from error
    spent = {clock: float(state["spent"][clock.value]) for clock in Clock}
    if not reader:
        _forget_after(folder / METRICS, int(state["step"]))
    logger.info("continuing %s at step %d, %.0f s", folder, state["step"], spent[Clock.WALL])
    return Run(folder, budget, int(state["step"]), spent), state


def _forget_after(metrics: Path, step: int) -> None:
    """Take away the rows of steps that the checkpoint does not know and that will come again."""
    if not metrics.is_file():
        return
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if len(kept) < len(lines):
        write_whole(metrics, lambda path: path.write_text("".join(kept), encoding="utf-8"))


def plain(value: Any) -> Any:
    """A configuration as JSON holds it: dataclasses as tables, enums as their values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _require_same(stored: Any, resolved: Any, folder: Path) -> None:
    changed = sorted(_differences(stored, resolved))
    if changed:
        raise RunError(
            f"{folder} holds a run of another configuration; changed: {', '.join(changed[:6])}. "
            "Give another --out, or the configuration in its config.json"
        )


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif old != new:
        yield f"{where} ({old!r} there, {new!r} now)"
