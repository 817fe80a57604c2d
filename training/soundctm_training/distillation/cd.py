"""ConsistencyTTA's consistency distillation (Bai et al. 2023, arXiv 2309.10740, section 3) on our networks.

Theirs: the teacher takes one Heun step between neighbours of a coarse grid (18 points), guided inside both of its
evaluations with a scale drawn per row, which is an input of the student ("variable guidance"); the squared distance is
weighted with min(SNR, 5), the SNR of the level the student sees; the target network is a running average that follows
every step.

Adapted: EDM's noise levels; the consistency function is the jump to sigma_min, so that at the lowest level the target
is the teacher's solution and not the clip; at the highest level the student sees the clip under sigma_max of noise and
not noise alone. SNR is sigma_data^2 / sigma^2 and never falls below `snr_floor`, which is what it is at the top of
their schedule (sigma 14.6 for data of deviation 1): ours goes on to sigma_max = 160 sigma_data, where the weight would
be 4e-5 and the jump from pure noise hardly be trained.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from soundctm.spec import DiffusionSpec
from soundctm_training.distillation.consistency import ConsistencyMethod, Step
from soundctm_training.distillation.settings import CdSettings
from soundctm_training.distillation.solver import Denoiser, heun


class Cd(ConsistencyMethod):
    """Steps between neighbours, and a squared distance weighted by min-SNR."""

    def __init__(self, settings: CdSettings, diffusion: DiffusionSpec) -> None:
        super().__init__(diffusion.sigma_data)
        self.settings = settings

    def draw(self, rows: int, points: int, choice: np.random.Generator) -> Step:
        return draw_neighbours(rows, points, choice)

    def solve(self, teacher: Denoiser, z: Tensor, step: Step, levels: Tensor) -> Tensor:
        return heun(teacher, z, step.start, 1, levels)

    def distance(self, estimate: Tensor, target: Tensor, level: Tensor) -> Tensor:
        return snr_weight(level, self.sigma_data, self.settings) * (estimate - target).square().mean((1, 2))


def draw_neighbours(rows: int, points: int, generator: np.random.Generator) -> Step:
    """Starts uniform over all points but the lowest; each step ends at the next point."""
    start = torch.from_numpy(generator.integers(0, points - 1, size=rows))
    return Step(start, start + 1)


def snr_weight(level: Tensor, sigma_data: float, settings: CdSettings) -> Tensor:
    """sigma_data^2 / level^2 of levels [B], kept within the floor and the limit (Hang et al. 2023's min-SNR)."""
    return (sigma_data**2 / level**2).clamp(settings.snr_floor, settings.snr_limit)
