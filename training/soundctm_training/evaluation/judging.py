"""Judging run folders: `evaluation.json` beside the weights, which `report` gathers into tables."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soundctm.bundle import MANIFEST, open_bundle
from soundctm.networks.dit import DiT
from soundctm_training.codec.description import codec_spec, open_codec
from soundctm_training.config import ConfigError, TrainingConfig, build, need
from soundctm_training.distillation.settings import MethodName
from soundctm_training.encode import text_encoder
from soundctm_training.evaluation.bench import Bench, BenchSettings, make_bench
from soundctm_training.evaluation.classifier import load_classifier
from soundctm_training.evaluation.prompts import chosen_prompts
from soundctm_training.evaluation.student import (
    JUMPS,
    TEACHER_STEPS,
    judge_ceiling,
    judge_student,
    judge_teacher,
)
from soundctm_training.evaluation.takes import Setting
from soundctm_training.files import read_network
from soundctm_training.runs import CONFIG, write_whole

logger = logging.getLogger(__name__)

EVALUATION_FILE = "evaluation.json"
STUDENT_FILE = "student.safetensors"
TEACHER_FILE = "teacher.safetensors"


def run_config(folder: Path) -> TrainingConfig:
    """The resolved configuration of a run. Raises ConfigError."""
    path = folder / CONFIG
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); give the folder of a run") from error
    return build(TrainingConfig, table, str(path))


def run_network(folder: Path, weights: str, device: str = "cpu") -> DiT:
    """The averaged weights a run exported. Raises ConfigError."""
    spec = need(run_config(folder).network, "network", run_config(folder))
    return read_network(spec, folder / weights).to(device)


def open_bench(
    config: TrainingConfig,
    codec: Path,
    classifier: Path,
    settings: BenchSettings | None = None,
    labels: Sequence[str] | None = None,
) -> Bench:
    """The bench of a configuration's students: held-out prompts of `labels` (None = all the classifier knows).

    `codec` is a run's folder, a codec.safetensors or a bundle's folder. Raises CodecTrainingError, ConfigError,
    ClassifierFileError, PromptError, MetricError.
    """
    network, judge = need(config.network, "network", config), load_classifier(classifier)
    prompts = chosen_prompts(labels or judge.labels, (settings or BenchSettings()).prompts_per_label)
    spec = open_bundle(codec).spec.codec if (codec / MANIFEST).is_file() else codec_spec(config)
    return make_bench(
        prompts, text_encoder(), open_codec(codec, config), judge, config.diffusion,
        channels=network.io_channels, hop_samples=spec.hop_samples, patch_frames=network.patch_frames,
        settings=settings,
    )


def write_evaluation(folder: Path, table: dict[str, Any]) -> None:
    """evaluation.json, whole or not at all; NaN (an error nobody knows) becomes null. Raises RunError."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_without_nan(table), indent=1) + "\n"
    write_whole(folder / EVALUATION_FILE, lambda aside: aside.write_text(text, encoding="utf-8"))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def judge_student_run(
    folder: Path,
    bench: Bench,
    *,
    omega: float | None = None,
    gamma: float | None = None,
    jumps: Sequence[int] = JUMPS,
    more: Sequence[Setting] = (),
    device: str = "cpu",
) -> dict[str, Any]:
    """Judge the student of a run and write its evaluation.json.

    None takes what the run's configuration says: its default omega; gamma 0 for a student of ctm and 1 for one of lcd
    or cd, which only know jumps to sigma_min.
    """
    network, config = run_network(folder, STUDENT_FILE, device), run_config(folder)
    omega = config.omega_default if omega is None else omega
    if gamma is None:
        gamma = 0.0 if need(config.distillation, "distillation", config).method is MethodName.CTM else 1.0
    logger.info("%s: %d clips", folder, len(bench.trials))
    table = judge_student(network, bench, omega, jumps=jumps, gamma=gamma, more=more)
    write_evaluation(folder, table)
    return table


def judge_student_runs(
    folders: Sequence[Path], bench: Bench, *, swept: Sequence[Path] = (), more: Sequence[Setting] = ()
) -> None:
    """Judge every run that was not judged on this bench since it was trained; those in `swept` with `more` settings."""
    for number, folder in enumerate(folders, 1):
        settings = tuple(more) if folder in swept else ()
        if _is_judged(folder, bench, settings):
            continue
        logger.info("student %d of %d", number, len(folders))
        judge_student_run(folder, bench, more=settings)


def judged_on(folder: Path, bench: Bench, weights: str | None = None) -> dict[str, Any] | None:
    """The folder's evaluation, where it was made on this bench and after `weights` were; else None."""
    found = folder / EVALUATION_FILE
    trained = folder / weights if weights else found
    if not found.is_file() or (trained.is_file() and found.stat().st_mtime < trained.stat().st_mtime):
        return None
    table: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return table if table.get("bench", {}).get("digest") == bench.facts()["digest"] else None


def _is_judged(folder: Path, bench: Bench, settings: Sequence[Setting]) -> bool:
    table = judged_on(folder, bench, STUDENT_FILE)
    if table is None:
        return False
    rows = [tuple(row.get(key) for key in ("steps", "omega", "nu", "gamma")) for row in table.get("rows", ())]
    return all(dataclasses.astuple(setting) in rows for setting in settings)


def judge_teacher_run(
    folder: Path,
    bench: Bench,
    *,
    omegas: Sequence[float] | None = None,
    steps: Sequence[int] = TEACHER_STEPS,
    device: str = "cpu",
) -> dict[str, Any]:
    """Judge the teacher of a run and write its evaluation.json. `omegas` None: the configuration's default."""
    network = run_network(folder, TEACHER_FILE, device)
    chosen = [run_config(folder).omega_default] if omegas is None else omegas
    table = judge_teacher(network, bench, chosen, steps)
    write_evaluation(folder, table)
    return table


def judge_ceiling_into(folder: Path, bench: Bench) -> dict[str, Any]:
    """Judge real clips and their reconstructions; the folder needs to be no run."""
    table = judge_ceiling(bench)
    write_evaluation(folder, table)
    return table
