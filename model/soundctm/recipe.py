"""A recipe is everything that makes a clip again. Requests become recipes here, validated once."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from soundctm.errors import FieldViolation, InvalidRequestError
from soundctm.noise import SEED_MAX
from soundctm.plan import Plan, make_plan
from soundctm.spec import BundleSpec

PREVIEW_STEPS = 1
REFINE_STEPS = 16


@dataclass(frozen=True)
class Recipe:
    """`bundle_digest` names the weights; the same recipe gives the same clip wherever it runs."""

    bundle_digest: str
    prompt: str
    negative_prompt: str
    seed: int
    seconds: float
    steps: int
    gamma: float
    omega: float
    nu: float

    def plan(self, spec: BundleSpec) -> Plan:
        return make_plan(self.steps, self.gamma, spec.diffusion)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """Raises TypeError when the data does not name exactly the recipe's fields."""
        return cls(**data)


def make_recipe(
    spec: BundleSpec,
    bundle_digest: str,
    *,
    prompt: str,
    seed: int,
    negative_prompt: str = "",
    seconds: float | None = None,
    steps: int | None = None,
    gamma: float | None = None,
    omega: float | None = None,
    nu: float | None = None,
) -> Recipe:
    """A valid recipe for this bundle; None takes the default (longest clip, 1 step, gamma 0, the bundle's omega, nu 1).

    Raises InvalidRequestError carrying every field that is out of its range.
    """
    ranges = spec.ranges
    recipe = Recipe(
        bundle_digest=bundle_digest,
        prompt=prompt.strip(),
        negative_prompt=negative_prompt.strip(),
        seed=seed,
        seconds=ranges.max_seconds if seconds is None else float(seconds),
        steps=PREVIEW_STEPS if steps is None else steps,
        gamma=0.0 if gamma is None else float(gamma),
        omega=ranges.omega_default if omega is None else float(omega),
        nu=1.0 if nu is None else float(nu),
    )
    _require_valid(recipe, spec)
    return recipe


def with_steps(recipe: Recipe, spec: BundleSpec, *, steps: int, gamma: float | None = None) -> Recipe:
    """The same clip in more jumps: same noise, prompts and guidance. Raises InvalidRequestError."""
    changed = dataclasses.replace(recipe, steps=steps, gamma=recipe.gamma if gamma is None else float(gamma))
    _require_valid(changed, spec)
    return changed


def _require_valid(recipe: Recipe, spec: BundleSpec) -> None:
    violations = [
        *_text("prompt", recipe.prompt, spec, may_be_empty=False),
        *_text("negative_prompt", recipe.negative_prompt, spec, may_be_empty=True),
        *_integer("seed", recipe.seed, 0, SEED_MAX),
        *_integer("steps", recipe.steps, 1, spec.ranges.max_steps),
        *_number("seconds", recipe.seconds, spec.ranges.min_seconds, spec.ranges.max_seconds),
        *_number("gamma", recipe.gamma, 0.0, 1.0),
        *_number("omega", recipe.omega, spec.ranges.omega_min, spec.ranges.omega_max, "what it was distilled with"),
        *_number("nu", recipe.nu, 0.0, spec.ranges.nu_max),
    ]
    if violations:
        raise InvalidRequestError(violations)


def _text(field: str, value: str, spec: BundleSpec, *, may_be_empty: bool) -> list[FieldViolation]:
    longest = spec.ranges.max_prompt_chars
    if not value and not may_be_empty:
        return [FieldViolation(field, "empty", f"1 to {longest} characters that describe a sound")]
    if len(value) > longest:
        return [FieldViolation(field, f"{len(value)} characters long", f"at most {longest} characters")]
    return []


def _integer(field: str, value: int, low: int, high: int) -> list[FieldViolation]:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return [FieldViolation(field, str(value), f"a whole number from {low} to {high}")]
    return []


def _number(field: str, value: float, low: float, high: float, why: str = "") -> list[FieldViolation]:
    if not math.isfinite(value) or not low <= value <= high:
        return [FieldViolation(field, str(value), f"{low:g} to {high:g}" + (f" ({why})" if why else ""))]
    return []
