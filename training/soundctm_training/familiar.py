"""What a bundle says it was trained on: the table by which the daemon tells a prompt the starter does not know.

A prompt's familiarity is its best cosine with the texts the student was trained on. The threshold is where one in
twenty known things would be warned of needlessly, judged on held-out wordings; what it catches is then measured, on
other held-out wordings and on prompts the starter cannot know.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from soundctm.errors import SoundCTMError
from soundctm.familiarity import FamiliarTable
from soundctm.text.pooling import sentence_embedding
from soundctm.text.protocol import TextEncoder
from soundctm_training.dataset import TextTable
from soundctm_training.evaluation.prompts import held_out_prompts
from soundctm_training.synth.captions import class_captions, plain_phrases

Embeddings = NDArray[np.float32]

MOST_ROWS = 1800
_PHRASES_PER_CLASS = 100  # encoded, of which the farthest apart are kept
_NEEDLESS_PERCENT = 5.0
_SEED = 5


class NothingFamiliarError(SoundCTMError):
    """There is no caption to make a table of, or no held-out prompt to set its threshold with."""

    reason = "TRAINING_CONFIG"


@dataclass(frozen=True)
class Separation:
    """Shares of prompts that are warned of: `held_out` should be near 0, those of things that are `unlike` their names
    (None without such) and `unknown` ones (by kind) near 1."""

    held_out: float
    unlike: float | None
    unknown: Mapping[str, float]
    right_label: float  # of the held-out prompts, how many find their own class


def catalogue_captions() -> list[tuple[str, str]]:
    """(caption, label) of every class of the synthesiser, a seeded draw of at most 100 each."""
    chosen = []
    for label in class_captions():
        phrases = sorted(set(plain_phrases(label)))
        drawn = random.Random(_SEED).sample(phrases, min(_PHRASES_PER_CLASS, len(phrases)))
        chosen += [(phrase, label) for phrase in drawn]
    return chosen


def embedded_by_label(
    captions_with_labels: Iterable[tuple[str, str]], encoder: TextEncoder
) -> dict[str, Embeddings]:
    """Of every label its distinct captions' unit embeddings [N, D]."""
    return {label: embed(captions, encoder) for label, captions in captions_by_label(captions_with_labels).items()}


def captions_by_label(captions_with_labels: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Of every label its distinct captions, in order."""
    by_label: dict[str, dict[str, None]] = {}
    for caption, label in captions_with_labels:
        by_label.setdefault(label, {})[caption] = None
    return {label: list(captions) for label, captions in by_label.items()}


def familiar_table(
    by_label: Mapping[str, Embeddings], encoder: TextEncoder, unlike: Collection[str] = ()
) -> FamiliarTable:
    """Equally many captions of every label, as far apart as they can be chosen, and the threshold. `unlike`: labels
    that the student makes unlike their names.

    Held-out prompts of labels without captions are left out. Raises NothingFamiliarError.
    """
    fitting, _ = split_held_out(set(by_label) - set(unlike))
    if not fitting:
        raise NothingFamiliarError(
            f"no held-out prompt belongs to the labels {', '.join(sorted(by_label)) or '(none)'}; give captions of "
            "classes that evaluation/held_out knows"
        )
    rows = max(1, MOST_ROWS // len(by_label))
    embeddings, labels = [], []
    for label, found in by_label.items():
        kept = spread_out(found, rows)
        embeddings.append(found[kept])
        labels += [label] * len(kept)
    table = FamiliarTable(np.concatenate(embeddings), tuple(labels), -1.0, frozenset(unlike) & set(by_label))
    best = [table.nearest(embedding).similarity for embedding in embed([prompt for prompt, _ in fitting], encoder)]
    return replace(table, threshold=float(np.percentile(best, _NEEDLESS_PERCENT)))


def encoded_table(text: TextTable) -> FamiliarTable:
    """Of captions that were encoded, each its own label. No other wordings of them are at hand: the threshold is one
    below which one caption in twenty lies from all that are kept but itself. Raises NothingFamiliarError."""
    rows = list({caption: row for row, caption in enumerate(text.texts) if caption}.values())
    if len(rows) < 2:
        raise NothingFamiliarError(f"the encoded data has {len(rows)} captions; a table of what is known needs two")
    embeddings = functional.normalize(text.means[rows], dim=-1).numpy()
    kept = spread_out(embeddings, MOST_ROWS)
    similarities = embeddings @ embeddings[kept].T
    similarities[kept, np.arange(len(kept))] = -1.0  # to itself
    threshold = float(np.percentile(similarities.max(1), _NEEDLESS_PERCENT))
    return FamiliarTable(embeddings[kept], tuple(text.texts[rows[row]] for row in kept), threshold)


def separation(table: FamiliarTable, encoder: TextEncoder) -> Separation:
    """Measured on the held-out prompts that did not set the threshold, and on unfamiliar.toml."""
    _, judging = split_held_out(table.known)
    found = [table.nearest(embedding) for embedding in embed([prompt for prompt, _ in judging], encoder)]

    def warned(prompts: Sequence[str]) -> float:
        return float(np.mean([table.nearest(embedding).unfamiliar for embedding in embed(prompts, encoder)]))

    misnamed = [prompt for half in split_held_out(table.unlike) for prompt, _ in half]
    return Separation(
        held_out=float(np.mean([one.unfamiliar for one in found])),
        unlike=warned(misnamed) if misnamed else None,
        unknown={kind: warned(prompts) for kind, prompts in unknown_prompts().items()},
        right_label=float(np.mean([one.label == label for one, (_, label) in zip(found, judging, strict=True)])),
    )


def embed(texts: Sequence[str], encoder: TextEncoder) -> Embeddings:
    """Unit embeddings [N, D]. One text at a time, as the daemon encodes them."""
    return np.concatenate([sentence_embedding(*encoder.encode([text])).cpu().numpy() for text in texts])


def spread_out(embeddings: Embeddings, most: int) -> list[int]:
    """Indices of at most `most` rows: the one nearest to all, then always the one farthest from those chosen."""
    chosen = [int((embeddings @ embeddings.mean(0)).argmax())]
    nearest = embeddings @ embeddings[chosen[0]]
    while len(chosen) < min(most, len(embeddings)):
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, embeddings @ embeddings[chosen[-1]])
    return chosen


def split_held_out(labels: Iterable[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(prompt, label) pairs to set the threshold with, and others to judge it with."""
    known = set(labels)
    prompts = {label: texts for label, texts in held_out_prompts().items() if label in known}
    halves = [[(text, label) for label, texts in prompts.items() for text in texts[half::2]] for half in range(2)]
    return halves[0], halves[1]


def unknown_prompts() -> Mapping[str, Sequence[str]]:
    """By kind: what is no sound at all, and sounds that no class renders."""
    text = resources.files(__package__).joinpath("unfamiliar.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
