"""The teacher's layers as a measure of distance between latents (SoundCTM eq. 5).

The paper sums squared differences of the teacher's hidden states over all layers, each normalised over its channels
(its footnote 2, after LPIPS). The official code feeds every layer the same input, normalises along the sequence and
takes means. Each of the three is an option of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.preconditioning import c_in, c_noise
from soundctm_training.distillation.settings import FeatureNorm, FeatureReduction, FeatureWiring

_NORM_FLOOR = 1e-10


def teacher_features(
    network: DiT,
    z: Tensor,
    level: Tensor,
    context: TextContext,
    sigma_data: float,
    wiring: FeatureWiring = FeatureWiring.CHAINED,
    norm: FeatureNorm = FeatureNorm.CHANNELS,
) -> list[Tensor]:
    """Hidden state of every layer at noise level `level` [B], each of unit length along `norm`: [B, N, E]."""
    embedded = network.level_embedding(c_noise(level), None, None, context.pooled)
    hidden = network.embed(c_in(level, sigma_data).view(-1, 1, 1) * z, embedded)
    run = network.run_layers if wiring is FeatureWiring.CHAINED else network.run_layers_in_parallel
    axis = -1 if norm is FeatureNorm.CHANNELS else 1
    return [
        feature / (torch.linalg.vector_norm(feature, dim=axis, keepdim=True) + _NORM_FLOOR)
        for feature in run(hidden, context, embedded)
    ]


def feature_distance(
    estimate: Sequence[Tensor],
    target: Sequence[Tensor],
    reduction: FeatureReduction = FeatureReduction.SUM_CHANNELS,
) -> Tensor:
    """Sum over layers of the squared difference, reduced to one value per row: [B]."""
    scale = estimate[0].shape[-1] if reduction is FeatureReduction.SUM_CHANNELS else 1
    return scale * torch.stack([(a - b).square().mean((1, 2)) for a, b in zip(estimate, target, strict=True)]).sum(0)
