"""Plans and the jump loop, on data whose answer is known: for N(0, sd^2) the ideal jump is a scaling.

The probability-flow ODE keeps z / sqrt(t^2 + sd^2), so G(z, t, s) = z sqrt((s^2 + sd^2) / (t^2 + sd^2)).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from soundctm.plan import Jump, Plan, make_plan
from soundctm.sampling import Cursor, guided, run_plan
from soundctm.schedule import karras_sigmas
from soundctm.spec import DiffusionSpec

DIFFUSION = DiffusionSpec()
SD = DIFFUSION.sigma_data
Array = NDArray[Any]


def level(sigma: float) -> float:
    """Standard deviation of noisy data at a noise level."""
    return math.sqrt(sigma**2 + SD**2)


def ideal_jump(z: Array, jump: Jump) -> Array:
    return z * (level(jump.s) / level(jump.t))


def start(count: int) -> tuple[Array, np.random.Generator]:
    random = np.random.Generator(np.random.Philox(1))
    return random.standard_normal(count) * level(DIFFUSION.sigma_max), random


@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_deterministic_jumps_compose_to_the_single_jump(steps: int) -> None:
    z, _ = start(100)
    plan = make_plan(steps, 0.0, DIFFUSION)
    found = run_plan(ideal_jump, z, plan, _no_noise)
    np.testing.assert_allclose(found, z * level(DIFFUSION.sigma_min) / level(DIFFUSION.sigma_max), rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("steps", [2, 5])
def test_stochastic_sampling_keeps_the_law_at_every_level(gamma: float, steps: int) -> None:
    """After every jump but the last the state is N(0, s^2 + sd^2); its memory of the start is the product of jumps."""
    z, random = start(200_000)
    plan = make_plan(steps, gamma, DIFFUSION)
    grid = karras_sigmas(steps + 1, DIFFUSION)
    states: list[Array] = []
    run_plan(ideal_jump, z, plan, lambda _: random.standard_normal(z.size), lambda done, state: states.append(state))
    memory = 1.0
    for state, jump, s_next in zip(states, plan, grid[1:], strict=True):
        memory *= level(jump.s) / level(jump.t)
        # five standard deviations of a variance from 200 000 draws
        assert abs(state.var() / level(s_next) ** 2 - 1) < 5 * math.sqrt(2 / z.size)
        expected = memory * level(DIFFUSION.sigma_max) / level(s_next)
        assert abs(np.corrcoef(z, state)[0, 1] - expected) < 5 / math.sqrt(z.size)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_plan_starts_at_sigma_max_ends_at_sigma_min_and_adds_nothing_last(gamma: float, steps: int) -> None:
    plan = make_plan(steps, gamma, DIFFUSION)
    assert len(plan) == steps
    assert plan[0].t == pytest.approx(DIFFUSION.sigma_max, rel=1e-12)
    assert plan[-1].s == pytest.approx(DIFFUSION.sigma_min, rel=1e-9) and plan[-1].noise_std == 0.0
    for before, after in itertools.pairwise(plan):
        assert math.hypot(before.s, before.noise_std) == pytest.approx(after.t, rel=1e-12)
        assert before.s >= DIFFUSION.sigma_min * (1 - 1e-12)


def test_gamma_zero_draws_no_noise_and_gamma_one_always_jumps_to_the_end() -> None:
    assert all(jump.noise_std == 0.0 for jump in make_plan(8, 0.0, DIFFUSION))
    ends = [jump.s for jump in make_plan(8, 1.0, DIFFUSION)]
    assert ends == pytest.approx([DIFFUSION.sigma_min] * 8, rel=1e-9)


@pytest.mark.parametrize("gamma", [5e-324, 1e-300, 1e-9, 1e-8])
def test_a_minute_gamma_is_next_to_none(gamma: float) -> None:
    for steps in range(2, 101):
        for jump, plain in zip(make_plan(steps, gamma, DIFFUSION), make_plan(steps, 0.0, DIFFUSION), strict=True):
            assert 0.0 <= jump.noise_std <= 1e-7 * plain.s
            assert jump.s == pytest.approx(plain.s, rel=1e-12)


@pytest.mark.parametrize(("steps", "gamma"), [(0, 0.0), (1, -0.1), (1, 1.1), (1, math.nan)])
def test_plans_out_of_range_are_refused(steps: int, gamma: float) -> None:
    with pytest.raises(ValueError, match="allowed"):
        make_plan(steps, gamma, DIFFUSION)


class Counter:
    """A jump that scales, and counts its calls."""

    def __init__(self, factor: float) -> None:
        self.factor, self.calls = factor, 0

    def __call__(self, z: Array, jump: Jump) -> Array:
        self.calls += 1
        return z * self.factor


def test_nu_one_runs_no_unconditional_jump() -> None:
    conditional, unconditional = Counter(0.5), Counter(0.25)
    plan: Plan = make_plan(4, 0.0, DIFFUSION)
    found = run_plan(guided(conditional, unconditional, 1.0), np.ones(1), plan, _no_noise)
    assert (conditional.calls, unconditional.calls) == (4, 0)
    assert found == 0.5**4


@pytest.mark.parametrize("nu", [0.0, 0.999, 2.0])
def test_other_nu_mix_the_two_jumps(nu: float) -> None:
    """Equation 10: unconditional + nu (conditional - unconditional)."""
    conditional, unconditional = Counter(0.5), Counter(0.25)
    found = run_plan(guided(conditional, unconditional, nu), np.ones(1), make_plan(1, 0.0, DIFFUSION), _no_noise)
    assert found == pytest.approx(0.25 + nu * 0.25)
    assert (conditional.calls, unconditional.calls) == (1, 1)


def test_noise_is_asked_for_by_the_index_of_its_jump() -> None:
    asked: list[int] = []

    def step_noise(index: int) -> Array:
        asked.append(index)
        return np.zeros(1)

    run_plan(ideal_jump, np.ones(1), make_plan(4, 0.5, DIFFUSION), step_noise)
    assert asked == [0, 1, 2]


def test_a_cursor_moves_by_one_jump_and_stays_as_it_was() -> None:
    """So a step that failed can be made again."""
    start_cursor = Cursor(make_plan(2, 0.5, DIFFUSION), np.ones(3))
    first = start_cursor.landed(np.zeros(3), lambda index: np.full(3, float(index + 1)))
    assert (start_cursor.done, first.done, first.finished) == (0, 1, False)
    np.testing.assert_allclose(first.z, first.plan[0].noise_std)
    last = first.landed(np.zeros(3), _no_noise)
    assert last.finished and start_cursor.z.sum() == 3
    with pytest.raises(IndexError):
        last.jump  # noqa: B018


def test_a_report_may_stop_the_run() -> None:
    def stop(done: int, z: Array) -> None:
        raise KeyboardInterrupt

    jump = Counter(1.0)
    with pytest.raises(KeyboardInterrupt):
        run_plan(jump, np.ones(1), make_plan(3, 0.0, DIFFUSION), _no_noise, stop)
    assert jump.calls == 1


def _no_noise(index: int) -> Array:
    raise AssertionError(f"noise was asked for after jump {index}")
