"""Judging models: `python -m soundctm_training.evaluate train-classifier | bundle`."""

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soundctm.bundle import find_bundle
from soundctm.engines.torch import TorchEngine, load_engine
from soundctm_training.evaluation.classifier import (
    hits,
    load_classifier,
    save_classifier,
    train_classifier,
)
from soundctm_training.evaluation.clips import labelled_mels, labelled_sound
from soundctm_training.evaluation.prompts import (
    held_out_prompts,
    require_fresh_seed,
    require_never_trained_on,
    training_captions,
)
from soundctm_training.evaluation.report import generate, judge_generation, judge_real, judge_retrieval
from soundctm_training.evaluation.sheet import write_sheet
from soundctm_training.synth.catalogue import LABELS
from soundctm_training.synth.recordings import RecordingLibrary
from soundctm_training.synthesise import HOP_SAMPLES, pool_seed

logger = logging.getLogger(__name__)
CLIPS_PER_LABEL = {108: 60, 216: 30, 432: 50}  # by length in frames; clips are judged at 432, about 10 s
TEST_CLIPS_PER_LABEL = 20
SHEET_STEPS = (1, 16)
RETRIEVAL_SEED_OFFSET = 1000  # retrieval draws other seeds than the tables


def _require_fresh(data_folder: Path | None, *seeds: int) -> None:
    if data_folder is None:
        logger.warning("no --training-data given: that seeds and prompts are fresh was not checked")
        return
    for seed in seeds:
        require_fresh_seed(seed, [pool_seed(data_folder)])


def run_train_classifier(options: argparse.Namespace) -> None:
    """Train the classifier on fresh real and synthesised clips and log its accuracy on others."""
    _require_fresh(options.training_data, options.seed, options.test_seed)
    library = RecordingLibrary.load(options.recordings) if options.recordings else None
    pools = []
    for frames, count in CLIPS_PER_LABEL.items():
        pools.append(labelled_mels(LABELS, count, options.seed, frames * HOP_SAMPLES, library))
        logger.info("drew %d clips of %d frames", len(pools[-1].targets), frames)
    model = train_classifier(LABELS, pools)
    save_classifier(model, options.out)
    for frames in CLIPS_PER_LABEL:
        test = labelled_mels(LABELS, TEST_CLIPS_PER_LABEL, options.test_seed, frames * HOP_SAMPLES)
        right = hits(model, test)
        error = float(np.sqrt(right.mean() * (1 - right.mean()) / len(right)))
        logger.info("%d frames: top-1 %.3f +- %.3f on %d held-out clips", frames, right.mean(), error, len(right))
        by_label = zip(right.reshape(len(LABELS), -1).mean(axis=1).tolist(), LABELS, strict=True)
        logger.info("  least: %s", ", ".join(f"{label} {rate:.2f}" for rate, label in sorted(by_label)[:5]))


def run_bundle(options: argparse.Namespace) -> None:
    """Generate 10 s clips from the held-out prompts and write the classifier's and retrieval's tables."""
    prompts = {label: held_out_prompts()[label][: options.prompts_per_class] for label in LABELS}
    _require_fresh(options.training_data, options.first_seed)
    if options.training_data is not None:
        every_prompt = [text for texts in prompts.values() for text in texts]
        require_never_trained_on(every_prompt, training_captions(options.training_data))
    seconds = options.seconds
    engine, classifier = load_engine(find_bundle(options.bundle)), load_classifier(options.classifier)
    started = time.monotonic()
    seeds = list(range(options.first_seed, options.first_seed + options.seeds_per_prompt))
    report: dict[str, Any] = {
        "bundle": engine.spec.name,
        "digest": engine.digest,
        "prompts": sum(len(texts) for texts in prompts.values()),
        "seeds": seeds,
        "seconds": seconds,
        "standard_errors": "over prompts",
        "freshness_checked": options.training_data is not None,
        "real": judge_real(engine, classifier, LABELS, options.real_per_class, options.first_seed, seconds),
        "jumps": {},
    }
    for count in options.steps:
        report["jumps"][str(count)] = judge_generation(engine, classifier, prompts, seeds, count, seconds)
        _write(options.out, report)  # a long run leaves what it has found so far
    if options.retrieval_prompts:
        first = options.first_seed + RETRIEVAL_SEED_OFFSET
        candidates = range(first, first + options.retrieval_seeds)
        texts = _one_of_each(prompts, options.retrieval_prompts)
        report["retrieval"] = judge_retrieval(engine, texts, candidates, seconds)
    report["elapsed_seconds"] = round(time.monotonic() - started, 1)
    _write(options.out, report)
    _summarise(report)
    if options.sheet is not None:
        _write_sheet(options.sheet, engine, prompts, options.first_seed, seconds)


