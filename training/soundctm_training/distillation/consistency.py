"""What the two baselines share: a consistency model is our network asked for one kind of jump only, to sigma_min.

f(z, t, omega) = G(z, t, sigma_min, omega) (SoundCTM eq. 6). At t = sigma_min it is z, exactly: the boundary condition
of consistency models (Song et al. 2023, section 3), which AudioLCM makes with a c_skip and c_out of its own and
ConsistencyTTA leaves to the data. Such a model is sampled with gamma 1: every jump goes to sigma_min and is noised
again, for it learnt no other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from soundctm.networks.preconditioning import jump
from soundctm_training.distillation.solver import Denoiser, guided
from soundctm_training.distillation.values import Contexts, Networks, StepLosses
from soundctm_training.teacher import teacher_denoiser
from soundctm_training.workers import ALONE, Share

# the guided teacher D and z [B, C, T] at `Step.start` -> z at `Step.end`, on the teacher's trajectory
Solve = Callable[[Denoiser, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """Grid indices [B]: the student sees level `start`, the target network level `end`."""

    start: Tensor
    end: Tensor

    def of(self, share: Share) -> Step:
        """One worker's rows."""
        return Step(self.start[share.rows], self.end[share.rows])


class ConsistencyMethod(ABC):
    """One training step as `Method` asks for it; the methods differ in their steps, their solver and their distance."""

    def __init__(self, sigma_data: float) -> None:
        self.sigma_data = sigma_data

    @abstractmethod
    def draw(self, rows: int, points: int, choice: np.random.Generator) -> Step:
        """Steps of a whole batch on a grid of `points` levels."""

    @abstractmethod
    def solve(self, teacher: Denoiser, z: Tensor, step: Step, levels: Tensor) -> Tensor:
        """The guided teacher's solution at `step.end` from z at `step.start`: [B, C, T]."""

    @abstractmethod
    def distance(self, estimate: Tensor, target: Tensor, level: Tensor) -> Tensor:
        """Of every row, whose student saw `level`: [B]."""

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
        step = self.draw(share.batch, len(levels), choice).of(share)
        start = levels[step.start]
        noisy = disturbed(latent, start, noise, share)
        target = consistency_target(
            networks, contexts, noisy, step, omega, levels,
            lambda teacher, z: self.solve(teacher, z, step, levels), self.sigma_data,
        )  # fmt: skip
        estimate = consistency_estimate(networks, contexts, noisy, step, omega, levels, self.sigma_data)
        loss = share.mean(self.distance(estimate, target, start))
        loss.backward()
        consistency = loss.detach()
        share.workers.average([consistency])
        return StepLosses(consistency.item(), 0.0, 0.0)


def disturbed(latent: Tensor, level: Tensor, noise: torch.Generator, share: Share) -> Tensor:
    """z_t = z0 + t n for this worker's latents [B, C, T] and levels [B]; n is drawn for the whole batch."""
    shape = (share.batch, *latent.shape[1:])
    normal = torch.randn(shape, generator=noise, device=noise.device)[share.rows]
    return latent + level.view(-1, 1, 1) * normal.to(latent.device)


def consistency_target(
    networks: Networks,
    contexts: Contexts,
    noisy: Tensor,
    step: Step,
    omega: Tensor,
    levels: Tensor,
    solve: Solve,
    sigma_data: float,
) -> Tensor:
    """f_ema(z_end, omega), z_end the guided teacher's solution from `noisy`; without gradient: [B, C, T]."""
    with torch.no_grad():
        conditional = teacher_denoiser(networks.teacher, contexts.teacher, sigma_data)
        unconditional = teacher_denoiser(networks.teacher, contexts.empty, sigma_data)
        solved = solve(guided(conditional, unconditional, omega), noisy)
        end = levels[step.end]
        return jump(networks.target, solved, end, lowest(end, levels), omega, contexts.target, sigma_data)


def consistency_estimate(
    networks: Networks, contexts: Contexts, noisy: Tensor, step: Step, omega: Tensor, levels: Tensor, sigma_data: float
) -> Tensor:
    """f_student(noisy, omega): [B, C, T]."""
    start = levels[step.start]
    return jump(networks.student, noisy, start, lowest(start, levels), omega, contexts.student, sigma_data)


def lowest(like: Tensor, levels: Tensor) -> Tensor:
    """sigma_min for every row of `like` [B]."""
    return levels[-1].expand_as(like)
