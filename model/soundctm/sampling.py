"""One jump loop over any network: operators only, so that NumPy and torch arrays both fit.

No files, no clock, no seed: the plan, the noise and the jump are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from soundctm.plan import Jump, Plan

Array = TypeVar("Array")

JumpFunction = Callable[[Array, Jump], Array]


def guided(conditional: JumpFunction[Array], unconditional: JumpFunction[Array], nu: float) -> JumpFunction[Array]:
    """nu-sampling (paper eq. 10): unconditional + nu (conditional - unconditional).

    At nu = 1 the unconditional jump cancels and is never run.
    """
    if nu == 1.0:
        return conditional

    def mixed(z: Array, jump: Jump) -> Array:
        without = unconditional(z, jump)
        return without + nu * (conditional(z, jump) - without)  # type: ignore[operator,no-any-return]

    return mixed


def run_plan(
    jump: JumpFunction[Array],
    z: Array,
    plan: Plan,
    step_noise: Callable[[int], Array],
    on_jump: Callable[[int, Array], None] = lambda done, z: None,
) -> Array:
    """Follow the plan from `z`, which lies at the noise level of its first jump.

    `step_noise(k)` gives the standard normal added after jump k and is asked only where noise is added.
    `on_jump(done, z)` is called after every jump with the state the next one starts from; it may raise to stop.
    """
    for index, step in enumerate(plan):
        z = jump(z, step)
        if step.noise_std > 0.0:
            z = z + step.noise_std * step_noise(index)  # type: ignore[operator,assignment]
        on_jump(index + 1, z)
    return z
