"""From a network to clips of the bench: a student's jumps, or a teacher's Heun steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from soundctm.networks.dit import DiT
from soundctm.networks.preconditioning import jump
from soundctm.noise import Stream
from soundctm.plan import Jump, make_plan
from soundctm.sampling import guided, run_plan
from soundctm.schedule import karras_sigmas
from soundctm_training.distillation.solver import Denoiser, heun
from soundctm_training.distillation.solver import guided as guided_denoiser
from soundctm_training.evaluation.bench import Bench, Takes
from soundctm_training.teacher import teacher_denoiser


@dataclass(frozen=True)
class Setting:
    """How clips are sampled. Of a teacher `steps` are Heun steps, and gamma and nu mean nothing."""

    steps: int = 1
    omega: float = 3.0
    nu: float = 1.0
    gamma: float = 0.0


Sampler = Callable[[range, Setting], Tensor]  # trials and how -> latents [rows, C, T]


def student_sampler(network: DiT, bench: Bench) -> Sampler:
    """Jumps along the plan of a setting, as the daemon takes them."""
    device = next(network.parameters()).device
    sigma_data = bench.diffusion.sigma_data

    @torch.inference_mode()
    def sample(rows: range, setting: Setting) -> Tensor:
        omega = torch.full((len(rows),), setting.omega, device=device)

        def leap(texts: tuple[Tensor, Tensor]) -> Callable[[Tensor, Jump], Tensor]:
            context = network.encode_context(*(part.to(device) for part in texts))

            def one(z: Tensor, step: Jump) -> Tensor:
                t, s = (torch.full((len(rows),), level, device=device) for level in (step.t, step.s))
                return jump(network, z, t, s, omega, context, sigma_data)

            return one

        def noise(index: int) -> Tensor:
            return bench.normals(rows, Stream.STEP, index, (bench.channels, bench.frames)).to(device)

        conditional = leap(bench.texts(rows))
        unconditional = conditional if setting.nu == 1.0 else leap(bench.no_texts(rows))
        plan = make_plan(setting.steps, setting.gamma, bench.diffusion)
        return run_plan(guided(conditional, unconditional, setting.nu), bench.start(rows).to(device), plan, noise)

    return sample


def teacher_sampler(network: DiT, bench: Bench) -> Sampler:
    """Heun's steps of the teacher's ODE under guidance omega, from sigma_max to sigma_min."""
    device = next(network.parameters()).device
    sigma_data = bench.diffusion.sigma_data

    def denoiser(texts: tuple[Tensor, Tensor]) -> Denoiser:
        tokens, masks = (part.to(device) for part in texts)
        return teacher_denoiser(network, network.encode_context(tokens, masks, general=True), sigma_data)

    @torch.inference_mode()
    def sample(rows: range, setting: Setting) -> Tensor:
        omega = torch.full((len(rows),), setting.omega, device=device)
        denoise = guided_denoiser(denoiser(bench.texts(rows)), denoiser(bench.no_texts(rows)), omega)
        first = torch.zeros(len(rows), dtype=torch.long, device=device)
        levels = torch.from_numpy(karras_sigmas(setting.steps + 1, bench.diffusion)).float().to(device)
        return heun(denoise, bench.start(rows).to(device), first, setting.steps, levels)

    return sample


def draw(sampler: Sampler, bench: Bench, setting: Setting) -> Takes:
    """One clip of every trial. Raises MetricError where the network gives values that are not finite."""
    latents = torch.cat([sampler(rows, setting) for rows in bench.batches()])
    return bench.takes(bench.decode(latents))