def _one_of_each(prompts: dict[str, tuple[str, ...]], count: int) -> list[str]:
    """The first prompt of every class, then the second of every class, until there are `count`."""
    rounds = max(len(texts) for texts in prompts.values())
    ordered = [texts[index] for index in range(rounds) for texts in prompts.values() if index < len(texts)]
    return ordered[:count]


def _write(out: Path, report: dict[str, Any]) -> None:
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _summarise(report: dict[str, Any]) -> None:
    rows = {f"{name} jumps": table for name, table in report["jumps"].items()} | report["real"]
    for name, table in rows.items():
        top1, top5 = table["overall"]["top1"], table["overall"]["top5"]
        figures = (top1["rate"], top1["se"], top5["rate"], top5["se"])
        logger.info("%s: top-1 %.3f +- %.3f, top-5 %.3f +- %.3f", name, *figures)
    if "retrieval" in report:
        found = report["retrieval"]["centred"]
        logger.info("preview finds its refine: %.1f +- %.1f %%", 100 * found["rate"], 100 * found["se"])


def _write_sheet(
    path: Path,
    engine: TorchEngine,
    prompts: dict[str, tuple[str, ...]],
    seed: int,
    seconds: float,
) -> None:
    samples = engine.spec.samples(seconds)
    rows = {
        label: [
            labelled_sound(label, seed, index, samples).audio,
            *(generate(engine, prompts[label][0], seed, steps, seconds) for steps in SHEET_STEPS),
        ]
        for index, label in enumerate(LABELS)
    }
    write_sheet(path, ["synthesised", *(f"{steps} jumps" for steps in SHEET_STEPS)], rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train-classifier", help=run_train_classifier.__doc__)
    train.set_defaults(run=run_train_classifier)
    train.add_argument("--recordings", type=Path, help="folder of CC0 recordings to train on as well")
    train.add_argument("--seed", type=int, default=70_001, help="seed of the classifier's own clips")
    train.add_argument("--test-seed", type=int, default=70_002, help="seed of the clips it is tested on")
    bundle = commands.add_parser("bundle", help=run_bundle.__doc__)
    bundle.set_defaults(run=run_bundle)
    bundle.add_argument("--bundle", required=True, help="name or folder of the bundle")
    bundle.add_argument("--classifier", type=Path, required=True, help="the classifier's file")
    bundle.add_argument("--steps", type=int, nargs="+", default=[1, 4, 16], help="numbers of jumps to judge")
    bundle.add_argument("--prompts-per-class", type=int, default=8, help="held-out prompts of each class")
    bundle.add_argument("--seeds-per-prompt", type=int, default=2, help="clips of each prompt")
    bundle.add_argument("--real-per-class", type=int, default=4, help="synthesised clips judged as the ceiling")
    bundle.add_argument("--retrieval-prompts", type=int, default=24, help="0 = no retrieval")
    bundle.add_argument("--retrieval-seeds", type=int, default=10, help="candidates of each retrieval")
    bundle.add_argument("--first-seed", type=int, default=90_000_001, help="first seed generated from")
    bundle.add_argument("--seconds", type=float, default=10.0, help="length of the judged clips")
    bundle.add_argument("--sheet", type=Path, help="PNG of spectrograms to write as well")
    for command in (train, bundle):
        command.add_argument("--out", type=Path, required=True, help="file to write")
        command.add_argument("--training-data", type=Path, help="training pools: checks that nothing judged is in them")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = _parser().parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
