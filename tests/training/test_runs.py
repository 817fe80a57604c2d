"""A run stops cleanly, continues exactly, and loses nothing to a signal, a NaN, a full disk or a second process."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import signal
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from small_training import CONFIG, dataset
from soundctm.networks.dit import DiT
from soundctm_training import runs
from soundctm_training.config import ConfigError, TrainingConfig
from soundctm_training.distill import Distiller
from soundctm_training.loop import NotFiniteError, StoppedError, Trainer, train
from soundctm_training.runs import Budget, Clock, RunError, claimed, open_run
from soundctm_training.train_teacher import TeacherTrainer
from soundctm_training.workers import ALONE

QUIET = dataclasses.replace(CONFIG.reporting, report_steps=1, save_seconds=0.0, tensorboard=False)
RUN = dataclasses.replace(CONFIG, reporting=QUIET)
SIX = Budget(steps=6)


def make_teacher(config: TrainingConfig = RUN) -> TeacherTrainer:
    return TeacherTrainer(config, dataset())


def make_distiller() -> Distiller:
    torch.manual_seed(0)
    assert RUN.network is not None
    return Distiller(RUN, dataset(), DiT(RUN.network))


def interrupted(make: Callable[[], Trainer], at: int, what: Callable[[], Any]) -> Callable[[], Trainer]:
    """A maker of trainers in whose step `at` something happens after the step was taken."""

    def made() -> Trainer:
        trainer: Any = make()
        step_taken = trainer.train_step

        def train_step(step: int, rate: float) -> Mapping[str, float]:
            losses: Mapping[str, float] = step_taken(step, rate)
            if step == at:
                what()
            return losses

        trainer.train_step = train_step
        return trainer  # type: ignore[no-any-return]

    return made


def losses(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / runs.METRICS).read_text().splitlines()]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Any] = torch.load(folder / runs.CHECKPOINT, weights_only=True)
    return state["average"]["values"]  # type: ignore[no-any-return]


class PowerCutError(Exception):
    """The process dies."""


def cut_power() -> None:
    raise PowerCutError


@pytest.mark.parametrize("make", [make_teacher, make_distiller])
@pytest.mark.parametrize("end", ["SIGTERM", "power cut"])
def test_a_stopped_run_continues_exactly(make: Callable[[], Trainer], end: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(make, RUN, whole, SIX, ALONE)
    if end == "SIGTERM":
        stopping = interrupted(make, 2, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(StoppedError, match="SIGTERM at step 3"):
            train(stopping, RUN, parts, SIX, ALONE)
    else:
        with pytest.raises(PowerCutError):
            train(interrupted(make, 3, cut_power), RUN, parts, SIX, ALONE)
    train(make, RUN, parts, SIX, ALONE)
    assert losses(whole) == losses(parts) and len(losses(whole)) == 6
    expected, found = weights(whole), weights(parts)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_nan_stops_the_run_names_the_batch_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    def poisoned() -> Trainer:
        trainer = make_teacher()
        for pool in trainer.data.pools.values():
            pool.latents[:, 0, 0] = math.nan
        return trainer

    train(make_teacher, RUN, tmp_path, Budget(steps=2), ALONE)
    before = (tmp_path / runs.CHECKPOINT).read_bytes()
    with pytest.raises(NotFiniteError, match=r"step 2: loss is nan.* clips of \d+ frames: '(low|high|)'"):
        train(poisoned, RUN, tmp_path, SIX, ALONE)
    assert (tmp_path / runs.CHECKPOINT).read_bytes() == before


def test_a_full_disk_names_the_file_and_keeps_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_teacher, RUN, tmp_path, Budget(steps=2), ALONE)
    before = (tmp_path / runs.CHECKPOINT).read_bytes()

    def full(_state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs.torch, "save", full)
    with pytest.raises(RunError, match=r"checkpoint\.pt could not be written .*No space left.* MB are free"):
        train(make_teacher, RUN, tmp_path, SIX, ALONE)
    assert (tmp_path / runs.CHECKPOINT).read_bytes() == before
    assert not list(tmp_path.glob("*.new"))


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(RunError, match=r"process \d+ already works in"):
        train(make_teacher, RUN, tmp_path, SIX, ALONE)


def test_a_folder_of_another_configuration_is_refused_naming_what_changed(tmp_path: Path) -> None:
    train(make_teacher, RUN, tmp_path, Budget(steps=1), ALONE)
    assert RUN.teacher is not None
    other = dataclasses.replace(RUN, teacher=dataclasses.replace(RUN.teacher, learning_rate=1.0))
    with pytest.raises(RunError, match=r"teacher\.learning_rate \(0\.003 there, 1\.0 now\)"):
        train(lambda: make_teacher(other), other, tmp_path, SIX, ALONE)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(make_teacher, RUN, tmp_path, Budget(steps=1), ALONE)
    (tmp_path / runs.CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match=r"checkpoint\.pt cannot be read"):
        open_run(tmp_path, SIX, RUN)


@pytest.mark.parametrize(("steps", "minutes"), [(None, None), (3, 1.0), (0, None), (None, -1.0)])
def test_a_budget_says_steps_or_minutes(steps: int | None, minutes: float | None) -> None:
    with pytest.raises(RunError, match="exactly one"):
        Budget(steps, minutes)


def test_a_budget_of_cpu_minutes_counts_what_was_computed() -> None:
    budget = Budget(minutes=2.0, clock=Clock.CPU)
    assert budget.share(10**6, {Clock.WALL: 1e9, Clock.CPU: 30.0}) == 0.25


def test_a_run_logs_to_tensorboard(tmp_path: Path) -> None:
    config = dataclasses.replace(RUN, reporting=dataclasses.replace(QUIET, tensorboard=True))
    train(lambda: make_teacher(config), config, tmp_path, Budget(steps=2), ALONE)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in losses(tmp_path)])


class FakeRun:
    """What `wandb.init` gives, as far as it is used."""

    def __init__(self, **options: Any) -> None:
        self.options, self.logged, self.finished = options, [], False

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values["loss"]))

    def finish(self) -> None:
        self.finished = True


def test_weights_and_biases_is_written_to_or_missed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(RUN, reporting=dataclasses.replace(QUIET, wandb_project="sounds"))
    made: list[FakeRun] = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **options: made.append(FakeRun(**options)) or made[-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(lambda: make_teacher(config), config, tmp_path / "logged", Budget(steps=2), ALONE)
    [run] = made
    assert run.options["project"] == "sounds" and run.options["config"]["name"] == RUN.name and run.finished
    assert run.logged == [(row["step"], row["loss"]) for row in losses(tmp_path / "logged")]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="package wandb is not installed"):
        train(lambda: make_teacher(config), config, tmp_path / "missed", Budget(steps=2), ALONE)
