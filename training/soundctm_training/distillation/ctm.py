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

from soundctm.networks.dit import TextContext
from soundctm.networks.preconditioning import denoise, jump
from soundctm.spec import DiffusionSpec
from soundctm_training.distillation.distances import denoising_weight, distance, output_distance
from soundctm_training.distillation.draws import Indices, denoising_levels, draw_indices, standard_normal
from soundctm_training.distillation.settings import DenoisingScale, DenoisingTarget, Distillation, MatchPoint
from soundctm_training.distillation.solver import guided_heun
from soundctm_training.distillation.values import Contexts, Networks, StepLosses
from soundctm_training.teacher import Disturbance, teacher_denoiser


@dataclass(frozen=True)
class Draws:
    """All chance of one step. `denoising` disturbs the first rows of the batch; None = no denoising loss."""

    indices: Indices
    noise: Tensor            # of z_t: [B, C, T]
    denoising: Disturbance | None


@dataclass(frozen=True)
class Jump:
    """The consistency term. `estimate` and `target` lie at the match point, where they are compared."""

    noisy: Tensor            # z_t
    solved: Tensor           # z_u
    output: Tensor           # the student's G(z_t, t, s), in its graph
    estimate: Tensor
    target: Tensor
    losses: Tensor           # [B]
    slope: Tensor            # gradient of the losses' mean at `output`


@dataclass(frozen=True)
class Denoising:
    """The DSM term."""

    disturbed: Tensor
    restored: Tensor         # the student's g(z, sigma, sigma), in its graph
    losses: Tensor           # [rows]
    slope: Tensor            # gradient of the losses' mean at `restored`


@dataclass(frozen=True)
class Balance:
    """lambda_DSM, and the gradients at the last layer that it is the ratio of; None where it is fixed."""

    weight: float
    consistency: Tensor | None = None
    denoising: Tensor | None = None


@dataclass(frozen=True)
class Terms:
    """Everything a step went through; its gradient is in the student's parameters."""

    jump: Jump
    denoising: Denoising | None
    balance: Balance
    total: float


