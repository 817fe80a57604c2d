"""The EDM teacher: a denoiser trained on latents and captions, with captions dropped for guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.preconditioning import denoise
from soundctm.spec import DiffusionSpec
from soundctm_training.config import TeacherTraining
from soundctm_training.distillation.distances import denoising_weight
from soundctm_training.distillation.draws import lognormal_levels
from soundctm_training.distillation.solver import Denoiser


@dataclass(frozen=True)
class Disturbance:
    """The draws of one step: noise level [B] and noise [B, C, T] of every clip of the batch."""

    level: Tensor
    noise: Tensor


def draw_disturbance(
    shape: torch.Size, settings: TeacherTraining, diffusion: DiffusionSpec, generator: torch.Generator
) -> Disturbance:
    """Log-normal levels (Karras et al. 2022, table 1) within the trained range."""
    level = lognormal_levels(shape[0], settings.level_mean, settings.level_std, generator)
    level = level.clamp(diffusion.sigma_min, diffusion.sigma_max)
    return Disturbance(level, torch.randn(shape, generator=generator))


def teacher_loss(
    network: DiT, latent: Tensor, context: TextContext, disturbance: Disturbance, sigma_data: float
) -> Tensor:
    """EDM's loss, one value per clip [B]: weighted squared error of D(z0 + sigma n, sigma), mean over C and T."""
    level = disturbance.level
    noisy = latent + level.view(-1, 1, 1) * disturbance.noise
    error = denoise(network, noisy, level, None, None, context, sigma_data) - latent
    return denoising_weight(level, sigma_data) * error.square().mean((1, 2))


def teacher_denoiser(network: DiT, context: TextContext, sigma_data: float) -> Denoiser:
    """D as a function of latent and level alone; a context of one row serves any number of clips."""
    return lambda z, level: denoise(network, z, level, None, None, context.expand(len(z)), sigma_data)
