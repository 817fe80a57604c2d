"""The options of consistency trajectory distillation: laws of the draws, and what each option does to a step."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from small_training import CONFIG, LENGTHS
from soundctm.networks.dit import DiT
from soundctm.spec import DiffusionSpec
from soundctm_training.config import ConfigError, build
from soundctm_training.distillation.cd import Cd
from soundctm_training.distillation.ctm import Ctm, Terms
from soundctm_training.distillation.distances import pseudo_huber
from soundctm_training.distillation.draws import denoising_levels, draw_indices, draw_omega, grid
from soundctm_training.distillation.lcd import Lcd
from soundctm_training.distillation.methods import make_method
from soundctm_training.distillation.settings import (
    DenoisingLevels,
    DenoisingScale,
    DenoisingTarget,
    Distance,
    Distillation,
    DistillationError,
    FeatureNorm,
    FeatureReduction,
    FeatureWiring,
    GuidanceMix,
    MatchPoint,
    MethodName,
    OutputDistance,
    huber_constant,
    official_settings,
    paper_settings,
)
from soundctm_training.distillation.solver import guided_heun
from soundctm_training.distillation.values import Contexts, Networks

PLAIN = dataclasses.replace(CONFIG.distillation, latent_weight=0.0, denoising_rows=1.0)
ROWS = 4


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Three different networks without a zero in them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [DiT(CONFIG.network) for _ in range(3)]
        for network in made:
            for parameter in network.parameters():
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    student, target, teacher = made
    return Networks(student, target.requires_grad_(False), teacher.requires_grad_(False))


def step(
    networks: Networks, settings: Distillation, omega: Tensor | None = None, **changes: Any
) -> tuple[Terms, Tensor]:
    """One step with the same draws whatever the settings; its terms and the gradient of all parameters in one."""
    settings = dataclasses.replace(settings, **changes)
    generator = torch.Generator().manual_seed(1)
    latent = 0.5 * torch.randn((ROWS, 6, 8), generator=generator)
    tokens = torch.randn((ROWS, 4, 16), generator=generator)
    empty = torch.zeros((1, 4, 16))
    made = Ctm(settings, CONFIG.diffusion)
    draws = made.draw(latent.shape, np.random.default_rng(2), torch.Generator().manual_seed(3))
    networks.student.zero_grad()
    contexts = Contexts(
        networks.student.encode_context(tokens), networks.target.encode_context(tokens),
        networks.teacher.encode_context(tokens), networks.teacher.encode_context(empty),
    )  # fmt: skip
    omega = torch.linspace(1.5, 4.0, ROWS) if omega is None else omega
    levels = grid(settings.grid_points, CONFIG.diffusion)
    terms = made.backward_of(networks, contexts, latent, omega, levels, draws)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in networks.student.parameters()]
    return terms, torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize(
    "change",
    [
        {"feature_wiring": FeatureWiring.PARALLEL},
        {"feature_norm": FeatureNorm.SEQUENCE},
        {"guidance_mix": GuidanceMix.SOLUTIONS, "solver_steps": (0.0, 1.0)},
        {"guidance_sigma_max": 0.5},
        {"match_point": MatchPoint.ZERO},
        {"distance": Distance.L2},
        {"distance": Distance.L1},
        {"distance": Distance.PSEUDO_HUBER},
        {"denoising_target": DenoisingTarget.Z_TARGET},
        {"denoising_target": DenoisingTarget.GUIDED},
        {"denoising_scale": DenoisingScale.NONE},
        {"denoising_levels": DenoisingLevels.BY_CHANCE},
        {"denoising_high_share": 0.2},
        {"denoising_rows": 0.5},
        {"denoising_weight": 0.3},
        {"consistency_weight": 2.0},
        {"latent_weight": 1.0},
        {"latent_weight": 1.0, "latent_distance": OutputDistance.PSEUDO_HUBER},
        {"adaptive_lambda": False},
        {"adaptive_lambda": False, "fixed_lambda": 5.0},
        {"last_layer": "transformer.layers.1.ff.ff.2.weight"},
        {"lambda_max": 1e-6},
    ],
    ids=lambda change: ",".join(f"{name}={getattr(value, 'value', value)}" for name, value in change.items()),
)
def test_every_option_changes_the_gradient(change: dict[str, Any], networks: Networks) -> None:
    base = {name: change[name] for name in ("solver_steps", "latent_weight") if name in change and len(change) > 1}
    plain, changed = step(networks, PLAIN, **base)[1], step(networks, PLAIN, **change)[1]
    assert bool(changed.isfinite().all())
    assert float((changed - plain).norm() / plain.norm()) > 1e-3


def test_the_guided_denoising_target_is_the_teachers_mixture(networks: Networks) -> None:
    """A student that is the teacher and knows no omega yet has nothing to learn where omega is 1, and only there."""
    student = DiT(CONFIG.network)
    student.load_state_dict(networks.teacher.state_dict())
    for last in (student.to_s_embed[2], student.to_omega_embed[2]):
        for parameter in last.parameters():
            torch.nn.init.zeros_(parameter)
    same = Networks(student, networks.target, networks.teacher)
    losses = {}
    for omega in (1.0, 3.0):
        terms, _ = step(same, PLAIN, omega=torch.full((ROWS,), omega), denoising_target=DenoisingTarget.GUIDED)
        assert terms.denoising is not None
        losses[omega] = terms.denoising.losses
    torch.testing.assert_close(losses[1.0], torch.zeros(ROWS), rtol=0, atol=1e-8)
    assert float(losses[3.0].min()) > 1e-4


def test_a_mean_of_features_is_their_sum_over_channels_divided_by_their_number(networks: Networks) -> None:
    whole, _ = step(networks, PLAIN)
    mean, _ = step(networks, PLAIN, feature_reduction=FeatureReduction.MEAN)
    torch.testing.assert_close(whole.jump.losses, CONFIG.network.embed_dim * mean.jump.losses)


def test_lambda_does_not_depend_on_the_weights_in_the_total(networks: Networks) -> None:
    plain, weighted = step(networks, PLAIN)[0], step(networks, PLAIN, consistency_weight=3.0, denoising_weight=0.1)[0]
    assert weighted.balance.weight == pytest.approx(plain.balance.weight)
    assert plain.denoising is not None and weighted.denoising is not None
    expected = 3 * plain.jump.losses.mean() + 0.1 * plain.balance.weight * plain.denoising.losses.mean()
    assert weighted.total == pytest.approx(float(expected), rel=1e-5)


def test_without_a_denoising_weight_there_is_no_denoising(networks: Networks) -> None:
    terms, gradient = step(networks, PLAIN, denoising_weight=0.0)
    assert terms.denoising is None and terms.balance.weight == 0.0
    assert float(gradient.norm()) > 0


def test_both_readings_make_a_step(networks: Networks) -> None:
    small = {"grid_points": 8, "last_layer": "postprocess_conv.weight"}
    for settings in (official_settings(LENGTHS, **small), paper_settings(LENGTHS, **small)):
        assert bool(step(networks, settings)[1].isfinite().all())


def test_mixed_solutions_are_the_papers_sum() -> None:
    """Two linear denoisers: each solver alone, then omega of one and 1 - omega of the other."""
    levels, z = grid(9, DiffusionSpec()), torch.randn((2, 1, 3), generator=torch.Generator().manual_seed(0))
    omega, start = torch.tensor([0.5, 3.0]), torch.tensor([0, 4])
    text, empty = (lambda z, level, c=c: c * z / (1 + level.view(-1, 1, 1)) for c in (0.2, 0.7))
    found = guided_heun(text, empty, omega, GuidanceMix.SOLUTIONS, z, start, 3, levels)
    ones, zeros = torch.ones(2), torch.zeros(2)
    alone = [guided_heun(text, empty, w, GuidanceMix.DENOISERS, z, start, 3, levels) for w in (ones, zeros)]
    torch.testing.assert_close(found, omega.view(-1, 1, 1) * alone[0] + (1 - omega.view(-1, 1, 1)) * alone[1])


def test_official_draws_follow_their_laws() -> None:
    """P(k) = k / 780; t uniform over 0 .. 39-k; s uniform over u .. 39: means within five standard errors."""
    settings, generator = official_settings(LENGTHS), np.random.default_rng(0)
    draws = [draw_indices(8, settings, generator) for _ in range(4000)]
    steps = np.array([draw.solver_steps for draw in draws])
    assert steps.min() >= 1 and steps.max() == 39
    deviation = math.sqrt(sum(k**3 for k in range(1, 40)) / 780 - (79 / 3) ** 2)
    assert steps.mean() == pytest.approx(79 / 3, abs=5 * deviation / math.sqrt(len(steps)))
    room = [(draw, 39 - draw.solver_steps) for draw in draws if draw.solver_steps < 39]
    shares = np.concatenate([draw.t.numpy() / most for draw, most in room])
    assert shares.mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(shares)))
    open_ends = np.concatenate([((d.s - d.u) / (39 - d.u)).numpy()[(d.u < 39).numpy()] for d, _ in room])
    assert open_ends.mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(open_ends)))
    omega = draw_omega(4000, settings, generator)
    assert 1 <= float(omega.min()) < 1.05 and 9.95 < float(omega.max()) <= 10


def test_a_large_power_takes_more_steps() -> None:
    means = []
    for power in (0.0, 4.0):
        settings, generator = official_settings(LENGTHS, solver_steps_power=power), np.random.default_rng(0)
        means.append(np.mean([draw_indices(1, settings, generator).solver_steps for _ in range(500)]))
    assert means[0] == pytest.approx(20, abs=3) and means[1] > 30


def test_levels_by_chance_follow_the_same_two_laws_at_any_place_of_the_batch() -> None:
    draw = torch.Generator().manual_seed(0)
    levels = denoising_levels(20000, DiffusionSpec(), draw, DenoisingLevels.BY_CHANCE)
    for half in levels.chunk(2):
        # no level of the upper law is below 0.318; of the lower law P(ln sigma < -1.145) = 0.518
        assert float((half < 0.318).float().mean()) == pytest.approx(0.259, abs=0.025)
    position = denoising_levels(20000, DiffusionSpec(), draw)
    assert float(levels.log().mean()) == pytest.approx(float(position.log().mean()), abs=0.1)


def test_pseudo_huber_takes_its_constant_from_the_latent_unless_it_is_given(networks: Networks) -> None:
    plain, _ = step(networks, PLAIN, distance=Distance.PSEUDO_HUBER)
    found = pseudo_huber(plain.jump.estimate, plain.jump.target, huber_constant(6 * 8))
    torch.testing.assert_close(plain.jump.losses, found)
    assert official_settings(LENGTHS).huber_c == pytest.approx(0.00054 * math.sqrt(8 * 16 * 256))


def test_at_zero_the_estimate_lies_where_the_target_network_takes_it(networks: Networks) -> None:
    at_s, at_zero = step(networks, PLAIN)[0], step(networks, PLAIN, match_point=MatchPoint.ZERO)[0]
    torch.testing.assert_close(at_s.jump.output, at_zero.jump.output)
    assert not torch.allclose(at_s.jump.estimate, at_zero.jump.estimate)
    assert torch.equal(at_s.jump.output.detach(), at_s.jump.estimate)


def test_the_method_is_chosen_by_name() -> None:
    kinds = {MethodName.CTM: Ctm, MethodName.LCD: Lcd, MethodName.CD: Cd}
    for name, kind in kinds.items():
        assert isinstance(make_method(dataclasses.replace(PLAIN, method=name), CONFIG.diffusion), kind)


def test_options_are_read_from_a_table_by_their_words() -> None:
    table = {
        "learning_rate": 1e-4, "warmup_steps": 0, "grid_points": 8, "omega_min": 1.0, "omega_max": 2.0,
        "target_ema": 0.9, "final_ema": 0.9, "method": "lcd", "match_point": "zero", "distance": "pseudo_huber",
        "huber_c": 0.1, "lcd": {"skip_steps": 3, "solver": "heun"},
        "lengths": {"frames": [8], "shares": [1.0], "batch_frames": 32, "odd_share": 0.0},
    }  # fmt: skip
    settings = build(Distillation, table, "test")
    assert settings.method is MethodName.LCD and settings.lcd.skip_steps == 3
    assert settings.match_point is MatchPoint.ZERO and settings.huber_c == 0.1
    with pytest.raises(ConfigError, match="did you mean 'pseudo_huber'"):
        build(Distillation, table | {"distance": "pseudohuber"}, "test")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"solver_steps": (0.5, 0.4)}, "solver_steps"),
        ({"solver_steps": ()}, "solver_steps"),
        ({"solver_steps": (0.1,) * 10}, "grid of 8 points"),
        ({"omega_max": 0.5}, "omega_max"),
        ({"end_s": 0.8, "next_s": 0.3}, "end_s"),
        ({"denoising_rows": 1.5}, "denoising_rows"),
        ({"denoising_rows": 0.0}, "denoising_weight to 0"),
        ({"target_ema": math.nan}, "target_ema"),
        ({"match_point": MatchPoint.ZERO, "latent_weight": 1.0}, "latent_weight"),
        ({"grid_points": 1}, "grid_points"),
        ({"lambda_max": -1.0}, "lambda_max"),
        ({"guidance_sigma_max": -1.0}, "guidance_sigma_max"),
        ({"guidance_sigma_max": 5.0, "guidance_mix": GuidanceMix.SOLUTIONS}, "guidance_mix to 'denoisers'"),
    ],
)
def test_values_that_do_not_fit_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(DistillationError, match=named):
        dataclasses.replace(PLAIN, **change)


def test_draws_of_a_grid_of_three_points_stay_inside_it() -> None:
    settings = dataclasses.replace(PLAIN, grid_points=3, solver_steps=(0.0, 1.0), top_t=1.0)
    draw = draw_indices(50, settings, np.random.default_rng(0))
    assert bool((draw.t == 0).all() and (draw.s == 2).all())
