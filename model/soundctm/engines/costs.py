"""What a batched step costs on a device, as values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_REMEMBERED_STEPS = 32
_FADING_STEPS = 4  # after so many steps what was measured at the start counts half: it gives the shape, they the height

Point = tuple[float, float]  # frames, seconds


@dataclass(frozen=True)
class Cost:
    """Of one batched step of `frames` = rows x latent frames: a line, fitted to what was measured when the engine was
    loaded and to what the latest steps took.

    `frames_in_memory` is how many frames the device's memory holds at once.
    """

    measured: tuple[Point, ...]
    latest: tuple[Point, ...] = ()
    frames_in_memory: float = math.inf

    @cached_property
    def line(self) -> tuple[float, float]:
        """(seconds of a step, seconds more per frame)."""
        fading = _FADING_STEPS / (_FADING_STEPS + len(self.latest))
        return fitted(self.measured + self.latest, [fading] * len(self.measured) + [1.0] * len(self.latest))

    def seconds(self, frames: float) -> float:
        fixed, per_frame = self.line
        return fixed + per_frame * frames

    @property
    def frames_tried(self) -> float:
        """The largest step so far, as far as it is remembered."""
        return max(frames for frames, _ in self.measured + self.latest)

    def seen(self, frames: float, seconds: float) -> Cost:
        """After a step that took so long."""
        return dataclasses.replace(self, latest=(*self.latest, (frames, seconds))[-_REMEMBERED_STEPS:])

    def too_large(self, frames: float) -> Cost:
        """After a step for which the memory was not enough: at most half of it from now on."""
        return dataclasses.replace(self, frames_in_memory=min(self.frames_in_memory, frames / 2))


@dataclass(frozen=True)
class Costs:
    """Of jumps, and of decoding tiles, whose frames are a clip's divided by its tiles."""

    jump: Cost
    decode: Cost


def fitted(points: Sequence[Point], weights: Sequence[float] | None = None) -> tuple[float, float]:
    """(fixed, per frame), both at least 0, of the line that misses the points by the smallest shares of their seconds.

    Shares, so that one step that others slowed down a thousandfold counts no more than one slowed down twice. Points
    of one size alone tell nothing of the fixed part: it is 0 then.
    """
    frames, seconds = np.array(points, np.float64).T
    seconds = np.maximum(seconds, 1e-9)
    weight = np.ones(len(points)) if weights is None else np.sqrt(weights)
    ones, inverse, share = weight, weight / seconds, weight * frames / seconds
    # every point asks: fixed * inverse + per_frame * share = ones
    if len(set(frames)) > 1:
        a, b, c, p, q = inverse @ inverse, inverse @ share, share @ share, inverse @ ones, share @ ones
        determinant, fixed, per_frame = a * c - b * b, c * p - b * q, a * q - b * p
        if determinant > 0 and fixed >= 0 and per_frame >= 0:
            return float(fixed / determinant), float(per_frame / determinant)
    fixed, per_frame = (float(term @ ones / (term @ term)) for term in (inverse, share))
    misses = [np.square(fixed * inverse - ones).sum(), np.square(per_frame * share - ones).sum()]
    return (fixed, 0.0) if len(set(frames)) > 1 and misses[0] < misses[1] else (0.0, per_frame)
