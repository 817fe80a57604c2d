"""`soundctm train ablate`: the students of a report, each a base configuration with some keys changed, once per seed.

Students train one after the other in processes of their own, seed by seed, so that a stopped ablation has whole rounds;
what is finished stays, and the same command goes on with the rest.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from soundctm_training.config import ConfigError, build, read_config
from soundctm_training.distill import STUDENT_FILE
from soundctm_training.runs import RunError

logger = logging.getLogger(__name__)

FINISHED = "finished"  # an empty file beside the weights of a student whose budget is spent


@dataclass(frozen=True)
class StudentEntry:
    name: str
    change: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ablation:
    base: Path  # of the configuration, beside this file
    seeds: tuple[int, ...]
    student: tuple[StudentEntry, ...]


@dataclass(frozen=True)
class PlannedRun:
    entry: StudentEntry
    seed: int
    folder: Path

    @property
    def changes(self) -> tuple[str, ...]:
        return (*self.entry.change, f"distillation.seed={self.seed}")

    @property
    def finished(self) -> bool:
        return (self.folder / FINISHED).is_file() and (self.folder / STUDENT_FILE).is_file()


def read_ablation(path: Path) -> Ablation:
    """Raises ConfigError: no TOML, an unknown key, or a student whose changes the base does not allow."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML ({error})") from error
    entries = tuple(
        build(StudentEntry, row, f"{path}: student {number}") for number, row in enumerate(table.pop("student", []), 1)
    )
    ablation = build(Ablation, {**table, "student": ()}, str(path))
    names = [entry.name for entry in entries]
    if not entries or len(set(names)) < len(names):
        raise ConfigError(f"{path} names the students {names}; give at least one [[student]], each a name of its own")
    base = path.parent / ablation.base
    for entry in entries:
        read_config(base, entry.change)
    return Ablation(base, ablation.seeds, entries)


def planned_runs(ablation: Ablation, out: Path) -> Iterator[PlannedRun]:
    """Seed by seed."""
    for seed in ablation.seeds:
        for entry in ablation.student:
            yield PlannedRun(entry, seed, out / f"{entry.name}_seed{seed}")


def train_students(ablation: Ablation, latents: Path, teacher: Path, out: Path) -> None:
    """Raises RunError naming the student whose training failed; those before it are kept."""
    runs = list(planned_runs(ablation, out))
    for number, run in enumerate(runs, 1):
        if run.finished:
            continue
        logger.info("student %d of %d: %s", number, len(runs), run.folder.name)
        options = ["--latents", str(latents), "--teacher", str(teacher), "--out", str(run.folder)]
        for change in run.changes:
            options += ["--set", change]
        command = [sys.executable, "-m", "soundctm_training.cli", "distill", str(ablation.base), *options]
        if subprocess.run(command, check=False).returncode != 0:
            raise RunError(f"student {run.folder.name} stopped with the error above; the same command goes on there")
        (run.folder / FINISHED).touch()
