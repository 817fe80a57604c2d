"""The teacher's layers as a measure of distance between latents (SoundCTM eq. 5).

The paper sums squared differences of the teacher's hidden states over all layers, each normalised over its channels
(its footnote 2, after LPIPS). The official code feeds every layer the same input and normalises along the sequence;
here features are chained, as a forward pass makes them, and normalised over channels, as the paper writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.preconditioning import c_in, c_noise

_NORM_FLOOR = 1e-10


def teacher_features(network: DiT, z: Tensor, level: Tensor, context: TextContext, sigma_data: float) -> list[Tensor]:
    """Hidden state of every layer at noise level `level` [B], each of unit length over channels: [B, N, E]."""
    embedded = network.level_embedding(c_noise(level), None, None, context.pooled)
    hidden = network.embed(c_in(level, sigma_data).view(-1, 1, 1) * z, embedded)
    return [
        feature / (feature.square().sum(-1, keepdim=True) + _NORM_FLOOR).sqrt()
        for feature in network.run_layers(hidden, context, embedded)
    ]


def feature_distance(estimate: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Sum over layers of the squared difference, mean over the sequence: [B]."""
    return torch.stack([(a - b).square().sum(-1).mean(1) for a, b in zip(estimate, target, strict=True)]).sum(0)
