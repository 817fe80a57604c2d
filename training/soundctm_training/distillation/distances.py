"""How far the student's estimate is from its target: the d of eq. 7, one value per row."""

from __future__ import annotations

import torch
from torch import Tensor

from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.preconditioning import c_out
from soundctm_training.distillation.features import feature_distance, teacher_features
from soundctm_training.distillation.settings import Distance, Distillation, OutputDistance, huber_constant

_OUTPUT_HUBER_C = 0.03  # differences below this are errors of no consequence: the square law there, the linear above


def distance(
    estimate: Tensor,
    target: Tensor,
    level: Tensor,
    teacher: DiT,
    context: TextContext,
    settings: Distillation,
    sigma_data: float,
) -> Tensor:
    """`settings.distance` of latents [B, C, T] that lie at noise level `level` [B]: [B]. Gradients reach `estimate`."""
    if settings.distance is Distance.TEACHER:
        options = (level, context, sigma_data, settings.feature_wiring, settings.feature_norm)
        with torch.no_grad():
            wanted = teacher_features(teacher, target, *options)
        return feature_distance(teacher_features(teacher, estimate, *options), wanted, settings.feature_reduction)
    if settings.distance is Distance.L2:
        return (estimate - target).square().mean((1, 2))
    if settings.distance is Distance.L1:
        return (estimate - target).abs().mean((1, 2))
    c = huber_constant(estimate[0].numel()) if settings.huber_c is None else settings.huber_c
    return pseudo_huber(estimate, target, c)


def pseudo_huber(estimate: Tensor, target: Tensor, c: float) -> Tensor:
    """sqrt(d^2 + c^2) - c of every element, mean over each latent: [B]. Nearly |d| where |d| is far above c."""
    huber: Tensor = ((estimate - target).square() + c**2).sqrt() - c
    return huber.mean((1, 2))


def output_distance(
    estimate: Tensor, target: Tensor, t: Tensor, s: Tensor, sigma_data: float, kind: OutputDistance = OutputDistance.L2
) -> Tensor:
    """Distance of what the network itself would have to output, whose values are of order 1: [B].

    In z_s a short jump at a high level hardly shows: G = s/t z_t + (1 - s/t) (c_skip z_t + c_out F). Divided by
    (1 - s/t) c_out(t), every jump's error weighs what it is as an error of F.
    """
    scale = ((1 - s / t) * c_out(t, sigma_data)).view(-1, 1, 1)
    if kind is OutputDistance.PSEUDO_HUBER:
        return pseudo_huber(estimate / scale, target / scale, _OUTPUT_HUBER_C)
    return ((estimate - target) / scale).square().mean((1, 2))


def denoising_weight(level: Tensor, sigma_data: float) -> Tensor:
    """EDM's weight (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 of a squared denoising error."""
    return (level**2 + sigma_data**2) / (level * sigma_data) ** 2
