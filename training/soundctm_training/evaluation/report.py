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
from soundctm_training.evaluation.scores import Rate, clustered_rate, embedding, retrieval_hits

logger = logging.getLogger(__name__)

Audio = npt.NDArray[np.float32]
TOP = 5


@dataclass(frozen=True)
class Verdict:
    """Where the right class came in one clip's ranking (0 = first), and which class came first."""

    rank: int
    first: str


def generate(engine: Engine, prompt: str, seed: int, steps: int, seconds: float) -> Audio:
    """One mono clip of the engine, [samples]."""
    recipe = make_recipe(engine.spec, engine.digest, prompt=prompt, seed=seed, seconds=seconds, steps=steps)
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


def judge_generation(
    engine: Engine,
    classifier: SoundClassifier,
    prompts: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    steps: int,
    seconds: float,
) -> dict[str, Any]:
    """Top-1 and top-5 rates of clips generated in `steps` jumps from every prompt and seed."""
    verdicts: dict[str, list[list[Verdict]]] = {}
    for label, texts in prompts.items():
        verdicts[label] = [
            [judge(classifier, generate(engine, text, seed, steps, seconds), label) for seed in seeds] for text in texts
        ]
        first = [verdict.rank == 0 for of_prompt in verdicts[label] for verdict in of_prompt]
        logger.info("%d jumps, %s: top-1 %.2f", steps, label, float(np.mean(first)))
    return _table(verdicts)


def judge_real(
    engine: Engine, classifier: SoundClassifier, labels: Sequence[str], per_label: int, seed: int, seconds: float
) -> dict[str, Any]:
    """The ceilings: the same rates on synthesised clips, as they are and after the bundle's codec."""
    samples = engine.spec.latent_frames(seconds) * engine.spec.codec.hop_samples
    untouched: dict[str, list[list[Verdict]]] = {}
    coded: dict[str, list[list[Verdict]]] = {}
    for target, label in enumerate(labels):
        untouched[label], coded[label] = [], []
        for index in range(target * per_label, (target + 1) * per_label):
            audio = labelled_sound(label, seed, index, samples).audio
            again = engine.decode(engine.encode(audio[None, None], [index]), [index])[0].mean(axis=0)
            untouched[label].append([judge(classifier, audio, label)])
            coded[label].append([judge(classifier, again.astype(np.float32), label)])
    return {"synthesised": _table(untouched), "through_codec": _table(coded)}


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
