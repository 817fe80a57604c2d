"""Judges a bundle through the public engine: the classifier's verdicts and retrieval, as one JSON-ready table."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from soundctm.engines.protocol import Engine
from soundctm.recipe import PREVIEW_STEPS, REFINE_STEPS, make_recipe
from soundctm.render import render
from soundctm_training.evaluation.classifier import SoundClassifier
from soundctm_training.evaluation.clips import labelled_sound
from soundctm_training.evaluation.metrics import (
    grouped_mean,
    log_spectral_distance_db,
    multi_scale_stft_distance,
)
from soundctm_training.evaluation.scores import Rate, clustered_rate, embedding, retrieval_hits

logger = logging.getLogger(__name__)

Audio = npt.NDArray[np.float32]
TOP = 5


@dataclass(frozen=True)
class Verdict:
    """Where the right class came in one clip's ranking (0 = first), and which class came first."""

    rank: int
    first: str


def generate(
    engine: Engine, prompt: str, seed: int, steps: int, seconds: float, omega: float | None = None
) -> Audio:
    """One mono clip of the engine, [samples]. `omega` None: the bundle's default."""
    recipe = make_recipe(
        engine.spec, engine.digest, prompt=prompt, seed=seed, seconds=seconds, steps=steps, omega=omega
    )
    return np.asarray(render(engine, recipe).mean(axis=0), np.float32)


def judge(classifier: SoundClassifier, audio: Audio, label: str) -> Verdict:
    order = np.argsort(-classifier.probabilities(audio))
    rank = int(np.flatnonzero(order == classifier.labels.index(label))[0])
    return Verdict(rank, classifier.labels[int(order[0])])


def _rates(by_prompt: Sequence[Sequence[Verdict]]) -> dict[str, Any]:
    def within(best: int) -> Rate:
        return clustered_rate([[verdict.rank < best for verdict in verdicts] for verdicts in by_prompt])

    return {"top1": within(1).to_json(), f"top{TOP}": within(TOP).to_json()}


def _table(verdicts: Mapping[str, Sequence[Sequence[Verdict]]]) -> dict[str, Any]:
    """Overall and per-class rates from verdicts by class, prompt and seed."""
    classes = {}
    for label, by_prompt in verdicts.items():
        firsts = [verdict.first for of_prompt in by_prompt for verdict in of_prompt]
        heard_as = {name: firsts.count(name) for name in sorted(set(firsts), key=lambda name: -firsts.count(name))}
        classes[label] = {**_rates(by_prompt), "heard_as": heard_as}
    everything = [of_prompt for by_prompt in verdicts.values() for of_prompt in by_prompt]
    return {"overall": _rates(everything), "classes": classes}


def seeds_of_prompts(seeds: Sequence[int], prompts: int) -> list[list[int]]:
    """For each prompt as many seeds as there are, none twice; the first prompt has `seeds` themselves."""
    span = max(seeds) - min(seeds) + 1
    return [[seed + prompt * span for seed in seeds] for prompt in range(prompts)]


def judge_generation(
    engine: Engine,
    classifier: SoundClassifier,
    prompts: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    steps: int,
    seconds: float,
    omega: float | None = None,
) -> dict[str, Any]:
    """Top-1 and top-5 rates of clips generated in `steps` jumps from every prompt and seed.

    The seeds count on from prompt to prompt: from one seed, prompts of one class give much the same clip.
    """
    verdicts: dict[str, list[list[Verdict]]] = {}
    for label, texts in prompts.items():
        verdicts[label] = [
            [judge(classifier, generate(engine, text, seed, steps, seconds, omega), label) for seed in of_prompt]
            for text, of_prompt in zip(texts, seeds_of_prompts(seeds, len(texts)), strict=True)
        ]
        first = [verdict.rank == 0 for of_prompt in verdicts[label] for verdict in of_prompt]
        logger.info("%d jumps, %s: top-1 %.2f", steps, label, float(np.mean(first)))
    return _table(verdicts)


