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
from soundctm_training.distillation.draws import Indices, denoising_levels, draw_indices
from soundctm_training.distillation.settings import DenoisingScale, DenoisingTarget, Distillation, MatchPoint
from soundctm_training.distillation.solver import guided, guided_heun
from soundctm_training.distillation.values import Contexts, Networks, StepLosses
from soundctm_training.teacher import Disturbance, teacher_denoiser
from soundctm_training.workers import ALONE, Share


@dataclass(frozen=True)
class DenoisingDraws:
    """What the DSM loss draws: the batch's rows it sees [R], their level [R] and noise [R, C, T].

    `count` is R over all workers. `weight` 0: the row only stands in, for a worker that has none of its own must give
    every parameter a gradient too.
    """

    rows: Tensor
    disturbance: Disturbance
    count: int
    weight: float = 1.0

    def of(self, share: Share) -> DenoisingDraws:
        """One worker's, with rows counted from its first."""
        own, rows, weight = share.own(self.rows), self.rows - share.rows.start, 1.0
        if not bool(own.any()):
            own, rows, weight = torch.arange(len(rows)) == 0, torch.zeros_like(rows), 0.0
        device = share.workers.device
        disturbance = Disturbance(self.disturbance.level[own].to(device), self.disturbance.noise[own].to(device))
        return DenoisingDraws(rows[own].to(device), disturbance, self.count, weight)


