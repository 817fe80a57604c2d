"""The teacher's probability-flow ODE: Heun's second-order steps (Karras et al. 2022, algorithm 1) under guidance."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from soundctm_training.distillation.settings import GuidanceMix

Denoiser = Callable[[Tensor, Tensor], Tensor]  # z [B, C, T], levels [B] -> denoised [B, C, T]


def guided(conditional: Denoiser, unconditional: Denoiser, omega: Tensor, highest: float | None = None) -> Denoiser:
    """D = D_empty + omega (D_text - D_empty), omega [B]: guidance inside every evaluation, as in the official code.

    Above the level `highest` it is D_text (guidance in a limited interval, Kynkäänniemi et al. 2024), and
    `unconditional` never sees these rows; None: never.
    """
    top = math.inf if highest is None else highest

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        text = conditional(z, level)
        (rows,) = torch.where(level <= top)
        if len(rows) == 0:
            return text
        empty = unconditional(z[rows], level[rows])
        return text.index_copy(0, rows, empty + omega[rows].view(-1, 1, 1) * (text[rows] - empty))

    return denoise


def heun(denoise: Denoiser, z: Tensor, start: Tensor, steps: int, levels: Tensor) -> Tensor:
    """`steps` Heun steps along `levels` [N] from index `start` [B] to start + steps: z [B, C, T] -> [B, C, T].

    Two evaluations per step, also on the last one: the grid ends at sigma_min, not at 0.
    """
    for step in range(steps):
        here, there = levels[start + step], levels[start + step + 1]
        t, change = here.view(-1, 1, 1), (there - here).view(-1, 1, 1)
        slope = (z - denoise(z, here)) / t
        ahead = z + change * slope
        slope_ahead = (ahead - denoise(ahead, there)) / there.view(-1, 1, 1)
        z = z + change * 0.5 * (slope + slope_ahead)
    return z


def guided_heun(
    conditional: Denoiser,
    unconditional: Denoiser,
    omega: Tensor,
    mix: GuidanceMix,
    z: Tensor,
    start: Tensor,
    steps: int,
    levels: Tensor,
    highest: float | None = None,
) -> Tensor:
    """The teacher's guided solution, mixed where `mix` says; omega [B]: z [B, C, T] -> [B, C, T].

    `highest`, where denoisers are mixed: the level up to which they are (`guided`).

    `SOLUTIONS` is the paper's Solver (section 3.2): omega Solver(text) + (1 - omega) Solver(empty).
    """
    if mix is GuidanceMix.DENOISERS:
        return heun(guided(conditional, unconditional, omega, highest), z, start, steps, levels)
    text, empty = (heun(denoise, z, start, steps, levels) for denoise in (conditional, unconditional))
    return empty + omega.view(-1, 1, 1) * (text - empty)
