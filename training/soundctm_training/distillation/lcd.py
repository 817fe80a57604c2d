"""AudioLCM's guided latent consistency distillation (Liu et al. 2024, arXiv 2406.00356, section 3) on our networks.

Theirs: the teacher leaps k points of a fine grid in one guided DDIM step, shortened at the grid's lower end, where its
result is the target itself; the guidance scale is drawn per row and is an input of the student; the target network is
a running average that follows every step; the distance is pseudo-Huber with c = 0.001, element by element. Their code
takes k = 20 of 1000 points in one leap, although the abstract speaks of a multi-step solver.

Adapted: EDM's noise levels, on which DDIM is Euler's step; omega is the guidance scale itself (their w is one less);
a leap starts at any point of the grid, as in LCM (Luo et al. 2023), not at every k-th; the consistency function is the
jump to sigma_min. Heun's leap is an option of ours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from soundctm.spec import DiffusionSpec
from soundctm_training.distillation.consistency import ConsistencyMethod, Step
from soundctm_training.distillation.distances import pseudo_huber
from soundctm_training.distillation.settings import LcdSettings, LeapSolver
from soundctm_training.distillation.solver import Denoiser


class Lcd(ConsistencyMethod):
    """Leaps of several grid points, and a pseudo-Huber distance."""

    def __init__(self, settings: LcdSettings, diffusion: DiffusionSpec) -> None:
        super().__init__(diffusion.sigma_data)
        self.settings = settings

    def draw(self, rows: int, points: int, choice: np.random.Generator) -> Step:
        return draw_leap(rows, self.settings.skip_steps, points, choice)

    def solve(self, teacher: Denoiser, z: Tensor, step: Step, levels: Tensor) -> Tensor:
        return LEAPS[self.settings.solver](teacher, z, levels[step.start], levels[step.end])

    def distance(self, estimate: Tensor, target: Tensor, level: Tensor) -> Tensor:
        return pseudo_huber(estimate, target, self.settings.huber_c)


def draw_leap(rows: int, skip: int, points: int, generator: np.random.Generator) -> Step:
    """Starts uniform over all points but the lowest; a leap that would pass the lowest point ends there."""
    start = torch.from_numpy(generator.integers(0, points - 1, size=rows))
    return Step(start, (start + skip).clamp(max=points - 1))


def ddim_leap(denoise: Denoiser, z: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """z' = D + end/start (z - D), from level start [B] to end [B]: Euler's step in sigma."""
    denoised = denoise(z, start)
    return denoised + (end / start).view(-1, 1, 1) * (z - denoised)


def heun_leap(denoise: Denoiser, z: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Heun's second-order step from level start [B] to end [B]; two evaluations."""
    change = (end - start).view(-1, 1, 1)
    slope = (z - denoise(z, start)) / start.view(-1, 1, 1)
    ahead = z + change * slope
    slope_ahead = (ahead - denoise(ahead, end)) / end.view(-1, 1, 1)
    return z + change * 0.5 * (slope + slope_ahead)


LEAPS = {LeapSolver.DDIM: ddim_leap, LeapSolver.HEUN: heun_leap}
