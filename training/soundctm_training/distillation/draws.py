"""The grid of noise levels, and what a training step draws: k, t, s, omega, the levels of denoising."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm.schedule import karras_sigmas
from soundctm.spec import DiffusionSpec
from soundctm_training.distillation.settings import DenoisingLevels, Distillation, SolverStepsLaw

_LOW_MEAN, _LOW_STD = -1.2, 1.2  # of ln sigma, for the lower half of the DSM levels
_HIGH_SHARE = 0.7  # of the Karras map, for the upper half


@dataclass(frozen=True)
class Indices:
    """Grid indices of one step: t [B] and s [B]; u = t + solver_steps."""

    t: Tensor
    s: Tensor
    solver_steps: int

    @property
    def u(self) -> Tensor:
        return self.t + self.solver_steps


def grid(points: int, diffusion: DiffusionSpec) -> Tensor:
    """Karras levels [points] float32, index 0 = sigma_max, the last = sigma_min."""
    return torch.from_numpy(karras_sigmas(points, diffusion)).float()


def solver_step_weights(settings: Distillation) -> NDArray[np.float64]:
    """Probability of k = 1, 2, ... Heun steps: [most steps]."""
    if settings.solver_steps_law is SolverStepsLaw.TABLE:
        weights = np.asarray(settings.solver_steps, np.float64)
    else:
        weights = np.arange(1, settings.grid_points, dtype=np.float64) ** settings.solver_steps_power
    return np.asarray(weights / weights.sum())


def draw_indices(batch: int, settings: Distillation, generator: np.random.Generator) -> Indices:
    """Solver steps k by their law; t uniform over 0 .. N-1-k, s over u .. N-1, as the official code draws them.

    On top of that, t may get extra weight on its two highest levels and s on its two ends: one jump from the top to
    the bottom is what a preview is, and short jumps, which the solver teaches directly, are what a refine is.
    """
    weights = solver_step_weights(settings)
    steps = 1 + int(generator.choice(len(weights), p=weights))
    last = settings.grid_points - 1
    t = generator.integers(0, last - steps + 1, size=batch)
    if settings.top_t > 0:
        high = np.minimum(generator.integers(0, 2, size=batch), last - steps)
        t = np.where(generator.random(batch) < settings.top_t, high, t)
    s = generator.integers(t + steps, last + 1)
    if settings.end_s > 0 or settings.next_s > 0:
        where = generator.random(batch)
        s = np.where(where < settings.end_s, last, s)
        s = np.where(where >= 1 - settings.next_s, t + steps, s)
    return Indices(torch.from_numpy(t), torch.from_numpy(s), steps)


def draw_omega(batch: int, settings: Distillation, generator: np.random.Generator) -> Tensor:
    """Guidance scales ~ U[omega_min, omega_max): [batch]."""
    return torch.from_numpy(generator.uniform(settings.omega_min, settings.omega_max, batch).astype(np.float32))


def lognormal_levels(count: int, mean: float, std: float, generator: torch.Generator) -> Tensor:
    """exp(N(mean, std)): [count]."""
    return (torch.randn(count, generator=generator, device=generator.device) * std + mean).exp()


def low_level(normal: Tensor) -> Tensor:
    """DSM levels of the lower law from standard normal draws: log-normal(-1.2, 1.2)."""
    return (_LOW_MEAN + _LOW_STD * normal).exp()


def high_level(uniform: Tensor, diffusion: DiffusionSpec, share: float = _HIGH_SHARE) -> Tensor:
    """DSM levels of the upper law from draws u of U[0, 1): xi = share u on the map of Karras et al. 2022, eq. 5."""
    ends = diffusion.sigma_max ** (1 / diffusion.rho), diffusion.sigma_min ** (1 / diffusion.rho)
    root: Tensor = ends[0] + share * uniform * (ends[1] - ends[0])
    return root**diffusion.rho


def denoising_levels(
    count: int,
    diffusion: DiffusionSpec,
    generator: torch.Generator,
    law: DenoisingLevels = DenoisingLevels.BY_POSITION,
    high_share: float = _HIGH_SHARE,
) -> Tensor:
    """DSM levels [count], half of them by the lower law.

    `BY_POSITION`: the first floor(count / 2), as the official code has it, so that the law depends on a clip's place
    in the batch. `BY_CHANCE`: each with probability one half.
    """
    device = generator.device
    if law is DenoisingLevels.BY_CHANCE:
        lower = torch.rand(count, generator=generator, device=device) < 0.5
        low = low_level(torch.randn(count, generator=generator, device=device))
        uniform = torch.rand(count, generator=generator, device=device)
        return torch.where(lower, low, high_level(uniform, diffusion, high_share))
    half = count // 2
    low = low_level(torch.randn(half, generator=generator, device=device))
    uniform = torch.rand(count - half, generator=generator, device=device)
    return torch.cat([low, high_level(uniform, diffusion, high_share)])
