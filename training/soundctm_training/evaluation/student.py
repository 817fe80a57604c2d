"""Judges one network without a bundle: quality over jumps, sweeps of omega, nu and gamma, and what each take keeps."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any

import numpy as np

from soundctm.networks.dit import DiT
from soundctm_training.evaluation.bench import Bench, Takes
from soundctm_training.evaluation.metrics import (
    Floats,
    accuracy,
    cosine_distance,
    frechet_distance,
    grouped_mean,
    log_spectral_distance_db,
    multi_scale_stft_distance,
    posterior_kl,
)
from soundctm_training.evaluation.scores import embedding
from soundctm_training.evaluation.takes import Setting, draw, student_sampler, teacher_sampler

logger = logging.getLogger(__name__)

JUMPS = (1, 2, 4, 8, 16)
GAMMAS = (0.0, 0.2, 0.5, 1.0)
SWEPT_JUMPS = (1, 4, 16)
TEACHER_STEPS = (8, 20)


class Kind(Enum):
    """Whose figures a table holds."""

    STUDENT = "student"
    TEACHER = "teacher"
    CEILING = "ceiling"


def quality(takes: Takes, bench: Bench) -> dict[str, Any]:
    """Accuracy, Frechet distance and KL against real clips of the same classes."""
    rates = accuracy(takes.posteriors, bench.targets, bench.prompts)
    divergence = posterior_kl(bench.reference.posteriors[bench.targets], takes.posteriors)
    return {
        **{name: rate.to_json() for name, rate in rates.items()},
        "frechet": round(frechet_distance(takes.embeddings, bench.reference.embeddings), 4),
        "kl": grouped_mean(divergence, bench.prompts).to_json(),
    }


def courses(takes: Takes) -> Floats:
    """When things happen in each clip and how it sounds overall: `scores.embedding` of every clip, [n, f]."""
    return np.stack([embedding(clip) for clip in takes.audio])


def preservation(takes: Takes, kept: Takes, bench: Bench) -> dict[str, Any]:
    """How far each take lies from `kept` of the same trial (its 1-jump take): 0 = the same clip.

    "embedding" is the cosine distance of the classifier's embeddings, seen from the real clips' mean and scaled by
    their deviation (what it is); "course" that of the log-mel over quarter seconds (when it happens).
    """
    reference = bench.reference
    distances = {
        "embedding": cosine_distance(takes.embeddings, kept.embeddings, reference.centre, reference.scale),
        "course": cosine_distance(courses(takes), courses(kept)),
        "lsd_db": log_spectral_distance_db(takes.audio, kept.audio),
    }
    return {name: grouped_mean(values, bench.prompts).to_json() for name, values in distances.items()}


def sweep(
    omegas: Sequence[float], nus: Sequence[float], steps: Iterable[int] = SWEPT_JUMPS, gamma: float = 0.0
) -> list[Setting]:
    """Every omega with every nu at every number of jumps (Figures 5 and 12)."""
    return [Setting(count, omega, nu, gamma) for count, omega, nu in itertools.product(steps, omegas, nus)]


def gamma_sweep(omega: float, gammas: Sequence[float] = GAMMAS, steps: int = 16) -> list[Setting]:
    """The paper's Table 7: stochasticity against what is kept of the 1-jump take."""
    return [Setting(steps, omega, gamma=gamma) for gamma in gammas]


def judge_student(
    network: DiT,
    bench: Bench,
    omega: float,
    *,
    jumps: Sequence[int] = JUMPS,
    gamma: float = 0.0,
    more: Sequence[Setting] = (),
) -> dict[str, Any]:
    """Rows for every number of jumps and for every setting of `more` (see `sweep`, `gamma_sweep`).

    `gamma` 1 is for students that only know jumps to sigma_min (lcd, cd). Each row's "preservation" is its distance
    to the 1-jump take of the same seed (None for that take itself); "unrelated" is that of real clips of the class:
    as far as losing all content but the class.
    """
    started, sampler = time.process_time(), student_sampler(network, bench)
    preview = draw(sampler, bench, Setting(1, omega, gamma=gamma))
    settings = [Setting(count, omega, gamma=gamma) for count in jumps]
    rows = []
    for setting in dict.fromkeys([*settings, *more]):
        same = _same_as_preview(setting, omega)
        takes = preview if same else draw(sampler, bench, setting)
        kept = None if same else preservation(takes, preview, bench)
        rows.append({**asdict(setting), **quality(takes, bench), "preservation": kept})
        logger.info(
            "%d jumps, omega %g, nu %g, gamma %g: top-1 %.3f, Frechet %.2f",
            setting.steps, setting.omega, setting.nu, setting.gamma, rows[-1]["top1"]["rate"], rows[-1]["frechet"],
        )
    unrelated = preservation(bench.real, preview, bench)
    record = _record(Kind.STUDENT, bench, started)
    return {**record, "omega": omega, "gamma": gamma, "rows": rows, "unrelated": unrelated}


def _same_as_preview(setting: Setting, omega: float) -> bool:
    """One jump adds no noise, whatever gamma."""
    return setting.steps == 1 and setting.omega == omega and setting.nu == 1.0


def judge_teacher(
    network: DiT, bench: Bench, omegas: Sequence[float], steps: Sequence[int] = TEACHER_STEPS
) -> dict[str, Any]:
    """Rows for Heun steps with each omega: what a student learns from."""
    started, sampler = time.process_time(), teacher_sampler(network, bench)
    rows = []
    for count, omega in itertools.product(steps, omegas):
        rows.append({"steps": count, "omega": omega, **quality(draw(sampler, bench, Setting(count, omega)), bench)})
        logger.info("teacher, %d Heun steps, omega %g: top-1 %.3f", count, omega, rows[-1]["top1"]["rate"])
    return {**_record(Kind.TEACHER, bench, started), "rows": rows}


def judge_ceiling(bench: Bench) -> dict[str, Any]:
    """Real clips as they are and after the codec: what no student can be expected to exceed."""
    started = time.process_time()
    again = bench.takes(bench.decode(bench.encode(bench.real.audio)))
    mstft = grouped_mean(multi_scale_stft_distance(again.audio, bench.real.audio), bench.prompts).to_json()
    kept = {**preservation(again, bench.real, bench), "mstft": mstft}
    reconstructed = {**quality(again, bench), "preservation": kept}
    rows = {"real": quality(bench.real, bench), "reconstructed": reconstructed}
    return {**_record(Kind.CEILING, bench, started), **rows}


def _record(kind: Kind, bench: Bench, started: float) -> dict[str, Any]:
    """The heading of a table whose rows are all made."""
    return {"kind": kind.value, "bench": bench.facts(), "cpu_seconds": round(time.process_time() - started, 1)}
