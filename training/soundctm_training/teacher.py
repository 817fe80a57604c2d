"""The EDM teacher: a denoiser trained on latents and captions, with captions dropped for guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.preconditioning import denoise
from soundctm.spec import DiffusionSpec
from soundctm_training.config import TeacherTraining
from soundctm_training.levels import denoising_weight, lognormal_levels
from soundctm_training.solver import Denoiser


def teacher_loss(
    network: DiT,
    latent: Tensor,
    context: TextContext,
    settings: TeacherTraining,
    diffusion: DiffusionSpec,
    generator: torch.Generator,
) -> Tensor:
    """EDM's loss, one value per clip [B]: weighted squared error of D(z0 + sigma n, sigma), mean over C and T."""
    level = lognormal_levels(len(latent), settings.level_mean, settings.level_std, generator)
    level = level.clamp(diffusion.sigma_min, diffusion.sigma_max)
    noisy = latent + level.view(-1, 1, 1) * torch.randn(latent.shape, generator=generator)
    error = denoise(network, noisy, level, None, None, context, diffusion.sigma_data) - latent
    return denoising_weight(level, diffusion.sigma_data) * error.square().mean((1, 2))


def teacher_denoiser(network: DiT, context: TextContext, sigma_data: float) -> Denoiser:
    """D as a function of latent and level alone."""
    return lambda z, level: denoise(network, z, level, None, None, context, sigma_data)
