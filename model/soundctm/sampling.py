"""One jump loop over any network: operators only, so that NumPy and torch arrays both fit.

No files, no clock, no seed: the plan, the noise and the jump are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from soundctm.plan import Jump, Plan

Array = TypeVar("Array")

JumpFunction = Callable[[Array, Jump], Array]


@dataclass(frozen=True)
class Cursor(Generic[Array]):
    """Where a clip stands in its plan: `done` jumps lie behind it, `z` is at the noise level of the next one."""

    plan: Plan
    z: Array
    done: int = 0

    @property
    def finished(self) -> bool:
        return self.done == len(self.plan)

    @property
    def jump(self) -> Jump:
        """The next one. Raises IndexError when there is none."""
        return self.plan[self.done]

    def landed(self, z: Array, step_noise: Callable[[int], Array]) -> Cursor[Array]:
        """After the next jump, which ended at `z`. `step_noise(k)` gives the standard normal added after jump k and
        is asked only where noise is added.
        """
        if self.jump.noise_std > 0.0:
            z = z + self.jump.noise_std * step_noise(self.done)  # type: ignore[operator,assignment]
        return Cursor(self.plan, z, self.done + 1)


def mixed(conditional: Array, unconditional: Array, nu: float) -> Array:
    """nu-sampling (paper eq. 10): unconditional + nu (conditional - unconditional)."""
    return unconditional + nu * (conditional - unconditional)  # type: ignore[operator,no-any-return]


def guided(conditional: JumpFunction[Array], unconditional: JumpFunction[Array], nu: float) -> JumpFunction[Array]:
    """Both jumps, mixed. At nu = 1 the unconditional jump cancels and is never run."""
    if nu == 1.0:
        return conditional
    return lambda z, jump: mixed(conditional(z, jump), unconditional(z, jump), nu)


def run_plan(
    jump: JumpFunction[Array],
    z: Array,
    plan: Plan,
    step_noise: Callable[[int], Array],
    on_jump: Callable[[int, Array], None] = lambda done, z: None,
) -> Array:
    """Follow the plan from `z`, which lies at the noise level of its first jump.

    `step_noise(k)` as `Cursor.landed` asks for it. `on_jump(done, z)` is called after every jump with the state the
    next one starts from; it may raise to stop.
    """
    cursor = Cursor(plan, z)
    while not cursor.finished:
        cursor = cursor.landed(jump(cursor.z, cursor.jump), step_noise)
        on_jump(cursor.done, cursor.z)
    return cursor.z
