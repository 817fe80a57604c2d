"""Rates with standard errors, and preview-to-refine retrieval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soundctm_training.evaluation.log_mel import BANDS, log_mel

EMBEDDING_BLOCKS = 40  # quarters of a second of a 10 s clip; a clip under a second has fewer
EMBEDDING_GROUPS = 16


@dataclass(frozen=True)
class Rate:
    """A share of successes with its standard error, and the number of trials."""

    value: float
    standard_error: float
    trials: int

    def to_json(self) -> dict[str, float | int]:
        return {"rate": round(self.value, 4), "se": round(self.standard_error, 4), "n": self.trials}


def clustered_rate(trials: Sequence[Sequence[bool]]) -> Rate:
    """The mean over clusters (prompts) of equal size; trials of one prompt are not independent, prompts are."""
    means = np.array([np.mean(cluster) for cluster in trials], np.float64)
    error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    return Rate(float(means.mean()), error, sum(len(cluster) for cluster in trials))


def embedding(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What a clip sounds like overall and when things happen in it: [64 + 640].

    The mean log-mel spectrum (64 bands) beside the log-mel averaged into 16 band groups of each quarter second.
    Both halves have unit norm after their own mean is removed, so neither outvotes the other and level is ignored.
    """
    mel = log_mel(audio).double().numpy()
    grouped = mel.reshape(EMBEDDING_GROUPS, BANDS // EMBEDDING_GROUPS, -1).mean(axis=1)
    blocks = np.array_split(grouped, min(EMBEDDING_BLOCKS, grouped.shape[1]), axis=1)
    course = np.stack([block.mean(axis=1) for block in blocks], axis=1)
    halves = [mel.mean(axis=1), course.ravel()]
    centred = [half - half.mean() for half in halves]
    return np.concatenate([half / (np.linalg.norm(half) + 1e-12) for half in centred])


def retrieval_hits(
    previews: npt.NDArray[np.float64], refines: npt.NDArray[np.float64], *, centred: bool
) -> npt.NDArray[np.bool_]:
    """Whether preview i is nearest by cosine to refine i, [seeds]; both are embeddings [seeds, features].

    `centred` first removes from each set its own mean: all seeds share the prompt's sound, and only what differs
    between seeds can tell which refine a preview became.
    """
    if centred:
        previews, refines = previews - previews.mean(axis=0), refines - refines.mean(axis=0)
    unit_previews = previews / (np.linalg.norm(previews, axis=1, keepdims=True) + 1e-12)
    unit_refines = refines / (np.linalg.norm(refines, axis=1, keepdims=True) + 1e-12)
    nearest = (unit_previews @ unit_refines.T).argmax(axis=1)
    return np.asarray(nearest == np.arange(len(previews)))
