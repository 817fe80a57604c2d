"""Noise levels as tensors: the grid of distillation, and the draws of both trainings."""

from __future__ import annotations

import torch
from torch import Tensor

from soundctm.schedule import karras_sigmas
from soundctm.spec import DiffusionSpec


def grid(points: int, diffusion: DiffusionSpec) -> Tensor:
    """Karras levels [points] float32, index 0 = sigma_max, the last = sigma_min."""
    return torch.from_numpy(karras_sigmas(points, diffusion)).float()


def lognormal_levels(count: int, mean: float, std: float, generator: torch.Generator) -> Tensor:
    """exp(N(mean, std)): [count]."""
    return (torch.randn(count, generator=generator) * std + mean).exp()


def denoising_levels(count: int, diffusion: DiffusionSpec, generator: torch.Generator) -> Tensor:
    """DSM levels [count]: the first half log-normal(-1.2, 1.2), the rest xi ~ U[0, 0.7) on the Karras map.

    As in the official code, the law depends on the position in the batch.
    """
    half = count // 2
    low = lognormal_levels(half, -1.2, 1.2, generator)
    xi = 0.7 * torch.rand(count - half, generator=generator)
    ends = (diffusion.sigma_max ** (1 / diffusion.rho), diffusion.sigma_min ** (1 / diffusion.rho))
    return torch.cat([low, (ends[0] + xi * (ends[1] - ends[0])) ** diffusion.rho])


def denoising_weight(level: Tensor, sigma_data: float) -> Tensor:
    """EDM's weight (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 of a squared denoising error."""
    return (level**2 + sigma_data**2) / (level * sigma_data) ** 2