def judge_real(
    engine: Engine, classifier: SoundClassifier, labels: Sequence[str], per_label: int, seed: int, seconds: float
) -> dict[str, Any]:
    """The ceilings: the same rates on synthesised clips, as they are and after the bundle's codec.

    "distances" are the codec's: log-spectral in dB and multi-scale STFT, from each clip to its reconstruction.
    """
    samples = engine.spec.latent_frames(seconds) * engine.spec.codec.hop_samples
    untouched: dict[str, list[list[Verdict]]] = {}
    coded: dict[str, list[list[Verdict]]] = {}
    distances: dict[str, list[float]] = {"lsd_db": [], "mstft": []}
    for target, label in enumerate(labels):
        untouched[label], coded[label] = [], []
        for index in range(target * per_label, (target + 1) * per_label):
            audio = labelled_sound(label, seed, index, samples).audio
            again = engine.decode(engine.encode(audio[None, None], [index]), [index])[0].mean(axis=0)
            again = again.astype(np.float32)
            untouched[label].append([judge(classifier, audio, label)])
            coded[label].append([judge(classifier, again, label)])
            distances["lsd_db"].append(float(log_spectral_distance_db(again[None], audio[None])[0]))
            distances["mstft"].append(float(multi_scale_stft_distance(again[None], audio[None])[0]))
    by_class = np.repeat(np.arange(len(labels)), per_label).tolist()
    summary = {name: grouped_mean(values, by_class).to_json() for name, values in distances.items()}
    return {"synthesised": _table(untouched), "through_codec": {**_table(coded), "distances": summary}}


@dataclass(frozen=True)
class Target:
    """The least a ratio of two accuracies should be; `two_cores` where no GPU trained the weights."""

    on_gpu: float
    two_cores: float


TARGETS = {"codec": Target(0.95, 0.95), "1": Target(0.85, 0.65), "16": Target(0.95, 0.80)}


def judge_ratios(real: Mapping[str, Any], jumps: Mapping[str, Any]) -> dict[str, Any]:
    """Top-1 of reconstructions over real clips ("codec"), and of each number of jumps over reconstructions.

    The standard error takes both accuracies as independent. Nothing where the divisor is 0.
    """
    coded = real["through_codec"]["overall"]["top1"]
    pairs = {"codec": (coded, real["synthesised"]["overall"]["top1"])}
    pairs |= {count: (table["overall"]["top1"], coded) for count, table in jumps.items()}
    return {name: _ratio(*pair, TARGETS.get(name)) for name, pair in pairs.items() if pair[1]["rate"] > 0}


def _ratio(upper: Mapping[str, float], lower: Mapping[str, float], target: Target | None) -> dict[str, Any]:
    ratio = upper["rate"] / lower["rate"]
    error = float(np.hypot(upper["se"], ratio * lower["se"]) / lower["rate"])
    found: dict[str, Any] = {"ratio": round(ratio, 4), "se": round(error, 4)}
    if target is not None:
        found |= {"target": target.on_gpu, "target_on_two_cores": target.two_cores}
        found |= {"reached": ratio >= target.on_gpu, "reached_on_two_cores": ratio >= target.two_cores}
    return found


def judge_retrieval(
    engine: Engine, prompts: Sequence[str], seeds: Sequence[int], seconds: float
) -> dict[str, Any]:
    """For each prompt, how often a seed's preview is nearest to its own refine among all the seeds' refines."""
    hits: dict[bool, list[list[bool]]] = {True: [], False: []}
    for prompt in prompts:
        previews, refines = (
            np.stack([embedding(generate(engine, prompt, seed, steps, seconds)) for seed in seeds])
            for steps in (PREVIEW_STEPS, REFINE_STEPS)
        )
        for centred, found in hits.items():
            found.append(retrieval_hits(previews, refines, centred=centred).tolist())
        logger.info("retrieval %.1f: %s", float(np.mean(hits[True][-1])), prompt)
    return {
        "feature": (embedding.__doc__ or "").strip(),
        "centring": (retrieval_hits.__doc__ or "").strip(),
        "candidates": len(seeds),
        "chance": round(1 / len(seeds), 4),
        "centred": clustered_rate(hits[True]).to_json(),
        "uncentred": clustered_rate(hits[False]).to_json(),
        "by_prompt": {prompt: float(np.mean(found)) for prompt, found in zip(prompts, hits[True], strict=True)},
    }
