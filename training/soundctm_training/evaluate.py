"""Judging models: the classifier that judges, and a bundle judged by it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soundctm.bundle import find_bundle
from soundctm.engines.torch import TorchEngine, load_engine
from soundctm_training.evaluation.bundle import (
    generate,
    judge_generation,
    judge_ratios,
    judge_real,
    judge_retrieval,
)
from soundctm_training.evaluation.classifier import load_classifier, save_classifier
from soundctm_training.evaluation.classifier_training import (
    LabelledMels,
    TrainingSettings,
    held_out_accuracy,
    train_classifier,
)
from soundctm_training.evaluation.clips import labelled_mels, labelled_sound, pool_lengths, pool_mels
from soundctm_training.evaluation.prompts import (
    chosen_prompts,
    known_labels,
    remembered_wordings,
    require_fresh_seed,
    require_never_trained_on,
    training_captions,
)
from soundctm_training.evaluation.sheet import write_sheet
from soundctm_training.runs import write_whole
from soundctm_training.synth.catalogue import LABELS
from soundctm_training.synth.recordings import RecordingLibrary
from soundctm_training.synthesise import HOP_SAMPLES, pool_seed

logger = logging.getLogger(__name__)
SHEET_STEPS = (1, 16)
RETRIEVAL_SEED_OFFSET = 1000  # retrieval draws other seeds than the tables


@dataclass(frozen=True)
class ClassifierOptions:
    """`pools`: folders that `synthesise` wrote, each of a seed of its own; None draws fresh clips, which is slower."""

    out: Path
    pools: tuple[Path, ...] = ()
    per_label: Mapping[int, int] = field(default_factory=lambda: {108: 60, 216: 30, 432: 50})  # by length in frames
    recordings: Path | None = None     # for freshly drawn clips
    seed: int = 70_001                 # of freshly drawn clips
    test_seed: int = 70_002            # of the clips it is tested on, never trained on
    test_per_label: int = 10
    test_frames: int = 432             # clips are judged at about 10 s
    training: TrainingSettings = field(default_factory=TrainingSettings)


@dataclass(frozen=True)
class BundleOptions:
    bundle: str                        # name or folder
    classifier: Path
    out: Path
    training_data: Path | None = None  # pools: checks that nothing judged is in them
    steps: tuple[int, ...] = (1, 4, 16)
    per_class: int = 8                 # held-out prompts of each class
    seeds_per_prompt: int = 2
    real_per_class: int = 4            # synthesised clips judged as the ceiling
    retrieval_prompts: int = 40        # 0 = no retrieval
    retrieval_seeds: int = 10
    first_seed: int = 90_000_001
    seconds: float = 10.0
    omega: float | None = None         # of the generated clips; None: the bundle's default
    sheet: Path | None = None          # PNG of spectrograms to write as well


def make_classifier(options: ClassifierOptions) -> dict[str, Any]:
    """Train the classifier, save it, and write its accuracy on clips of another seed beside it (same name, .json).

    Raises LeakError where the test's seed drew the training clips, PoolError for pools without all classes.
    """
    started = time.process_time()
    require_fresh_seed(options.test_seed, [options.seed, *(pool_seed(folder) for folder in options.pools)])
    pools = _training_mels(options)
    logger.info("%d clips of %d classes, log-mels in memory", sum(len(pool.targets) for pool in pools), len(LABELS))
    model = train_classifier(LABELS, pools, options.training)
    trained_seconds = time.process_time() - started
    save_classifier(model, options.out)
    test = labelled_mels(LABELS, options.test_per_label, options.test_seed, options.test_frames * HOP_SAMPLES)
    found = {**held_out_accuracy(model, test), "test_seed": options.test_seed, "test_frames": options.test_frames,
             "training_clips": sum(len(pool.targets) for pool in pools), "cpu_seconds": round(trained_seconds, 1)}
    write_json(options.out.with_suffix(".json"), found)
    least = ", ".join(f"{label} {rate:.2f}" for label, rate in list(found["classes"].items())[:5])
    logger.info("top-1 %.3f +- %.3f on %d held-out clips; least: %s", found["top1"], found["se"], found["clips"], least)
    return found


def _training_mels(options: ClassifierOptions) -> list[LabelledMels]:
    if options.pools:
        return [
            pool_mels(folder, frames, LABELS, options.per_label[frames])
            for folder in options.pools
            for frames in pool_lengths(folder)
            if frames in options.per_label
        ]
    library = RecordingLibrary.load(options.recordings) if options.recordings else None
    return [
        labelled_mels(LABELS, count, options.seed, frames * HOP_SAMPLES, library)
        for frames, count in options.per_label.items()
    ]


def evaluate_bundle(options: BundleOptions) -> dict[str, Any]:
    """Generate clips from held-out prompts of the classes the bundle knows; the classifier's and retrieval's tables.

    Raises LeakError where a prompt or the seed was trained on (with `training_data`).
    """
    bundle, classifier = find_bundle(options.bundle), load_classifier(options.classifier)
    engine, prompts = load_engine(bundle), chosen_prompts(known_labels(bundle, classifier.labels), options.per_class)
    _require_unseen(options, prompts)
    started, seconds, first = time.monotonic(), options.seconds, options.first_seed
    seeds = list(range(first, first + options.seeds_per_prompt))
    report: dict[str, Any] = {
        "bundle": engine.spec.name,
        "digest": engine.digest,
        "classes": len(prompts),
        "prompts": sum(len(texts) for texts in prompts.values()),
        "seeds": seeds,
        "seconds": seconds,
        "omega": options.omega or engine.spec.ranges.omega_default,
        "standard_errors": "over prompts",
        "freshness_checked": options.training_data is not None,
        "real": judge_real(engine, classifier, tuple(prompts), options.real_per_class, first, seconds),
        "jumps": {},
    }
    for count in options.steps:
        report["jumps"][str(count)] = judge_generation(
            engine, classifier, prompts, seeds, count, seconds, options.omega
        )
        report["ratios"] = judge_ratios(report["real"], report["jumps"])
        write_json(options.out, report)  # a long run leaves what it has found so far
    if options.retrieval_prompts:
        first = options.first_seed + RETRIEVAL_SEED_OFFSET
        candidates = range(first, first + options.retrieval_seeds)
        texts = _one_of_each(prompts, options.retrieval_prompts)
        report["retrieval"] = judge_retrieval(engine, texts, candidates, seconds)
    report["elapsed_seconds"] = round(time.monotonic() - started, 1)
    write_json(options.out, report)
    _summarise(report)
    if options.sheet is not None:
        _write_sheet(options.sheet, engine, prompts, options.first_seed, seconds)
    return report


def _require_unseen(options: BundleOptions, prompts: Mapping[str, Sequence[str]]) -> None:
    if options.training_data is None:
        logger.warning("no training data given: that seeds and prompts are fresh was not checked")
        return
    require_fresh_seed(options.first_seed, [pool_seed(options.training_data)])
    every_prompt = [text for texts in prompts.values() for text in texts]
    require_never_trained_on(every_prompt, training_captions(options.training_data) | remembered_wordings())


def _one_of_each(prompts: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """The first prompt of every class, then the second of every class, until there are `count`."""
    rounds = max(len(texts) for texts in prompts.values())
    ordered = [texts[index] for index in range(rounds) for texts in prompts.values() if index < len(texts)]
    return ordered[:count]


def write_json(out: Path, report: Mapping[str, Any]) -> None:
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_whole(out, lambda aside: aside.write_text(text, encoding="utf-8"))


def _summarise(report: Mapping[str, Any]) -> None:
    rows = {f"{name} jumps": table for name, table in report["jumps"].items()} | report["real"]
    for name, table in rows.items():
        top1, top5 = table["overall"]["top1"], table["overall"]["top5"]
        figures = (top1["rate"], top1["se"], top5["rate"], top5["se"])
        logger.info("%s: top-1 %.3f +- %.3f, top-5 %.3f +- %.3f", name, *figures)
    for name, found in report["ratios"].items():
        goal = f", target {found['target']} ({found['target_on_two_cores']} on two cores)" if "target" in found else ""
        logger.info("%s: %.3f +- %.3f of what it can be%s", name, found["ratio"], found["se"], goal)
    distances = report["real"]["through_codec"]["distances"]
    logger.info("codec: log-spectral distance %.2f +- %.2f dB", *(distances["lsd_db"][key] for key in ("mean", "se")))
    if "retrieval" in report:
        found = report["retrieval"]["centred"]
        logger.info("preview finds its refine: %.1f +- %.1f %%", 100 * found["rate"], 100 * found["se"])


def _write_sheet(
    path: Path, engine: TorchEngine, prompts: Mapping[str, Sequence[str]], seed: int, seconds: float
) -> None:
    samples = engine.spec.samples(seconds)
    rows = {
        label: [
            labelled_sound(label, seed, index, samples).audio,
            *(generate(engine, texts[0], seed, steps, seconds) for steps in SHEET_STEPS),
        ]
        for index, (label, texts) in enumerate(prompts.items())
    }
    write_sheet(path, ["synthesised", *(f"{steps} jumps" for steps in SHEET_STEPS)], rows)
