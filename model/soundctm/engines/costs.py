"""What a batched step costs on a device, as values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NEWEST_WEIGHT = 0.1     # of one step in the pace
_LARGEST_SURPRISE = 4.0  # one step may say so many times more or less than expected: others use the machine too


@dataclass(frozen=True)
class Cost:
    """Of one batched step of `frames` = rows x latent frames: fixed_seconds + seconds_per_frame x frames.

    `pace` says how many times slower than when it was measured the device works now. `frames_in_memory` is how many
    frames the device's memory holds at once.
    """

    fixed_seconds: float
    seconds_per_frame: float
    frames_in_memory: float = math.inf
    pace: float = 1.0

    def seconds(self, frames: float) -> float:
        return self.pace * (self.fixed_seconds + self.seconds_per_frame * frames)

    def seen(self, frames: float, seconds: float) -> Cost:
        """After a step that took so long."""
        expected = self.seconds(frames)
        if expected <= 0.0:
            return self
        surprise = min(max(seconds / expected, 1 / _LARGEST_SURPRISE), _LARGEST_SURPRISE)
        return dataclasses.replace(self, pace=self.pace * (1.0 + _NEWEST_WEIGHT * (surprise - 1.0)))

    def too_large(self, frames: float) -> Cost:
        """After a step for which the memory was not enough: at most half of it from now on."""
        return dataclasses.replace(self, frames_in_memory=min(self.frames_in_memory, frames / 2))


@dataclass(frozen=True)
class Costs:
    """Of jumps, and of decoding tiles, whose frames are a clip's divided by its tiles."""

    jump: Cost
    decode: Cost


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(fixed, per frame), both at least 0, of the line that misses the points (frames, seconds) by the smallest share.

    A single point tells nothing of the fixed part: it is 0 then.
    """
    frames, seconds = np.array(points, np.float64).T
    terms = np.stack([1 / seconds, frames / seconds])  # every point asks: terms . (fixed, per_frame) = 1
    if len(set(frames)) > 1:
        fixed, per_frame = np.linalg.lstsq(terms.T, np.ones(len(seconds)), rcond=None)[0]
        if fixed >= 0 and per_frame >= 0:
            return float(fixed), float(per_frame)
    fixed, per_frame = (float(term.sum() / (term @ term)) for term in terms)
    flat = len(set(frames)) > 1 and np.square(terms[0] * fixed - 1).sum() < np.square(terms[1] * per_frame - 1).sum()
    return (fixed, 0.0) if flat else (0.0, per_frame)