@dataclass(frozen=True)
class Draws:
    """All chance of one step. `denoising` None = no denoising loss."""

    indices: Indices
    noise: Tensor            # of z_t: [B, C, T]
    denoising: DenoisingDraws | None

    def of(self, share: Share) -> Draws:
        """One worker's rows of a batch, on its device."""
        device = share.workers.device
        t, s = (index[share.rows].to(device) for index in (self.indices.t, self.indices.s))
        denoising = None if self.denoising is None else self.denoising.of(share)
        return Draws(Indices(t, s, self.indices.solver_steps), self.noise[share.rows].to(device), denoising)


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
    count: int               # of the losses of all workers


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
    consistency_weight: float
    denoising_weight: float  # lambda included

    def means(self, share: Share) -> Tensor:
        """Both losses' means over the batch, the same for all workers: [2]."""
        denoising = self.jump.losses.new_zeros(())
        if self.denoising is not None:
            denoising = share.mean(self.denoising.losses, self.denoising.count)
        means = torch.stack([share.mean(self.jump.losses), denoising])
        share.workers.average([means])
        return means

    @property
    def total(self) -> float:
        """Eq. 9, of a batch that one worker holds whole."""
        means = self.means(ALONE.share(len(self.jump.losses)))
        return float(self.consistency_weight * means[0] + self.denoising_weight * means[1])


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
        share: Share | None = None,
    ) -> StepLosses:
        share = share or ALONE.share(len(latent))
        draws = self.draw(torch.Size((share.batch, *latent.shape[1:])), choice, noise)
        terms = self.backward_of(networks, contexts, latent, omega, levels, draws.of(share), share)
        means = terms.means(share)
        return StepLosses(float(means[0]), float(means[1]), terms.balance.weight)

    def draw(self, shape: torch.Size, choice: np.random.Generator, noise: torch.Generator) -> Draws:
        """For a whole batch of latents [B, C, T]. The DSM loss sees rows spread evenly over it."""
        settings, batch = self.settings, shape[0]
        indices = draw_indices(batch, settings, choice)
        normal = torch.randn(shape, generator=noise, device=noise.device)
        if settings.denoising_weight == 0:
            return Draws(indices, normal, None)
        count = math.ceil(settings.denoising_rows * batch)
        level = denoising_levels(
            count, self.diffusion, noise, settings.denoising_levels, settings.denoising_high_share
        )
        disturbance = Disturbance(level, torch.randn((count, *shape[1:]), generator=noise, device=noise.device))
        return Draws(indices, normal, DenoisingDraws(torch.arange(count) * batch // count, disturbance, count))

    def backward_of(
        self,
        networks: Networks,
        contexts: Contexts,
        latent: Tensor,
        omega: Tensor,
        levels: Tensor,
        draws: Draws,
        share: Share | None = None,
    ) -> Terms:
        """Leave the gradient of eq. 9 in the student's parameters, for given draws of these rows.

        Both losses are differentiated down to the network's outputs first, so that the adaptive weight costs one
        extra layer and not a second backward pass.
        """
        settings, share = self.settings, share or ALONE.share(len(latent))
        leap = self._jump(networks, contexts, latent, omega, levels, draws, share)
        if draws.denoising is None:
            torch.autograd.backward(leap.output, settings.consistency_weight * leap.slope)
            return Terms(leap, None, Balance(0.0), settings.consistency_weight, 0.0)
        goal = leap.target if settings.denoising_target is DenoisingTarget.Z_TARGET else latent
        denoising = self._denoising(networks, contexts, latent, goal, omega, draws.denoising, share)
        balance = self._balance(networks, leap, denoising, share)
        part = settings.denoising_weight * balance.weight
        torch.autograd.backward(
            [leap.output, denoising.restored], [settings.consistency_weight * leap.slope, part * denoising.slope]
        )
        return Terms(leap, denoising, balance, settings.consistency_weight, part)

    def _jump(
        self,
        networks: Networks,
        contexts: Contexts,
        latent: Tensor,
        omega: Tensor,
        levels: Tensor,
        draws: Draws,
        share: Share,
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
                settings.guidance_sigma_max,
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
            apart = output_distance(estimate, target, t, s, sigma_data, settings.latent_distance)
            losses = losses + settings.latent_weight * apart
        (slope,) = torch.autograd.grad(share.mean(losses), held)
        return Jump(noisy, solved, output, estimate.detach(), target, losses.detach(), slope)

    def _denoising(
        self,
        networks: Networks,
        contexts: Contexts,
        latent: Tensor,
        goal: Tensor,
        omega: Tensor,
        draws: DenoisingDraws,
        share: Share,
    ) -> Denoising:
        """Eq. 8 on the rows that were drawn for it; `goal` [B, C, T] unless the target is the guided denoiser."""
        sigma_data, level, rows = self.diffusion.sigma_data, draws.disturbance.level, draws.rows
        disturbed = latent[rows] + level.view(-1, 1, 1) * draws.disturbance.noise
        restored = denoise(
            networks.student, disturbed, level, level, omega[rows], chosen_rows(contexts.student, rows), sigma_data
        )
        wanted = goal[rows]
        if self.settings.denoising_target is DenoisingTarget.GUIDED:
            teacher, empty = (
                teacher_denoiser(networks.teacher, context, sigma_data)
                for context in (chosen_rows(contexts.teacher, rows), contexts.empty)
            )
            with torch.no_grad():
                wanted = guided(teacher, empty, omega[rows], self.settings.guidance_sigma_max)(disturbed, level)
        error = restored.detach() - wanted
        scaled = self.settings.denoising_scale is DenoisingScale.EDM
        weight = draws.weight * (denoising_weight(level, sigma_data) if scaled else torch.ones_like(level))
        part = share.workers.count / (draws.count * latent[0].numel())
        slope = 2 * part * weight.view(-1, 1, 1) * error
        return Denoising(disturbed, restored, weight * error.square().mean((1, 2)), slope, draws.count)

    def _balance(self, networks: Networks, leap: Jump, denoising: Denoising, share: Share) -> Balance:
        """From the whole batch's gradients, whoever holds its rows; the official code takes each process's own."""
        if not self.settings.adaptive_lambda:
            return Balance(self.settings.fixed_lambda)
        last = networks.student.get_parameter(self.settings.last_layer)
        slopes = [
            torch.autograd.grad(output, last, slope, retain_graph=True)[0]
            for output, slope in ((leap.output, leap.slope), (denoising.restored, denoising.slope))
        ]
        share.workers.average(slopes)
        return Balance(float(adaptive_weight(slopes[0], slopes[1], self.settings.lambda_max)), slopes[0], slopes[1])


def adaptive_weight(consistency: Tensor, denoising: Tensor, limit: float) -> Tensor:
    """lambda_DSM: ratio of the two losses' gradient norms at the last layer."""
    return torch.clamp(consistency.norm() / (denoising.norm() + 1e-8), 0, limit)


def chosen_rows(context: TextContext, rows: Tensor) -> TextContext:
    return TextContext(**{name: values[rows] for name, values in context.fields().items()})