class Ctm:
    """One training step of the method, as `Method` asks for it."""

    def __init__(self, settings: Distillation, diffusion: DiffusionSpec) -> None:
        self.settings, self.diffusion = settings, diffusion

    def backward(
        self,
        networks: Networks,
        contexts: Contexts,
        latent: Tensor,
        omega: Tensor,
        levels: Tensor,
        choice: np.random.Generator,
        noise: torch.Generator,
    ) -> StepLosses:
        draws = self.draw(latent, choice, noise)
        terms = self.backward_of(networks, contexts, latent, omega, levels, draws)
        denoising = 0.0 if terms.denoising is None else terms.denoising.losses.mean().item()
        return StepLosses(terms.jump.losses.mean().item(), denoising, terms.balance.weight)

    def draw(self, latent: Tensor, choice: np.random.Generator, noise: torch.Generator) -> Draws:
        settings = self.settings
        indices = draw_indices(len(latent), settings, choice)
        normal = standard_normal(latent.shape, latent, noise)
        if settings.denoising_weight == 0:
            return Draws(indices, normal, None)
        rows = math.ceil(settings.denoising_rows * len(latent))
        law = (settings.denoising_levels, settings.denoising_high_share)
        level = denoising_levels(rows, self.diffusion, noise, *law).to(latent.device)
        return Draws(indices, normal, Disturbance(level, standard_normal(latent[:rows].shape, latent, noise)))

    def backward_of(
        self, networks: Networks, contexts: Contexts, latent: Tensor, omega: Tensor, levels: Tensor, draws: Draws
    ) -> Terms:
        """Leave the gradient of eq. 9 in the student's parameters, for given draws.

        Both losses are differentiated down to the network's outputs first, so that the adaptive weight costs one
        extra layer and not a second backward pass.
        """
        settings = self.settings
        leap = self._jump(networks, contexts, latent, omega, levels, draws)
        total = settings.consistency_weight * leap.losses.mean().item()
        if draws.denoising is None:
            torch.autograd.backward(leap.output, settings.consistency_weight * leap.slope)
            return Terms(leap, None, Balance(0.0), total)
        goal = latent if settings.denoising_target is DenoisingTarget.Z_0 else leap.target
        denoising = self._denoising(networks, contexts.student, latent, goal, omega, draws.denoising)
        balance = self._balance(networks, leap, denoising)
        share = settings.denoising_weight * balance.weight
        torch.autograd.backward(
            [leap.output, denoising.restored], [settings.consistency_weight * leap.slope, share * denoising.slope]
        )
        return Terms(leap, denoising, balance, total + share * denoising.losses.mean().item())

    def _jump(
        self, networks: Networks, contexts: Contexts, latent: Tensor, omega: Tensor, levels: Tensor, draws: Draws
    ) -> Jump:
        """Eq. 7: z_est, z_target and their distance."""
        settings, sigma_data = self.settings, self.diffusion.sigma_data
        indices = draws.indices
        t, u, s = levels[indices.t], levels[indices.u], levels[indices.s]
        noisy = latent + t.view(-1, 1, 1) * draws.noise
        with torch.no_grad():
            solved = guided_heun(
                teacher_denoiser(networks.teacher, contexts.teacher, sigma_data),
                teacher_denoiser(networks.teacher, contexts.empty, sigma_data),
                omega, settings.guidance_mix, noisy, indices.t, indices.solver_steps, levels,
            )  # fmt: skip
            target = jump(networks.target, solved, u, s, omega, contexts.target, sigma_data)
        output = jump(networks.student, noisy, t, s, omega, contexts.student, sigma_data)
        held = output.detach().requires_grad_()
        estimate, level = held, s
        if settings.match_point is MatchPoint.ZERO:
            level = levels[-1].expand_as(s)
            with torch.no_grad():
                target = jump(networks.target, target, s, level, omega, contexts.target, sigma_data)
            estimate = jump(networks.target, held, s, level, omega, contexts.target, sigma_data)
        losses = torch.zeros_like(s)
        if settings.feature_weight > 0:
            found = distance(estimate, target, level, networks.teacher, contexts.teacher, settings, sigma_data)
            losses = losses + settings.feature_weight * found
        if settings.latent_weight > 0:
            losses = losses + settings.latent_weight * output_distance(estimate, target, t, s, sigma_data)
        (slope,) = torch.autograd.grad(losses.mean(), held)
        return Jump(noisy, solved, output, estimate.detach(), target, losses.detach(), slope)

    def _denoising(
        self,
        networks: Networks,
        context: TextContext,
        latent: Tensor,
        goal: Tensor,
        omega: Tensor,
        disturbance: Disturbance,
    ) -> Denoising:
        """Eq. 8 on the first rows of the batch, as many as `disturbance` has."""
        sigma_data, level = self.diffusion.sigma_data, disturbance.level
        rows = len(level)
        disturbed = latent[:rows] + level.view(-1, 1, 1) * disturbance.noise
        restored = denoise(
            networks.student, disturbed, level, level, omega[:rows], first_rows(context, rows), sigma_data
        )
        error = restored.detach() - goal[:rows]
        scaled = self.settings.denoising_scale is DenoisingScale.EDM
        weight = denoising_weight(level, sigma_data) if scaled else torch.ones_like(level)
        slope = 2 * weight.view(-1, 1, 1) * error / error.numel()
        return Denoising(disturbed, restored, weight * error.square().mean((1, 2)), slope)

    def _balance(self, networks: Networks, leap: Jump, denoising: Denoising) -> Balance:
        if not self.settings.adaptive_lambda:
            return Balance(self.settings.fixed_lambda)
        last = networks.student.get_parameter(self.settings.last_layer)
        slopes = [
            torch.autograd.grad(output, last, slope, retain_graph=True)[0]
            for output, slope in ((leap.output, leap.slope), (denoising.restored, denoising.slope))
        ]
        return Balance(float(adaptive_weight(slopes[0], slopes[1], self.settings.lambda_max)), slopes[0], slopes[1])


def adaptive_weight(consistency: Tensor, denoising: Tensor, limit: float) -> Tensor:
    """lambda_DSM: ratio of the two losses' gradient norms at the last layer."""
    return torch.clamp(consistency.norm() / (denoising.norm() + 1e-8), 0, limit)


def first_rows(context: TextContext, rows: int) -> TextContext:
    return TextContext(**{name: values[:rows] for name, values in context.fields().items()})
