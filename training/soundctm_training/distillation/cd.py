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
from soundctm_training.distillation.consistency import Step, consistency_estimate, consistency_target, disturbed
from soundctm_training.distillation.settings import CdSettings
from soundctm_training.distillation.solver import heun
from soundctm_training.distillation.values import Contexts, Networks, StepLosses
from soundctm_training.workers import ALONE, Share


class Cd:
    """One training step of the method, as `Method` asks for it."""

    def __init__(self, settings: CdSettings, diffusion: DiffusionSpec) -> None:
        self.settings, self.sigma_data = settings, diffusion.sigma_data

    def backward(
        self,
        networks: Networks,
        contexts: Contexts,
        latent: Tensor,
        omega: Tensor,
        levels: Tensor,
        choice: np.random.Generator,
        noise: torch.Generator,
        share: Share | None = None,
    ) -> StepLosses:
        """Leave the loss's gradient in the student's parameters. There is no denoising loss."""
        share = share or ALONE.share(len(latent))
        step = draw_neighbours(share.batch, len(levels), choice).of(share)
        start = levels[step.start]
        noisy = disturbed(latent, start, noise, share)
        target = consistency_target(
            networks, contexts, noisy, step, omega, levels, lambda teacher, z: heun(teacher, z, step.start, 1, levels),
            self.sigma_data,
        )
        estimate = consistency_estimate(networks, contexts, noisy, step, omega, levels, self.sigma_data)
        weight = snr_weight(start, self.sigma_data, self.settings)
        loss = share.mean(weight * (estimate - target).square().mean((1, 2)))
        loss.backward()
        consistency = loss.detach()
        share.workers.average([consistency])
        return StepLosses(consistency.item(), 0.0, 0.0)


def draw_neighbours(rows: int, points: int, generator: np.random.Generator) -> Step:
    """Starts uniform over all points but the lowest; each step ends at the next point."""
    start = torch.from_numpy(generator.integers(0, points - 1, size=rows))
    return Step(start, start + 1)


def snr_weight(level: Tensor, sigma_data: float, settings: CdSettings) -> Tensor:
    """sigma_data^2 / level^2 of levels [B], kept within the floor and the limit (Hang et al. 2023's min-SNR)."""
    return (sigma_data**2 / level**2).clamp(settings.snr_floor, settings.snr_limit)
