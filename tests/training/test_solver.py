"""Heun's solver against a Gaussian, whose probability flow is known in closed form."""

from __future__ import annotations

import pytest
import torch

from soundctm.spec import DiffusionSpec
from soundctm_training.distillation.distances import denoising_weight
from soundctm_training.distillation.draws import denoising_levels, grid
from soundctm_training.distillation.solver import guided, heun

DATA_STD = 0.7


def gaussian_denoiser(z: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """E[z0 | z] for z0 ~ N(0, DATA_STD**2)."""
    return z * (DATA_STD**2 / (DATA_STD**2 + level**2)).view(-1, 1, 1)


def exact_flow(z: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """dz/dt = z t / (t^2 + c^2) has the solution z sqrt((s^2 + c^2) / (t^2 + c^2))."""
    return z * ((end**2 + DATA_STD**2) / (start**2 + DATA_STD**2)).sqrt().view(-1, 1, 1)


def worst_error(points: int) -> float:
    levels = grid(points, DiffusionSpec()).double()
    z = torch.randn((3, 2, 5), generator=torch.Generator().manual_seed(0)).double() * 80
    start = torch.zeros(3, dtype=torch.long)
    solved = heun(gaussian_denoiser, z, start, points - 1, levels)
    exact = exact_flow(z, levels[start], levels[start + points - 1])
    return float((solved - exact).abs().max() / exact.abs().max())


def test_heun_solves_a_gaussian_to_second_order() -> None:
    coarse, fine = worst_error(41), worst_error(81)
    assert coarse < 1e-2
    assert 3.0 < coarse / fine < 5.5  # halving the step quarters the error


def test_every_row_starts_at_its_own_level() -> None:
    levels = grid(41, DiffusionSpec()).double()
    start = torch.tensor([0, 10, 36])
    z = torch.ones((3, 1, 1), dtype=torch.float64)
    together = heun(gaussian_denoiser, z, start, 3, levels)
    apart = [heun(gaussian_denoiser, z[i : i + 1], start[i : i + 1], 3, levels) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-12, atol=0)


def test_guidance_one_is_the_conditional_denoiser_and_zero_the_unconditional() -> None:
    z, level = torch.ones((2, 1, 3)), torch.tensor([1.0, 2.0])
    mixed = guided(lambda z, level: z + 1, lambda z, level: z - 1, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(mixed(z, level), torch.stack([z[0] + 1, z[1] - 1]))


def test_above_its_highest_level_guidance_is_the_text_alone() -> None:
    z, level = torch.ones((3, 1, 3)), torch.tensor([0.5, 2.0, 2.5])
    mixed = guided(lambda z, level: z + 1, lambda z, level: z - 1, torch.full((3,), 4.0), 2.0)
    torch.testing.assert_close(mixed(z, level), torch.stack([z[0] + 7, z[1] + 7, z[2] + 1]))


def test_what_is_not_guided_is_never_evaluated_without_text() -> None:
    seen: list[list[float]] = []

    def unconditional(z: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        seen.append(level.tolist())
        return z - level.view(-1, 1, 1)

    z, level, omega = torch.zeros((3, 1, 2)), torch.tensor([3.0, 0.5, 2.0]), torch.tensor([7.0, 2.0, 3.0])
    mixed = guided(lambda z, level: z + 1, unconditional, omega, 2.0)
    expected = torch.tensor([1.0, -0.5 + 2 * 1.5, -2.0 + 3 * 3.0]).view(3, 1, 1).expand(3, 1, 2)
    torch.testing.assert_close(mixed(z, level), expected)
    mixed(z, level + 2)
    assert seen == [[0.5, 2.0]]


def test_denoising_levels_follow_their_two_laws() -> None:
    levels = denoising_levels(20000, DiffusionSpec(), torch.Generator().manual_seed(0))
    low, high = levels[:10000].log(), levels[10000:]
    assert float(low.mean()) == pytest.approx(-1.2, abs=5 * 1.2 / 100)
    assert float(low.std()) == pytest.approx(1.2, abs=0.05)
    assert 0.318 < float(high.min()) < 0.33 and 78 < float(high.max()) <= 80


def test_denoising_weight_is_one_over_c_out_squared() -> None:
    level = torch.tensor([0.5])
    assert float(denoising_weight(level, 0.5)) == pytest.approx(8.0)
