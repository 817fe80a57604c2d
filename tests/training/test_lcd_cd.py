"""The two baselines, against a Gaussian whose guided trajectories and consistency function are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_training import CONFIG
from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.preconditioning import c_in, c_out, c_skip
from soundctm.schedule import karras_sigmas
from soundctm.spec import DiffusionSpec
from soundctm_training.config import ConfigError, build
from soundctm_training.distillation.cd import Cd, draw_neighbours, snr_weight
from soundctm_training.distillation.consistency import Step, consistency_target
from soundctm_training.distillation.distances import pseudo_huber
from soundctm_training.distillation.lcd import LEAPS, Lcd, draw_leap
from soundctm_training.distillation.methods import make_method
from soundctm_training.distillation.settings import CdSettings, Distillation, LcdSettings, LeapSolver
from soundctm_training.distillation.solver import heun
from soundctm_training.distillation.values import Contexts, Networks

DIFFUSION = DiffusionSpec()
SIGMA_DATA = DIFFUSION.sigma_data
MEAN_TEXT, MEAN_EMPTY = 0.4, -0.2
OMEGA = torch.tensor([1.0, 2.5, 4.0], dtype=torch.float64)
ROWS, SHAPE = 3, (3, 2, 5)


def rows(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)


class GaussianTeacher(nn.Module):
    """F of the exact denoiser of N(mean, std^2); the context's `pooled` is the mean."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(
        self, x: Tensor, c_noise_t: Tensor, c_noise_s: Tensor | None, omega: Tensor | None, context: TextContext
    ) -> Tensor:
        t = (4 * c_noise_t).exp()
        z, mean = x / rows(c_in(t, SIGMA_DATA)), context.pooled
        denoised = (self.std**2 * z + rows(t**2) * mean) / rows(self.std**2 + t**2)
        return (denoised - rows(c_skip(t, SIGMA_DATA)) * z) / rows(c_out(t, SIGMA_DATA))


class GaussianStudent(nn.Module):
    """F of the exact jump along the guided flow, plus `shift`; `constant` and `pooled` are the two means."""

    def __init__(self, std: float, shift: float = 0.0) -> None:
        super().__init__()
        self.std, self.shift = std, nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(
        self, x: Tensor, c_noise_t: Tensor, c_noise_s: Tensor, omega: Tensor, context: TextContext
    ) -> Tensor:
        t, s = (4 * c_noise_t).exp(), (4 * c_noise_s).exp()
        z = x / rows(c_in(t, SIGMA_DATA))
        ratio = rows(s / t)
        still = (ratio - 1).abs() < 1e-9  # G is z there, whatever the network says
        whole = (exact_jump(z, t, s, omega, self.std) - ratio * z) / torch.where(still, 1.0, 1 - ratio)
        return (whole - rows(c_skip(t, SIGMA_DATA)) * z) / rows(c_out(t, SIGMA_DATA)) + self.shift


def exact_jump(z: Tensor, t: Tensor, s: Tensor, omega: Tensor, std: float) -> Tensor:
    """dz/dt = (z - D)/t for a Gaussian: the distance to its mean shrinks like sqrt(std^2 + t^2)."""
    mean = rows(MEAN_EMPTY + omega * (MEAN_TEXT - MEAN_EMPTY))
    return mean + rows(((std**2 + s**2) / (std**2 + t**2)).sqrt()) * (z - mean)


def gaussian(std: float, shift: float = 0.0) -> Networks:
    networks = GaussianStudent(std, shift), GaussianStudent(std).requires_grad_(False), GaussianTeacher(std)
    return Networks(*networks)  # type: ignore[arg-type]


def contexts(rows: int = ROWS) -> Contexts:
    text, empty = (torch.full((rows, 1, 1), mean, dtype=torch.float64) for mean in (MEAN_TEXT, MEAN_EMPTY))
    both = TextContext(constant=text, pooled=empty)
    return Contexts(student=both, target=both, teacher=TextContext(pooled=text), empty=TextContext(pooled=empty[:1]))


