"""Consistency trajectory distillation: SoundCTM eq. 5-9, Algorithm 2.

One step: z_t = z0 + t n; the student's estimate G(z_t, t, s) is pulled towards G_ema(z_u, u, s), where z_u is the
teacher's guided Heun solution from t to u; the DSM loss keeps g(z, sigma, sigma) a denoiser.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.preconditioning import c_out, denoise, jump
from soundctm.spec import DiffusionSpec
from soundctm_training.config import Distillation
from soundctm_training.features import feature_distance, teacher_features
from soundctm_training.levels import denoising_levels, denoising_weight
from soundctm_training.solver import guided, heun
from soundctm_training.teacher import teacher_denoiser


@dataclass(frozen=True)
class Indices:
    """Grid indices of one step: t [B] and s [B]; u = t + solver_steps."""

    t: Tensor
    s: Tensor
    solver_steps: int

    @property
    def u(self) -> Tensor:
        return self.t + self.solver_steps


@dataclass(frozen=True)
class Contexts:
    """The same prompts as each network encodes them; `empty` is the teacher's encoding of "" for every row."""

    student: TextContext
    target: TextContext
    teacher: TextContext
    empty: TextContext


@dataclass(frozen=True)
class Networks:
    """Only `student` is trained; `target` is its running average, `teacher` never changes."""

    student: DiT
    target: DiT
    teacher: DiT


@dataclass(frozen=True)
class StepLosses:
    consistency: float
    denoising: float
    weight: float  # lambda_DSM


def draw_indices(batch: int, settings: Distillation, generator: np.random.Generator) -> Indices:
    """Solver steps from their table; t uniform with extra weight on the two highest levels; s uniform in u .. N-1
    with extra weight on its ends: one jump from the top to the bottom is what a preview is, and short jumps, which
    the solver teaches directly, are what a refine is."""
    steps = 1 + int(generator.choice(len(settings.solver_steps), p=settings.solver_steps))
    last = settings.grid_points - 1
    t = generator.integers(0, last - steps + 1, size=batch)
    t = np.where(generator.random(batch) < settings.top_t, generator.integers(0, 2, size=batch), t)
    s = generator.integers(t + steps, last + 1)
    where = generator.random(batch)
    s = np.where(where < settings.end_s, last, s)
    s = np.where(where > 1 - settings.next_s, t + steps, s)
    return Indices(torch.from_numpy(t), torch.from_numpy(s), steps)


def consistency_target(
    networks: Networks,
    contexts: Contexts,
    noisy: Tensor,
    indices: Indices,
    omega: Tensor,
    levels: Tensor,
    sigma_data: float,
) -> Tensor:
    """z_target = G_ema(Heun(z_t, t -> u), u, s), without gradient: [B, C, T]."""
    with torch.no_grad():
        conditional = teacher_denoiser(networks.teacher, contexts.teacher, sigma_data)
        unconditional = teacher_denoiser(networks.teacher, contexts.empty, sigma_data)
        solved = heun(guided(conditional, unconditional, omega), noisy, indices.t, indices.solver_steps, levels)
        u, s = levels[indices.u], levels[indices.s]
        return jump(networks.target, solved, u, s, omega, contexts.target, sigma_data)


def consistency_loss(
    networks: Networks,
    contexts: Contexts,
    estimate: Tensor,
    target: Tensor,
    t: Tensor,
    s: Tensor,
    settings: Distillation,
    sigma_data: float,
) -> Tensor:
    """Eq. 7's distance at s, plus the squared distance of what the network itself would have to output: [B].

    In z_s a short jump at a high level hardly shows: G = s/t z_t + (1 - s/t) (c_skip z_t + c_out F). Divided by
    (1 - s/t) c_out(t), every jump's error weighs what it is as an error of F.
    """
    scale = ((1 - s / t) * c_out(t, sigma_data)).view(-1, 1, 1)
    loss = settings.latent_weight * ((estimate - target) / scale).square().mean((1, 2))
    if settings.feature_weight > 0:
        with torch.no_grad():
            wanted = teacher_features(networks.teacher, target, s, contexts.teacher, sigma_data)
        seen = teacher_features(networks.teacher, estimate, s, contexts.teacher, sigma_data)
        loss = loss + settings.feature_weight * feature_distance(seen, wanted)
    return loss


def adaptive_weight(consistency: Tensor, denoising: Tensor, limit: float) -> Tensor:
    """lambda_DSM: ratio of the two losses' gradient norms at the last layer."""
    return torch.clamp(consistency.norm() / (denoising.norm() + 1e-8), 0, limit)


def first_rows(context: TextContext, rows: int) -> TextContext:
    return TextContext(**{name: values[:rows] for name, values in context.fields().items()})


def distillation_backward(
    networks: Networks,
    contexts: Contexts,
    latent: Tensor,
    indices: Indices,
    omega: Tensor,
    levels: Tensor,
    settings: Distillation,
    diffusion: DiffusionSpec,
    generator: torch.Generator,
) -> StepLosses:
    """Leave the gradient of eq. 9 in the student's parameters.

    Both losses are differentiated down to the network's outputs first, so that the adaptive weight costs one
    extra layer and not a second backward pass.
    """
    sigma_data = diffusion.sigma_data
    t, s = levels[indices.t], levels[indices.s]
    noisy = latent + t.view(-1, 1, 1) * torch.randn(latent.shape, generator=generator)
    target = consistency_target(networks, contexts, noisy, indices, omega, levels, sigma_data)
    estimate = jump(networks.student, noisy, t, s, omega, contexts.student, sigma_data)
    held = estimate.detach().requires_grad_()
    consistency = consistency_loss(networks, contexts, held, target, t, s, settings, sigma_data).mean()
    (consistency_slope,) = torch.autograd.grad(consistency, held)

    rows = math.ceil(settings.denoising_rows * len(latent))
    clean, context = latent[:rows], first_rows(contexts.student, rows)
    level = denoising_levels(rows, diffusion, generator)
    disturbed = clean + level.view(-1, 1, 1) * torch.randn(clean.shape, generator=generator)
    restored = denoise(networks.student, disturbed, level, level, omega[:rows], context, sigma_data)
    error = restored.detach() - clean
    weight = denoising_weight(level, sigma_data)
    denoising = (weight * error.square().mean((1, 2))).mean()
    denoising_slope = 2 * weight.view(-1, 1, 1) * error / error.numel()

    last = networks.student.get_parameter(settings.last_layer)
    slopes = [
        torch.autograd.grad(output, last, slope, retain_graph=True)[0]
        for output, slope in ((estimate, consistency_slope), (restored, denoising_slope))
    ]
    balance = adaptive_weight(slopes[0], slopes[1], settings.lambda_max)
    torch.autograd.backward(
        [estimate, restored], [consistency_slope, settings.denoising_weight * balance * denoising_slope]
    )
    return StepLosses(consistency.item(), denoising.item(), float(balance))
