from __future__ import annotations

import json
import math

import pytest

from soundctm.errors import InvalidRequestError
from soundctm.recipe import Recipe, make_recipe, with_steps
from tiny import TINY_SPEC


def recipe(**changes: object) -> Recipe:
    return make_recipe(TINY_SPEC, "digest", **{"prompt": "rain", "seed": 1, **changes})  # type: ignore[arg-type]


def test_defaults_are_a_preview_of_the_longest_clip() -> None:
    made = recipe()
    assert (made.steps, made.gamma, made.nu, made.omega) == (1, 0.0, 1.0, TINY_SPEC.ranges.omega_default)
    assert made.seconds == TINY_SPEC.ranges.max_seconds


def test_a_recipe_survives_json() -> None:
    made = recipe(prompt="Regen auf Blech — größer", steps=4, nu=1.5)
    assert Recipe.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_a_refine_changes_the_plan_and_nothing_else() -> None:
    preview = recipe(seed=7, omega=2.0)
    refined = with_steps(preview, TINY_SPEC, steps=16)
    assert len(refined.plan(TINY_SPEC)) == 16
    assert {k: v for k, v in refined.to_json().items() if k != "steps"} == {
        k: v for k, v in preview.to_json().items() if k != "steps"
    }


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("prompt", "", "1 to 1000 characters"),
        ("prompt", "   ", "1 to 1000 characters"),
        ("prompt", "x" * 10_000, "at most 1000"),
        ("negative_prompt", "x" * 10_000, "at most 1000"),
        ("steps", 0, "1 to 64"),
        ("steps", 10_000, "1 to 64"),
        ("steps", 1.5, "a whole number"),
        ("steps", True, "a whole number"),
        ("seed", -1, "0 to 4294967295"),
        ("seed", 2**32, "0 to 4294967295"),
        ("seconds", 0.4, "0.5 to 10"),
        ("seconds", math.nan, "0.5 to 10"),
        ("omega", 0.9, "1 to 5"),
        ("omega", 5.1, "1 to 5"),
        ("omega", math.nan, "1 to 5"),
        ("nu", math.inf, "0 to 10"),
        ("gamma", 1.1, "0 to 1"),
        ("gamma", math.nan, "0 to 1"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        recipe(**{field: value})
    assert [violation.field for violation in caught.value.violations] == [field]
    assert allowed in str(caught.value)


def test_all_violations_are_reported_at_once() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        recipe(prompt="", steps=0, omega=99.0)
    assert [violation.field for violation in caught.value.violations] == ["prompt", "steps", "omega"]