def latent(seed: int = 0, rows: int = ROWS) -> Tensor:
    return torch.randn((rows, *SHAPE[1:]), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels(points: int) -> Tensor:
    return torch.from_numpy(karras_sigmas(points, DIFFUSION))


def generators() -> tuple[np.random.Generator, torch.Generator]:
    return np.random.default_rng(0), torch.Generator().manual_seed(0)


def target_error(method: str, steps: int) -> float:
    """Of one of `steps` equal steps, from three levels (0, 3/8 and 3/4 of the way) that do not depend on `steps`."""
    skip = 1 if method == "cd" else 5
    noise_levels = levels(steps * skip + 1)
    start = torch.tensor([0, 3 * steps // 8, 3 * steps // 4]) * skip
    step = Step(start, start + skip)
    noisy = latent() * rows(noise_levels[start])
    solve = {
        "cd": lambda teacher, z: heun(teacher, z, start, 1, noise_levels),
        "lcd, ddim": lambda teacher, z: LEAPS[LeapSolver.DDIM](teacher, z, noise_levels[start], noise_levels[step.end]),
        "lcd, heun": lambda teacher, z: LEAPS[LeapSolver.HEUN](teacher, z, noise_levels[start], noise_levels[step.end]),
    }[method]
    found = consistency_target(gaussian(0.5), contexts(), noisy, step, OMEGA, noise_levels, solve, SIGMA_DATA)
    bottom = noise_levels[-1].expand(ROWS)
    return float((found - exact_jump(noisy, noise_levels[start], bottom, OMEGA, 0.5)).abs().max())


@pytest.mark.parametrize(("method", "order"), [("cd", 3), ("lcd, heun", 3), ("lcd, ddim", 2)])
def test_the_target_is_the_end_of_the_guided_trajectory_to_the_solvers_accuracy(method: str, order: int) -> None:
    """One step of a solver of order p errs by h^(p+1): half the step, 2^(p+1) times less."""
    coarse, fine = target_error(method, 160), target_error(method, 320)
    assert fine < 0.01
    assert 2**order * 0.75 < coarse / fine < 2**order * 1.33


def method(name: str) -> Lcd | Cd:
    return Lcd(LcdSettings(), DIFFUSION) if name == "lcd" else Cd(CdSettings(), DIFFUSION)


@pytest.mark.parametrize("name", ["lcd", "cd"])
def test_a_consistent_student_of_a_teacher_with_straight_trajectories_has_no_loss(name: str) -> None:
    """Data in one point: trajectories are lines, which any solver follows exactly."""
    networks = gaussian(std=0.0)
    losses = method(name).backward(networks, contexts(), latent(), OMEGA, levels(18), *generators())
    assert abs(losses.consistency) < 1e-12
    assert float(networks.student.get_parameter("shift").grad.abs()) < 1e-7
    assert (losses.denoising, losses.weight) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["lcd", "cd"])
def test_an_inconsistent_student_has_a_loss_whose_gradient_leads_back(name: str) -> None:
    for shift in (-0.3, 0.3):
        networks = gaussian(std=0.5, shift=shift)
        losses = method(name).backward(networks, contexts(), latent(), OMEGA, levels(161), *generators())
        assert losses.consistency > 1e-3
        assert float(networks.student.get_parameter("shift").grad) * shift > 0


def test_at_the_lowest_level_the_target_is_the_solution_itself() -> None:
    noise_levels = levels(18)
    step, noisy = Step(torch.full((ROWS,), 16), torch.full((ROWS,), 17)), latent()
    networks = gaussian(0.5)
    networks.target.get_parameter("shift").fill_(100.0)
    found = consistency_target(
        networks, contexts(), noisy, step, OMEGA, noise_levels, lambda teacher, z: z + 1, SIGMA_DATA
    )
    torch.testing.assert_close(found, noisy + 1, rtol=0, atol=1e-12)


def small_networks() -> Networks:
    """Three DiTs of random weights: zero-initialised ones would answer nothing."""
    assert CONFIG.network is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [DiT(CONFIG.network) for _ in range(3)]
        for network in networks:
            for parameter in network.parameters():
                nn.init.normal_(parameter, std=0.05)
    return Networks(networks[0], networks[1].requires_grad_(False), networks[2].requires_grad_(False))


@pytest.mark.parametrize("name", ["lcd", "cd"])
def test_gradients_are_finite_and_only_in_the_student(name: str) -> None:
    networks, noise = small_networks(), torch.Generator().manual_seed(1)
    tokens, masks = torch.randn((2, ROWS, 4, 16), generator=noise), torch.ones((ROWS, 4), dtype=torch.bool)
    encoded = Contexts(
        networks.student.encode_context(tokens[0], masks), networks.target.encode_context(tokens[0], masks),
        networks.teacher.encode_context(tokens[0], masks), networks.teacher.encode_context(tokens[1, :1], masks[:1]),
    )
    clips, omega = torch.randn((ROWS, 6, 8), generator=noise), torch.tensor([1.0, 2.5, 4.0])
    losses = method(name).backward(networks, encoded, clips, omega, levels(18).float(), *generators())
    assert np.isfinite(losses.consistency) and losses.consistency > 0
    for parameter in networks.student.parameters():
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all())
    for part in ("to_s_embed", "to_omega_embed", "transformer", "preprocess_conv"):
        slopes = [p.grad for p in networks.student.get_submodule(part).parameters() if p.grad is not None]
        assert any(float(slope.abs().max()) > 0 for slope in slopes), part
    assert all(p.grad is None for network in (networks.target, networks.teacher) for p in network.parameters())


def test_every_point_but_the_lowest_starts_a_leap_and_none_passes_the_lowest() -> None:
    leaps = draw_leap(4000, 5, 40, np.random.default_rng(0))
    assert set(leaps.start.tolist()) == set(range(39))
    assert torch.equal(leaps.end, (leaps.start + 5).clamp(max=39))
    neighbours = draw_neighbours(4000, 18, np.random.default_rng(0))
    assert set(neighbours.start.tolist()) == set(range(17))
    assert torch.equal(neighbours.end, neighbours.start + 1)


def test_snr_weights_are_cut_at_both_ends() -> None:
    weights = snr_weight(torch.tensor([80.0, 0.5, 0.25, 0.002]), 0.5, CdSettings())
    torch.testing.assert_close(weights, torch.tensor([14.6146**-2, 1.0, 4.0, 5.0]), rtol=1e-3, atol=0)


def test_pseudo_huber_is_absolute_far_out_and_square_close_in() -> None:
    zero = torch.zeros((1, 1, 1), dtype=torch.float64)
    assert float(pseudo_huber(zero + 1.0, zero, 1e-3)) == pytest.approx(1.0, abs=1e-3)
    assert float(pseudo_huber(zero + 1e-5, zero, 1e-3)) == pytest.approx(1e-10 / 2e-3, rel=1e-3)


TABLE = {
    "learning_rate": 1e-3, "warmup_steps": 1, "grid_points": 18, "omega_min": 1.0, "omega_max": 4.0,
    "target_ema": 0.95, "final_ema": 0.99,
    "lengths": {"frames": [8], "shares": [1.0], "batch_frames": 16, "odd_share": 0.0},
}  # fmt: skip


def test_a_configuration_chooses_the_method_and_its_options() -> None:
    settings = build(Distillation, {**TABLE, "method": "lcd", "lcd": {"skip_steps": 3, "solver": "heun"}}, "a.toml")
    lcd = make_method(settings, DIFFUSION)
    assert isinstance(lcd, Lcd)
    assert lcd.settings == LcdSettings(skip_steps=3, solver=LeapSolver.HEUN)
    assert isinstance(make_method(build(Distillation, {**TABLE, "method": "cd"}, "a.toml"), DIFFUSION), Cd)


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"method is 'lcm'.*did you mean 'lcd'.*allowed: ctm, lcd, cd"):
        build(Distillation, {**TABLE, "method": "lcm"}, "a.toml")
