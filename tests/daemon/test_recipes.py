"""A recipe leaves as JSON and comes back bit for bit; hostile JSON is named and refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from soundctm.errors import InvalidRequestError
from soundctm.recipe import Recipe
from soundctm_daemon.recipes import LONGEST_TEXT, decode_recipe, encode_recipe

RECIPE = Recipe("0f" * 32, 'réin "on"\n屋根', "", 2**32 - 1, 0.1 + 0.2, 16, 1 / 3, 3.5, 1.0)


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(encode_recipe("tiny", RECIPE)), **changes}


def with_field(name: str, value: Any) -> str:
    return json.dumps(document(recipe={**RECIPE.to_json(), name: value}))


def test_what_was_encoded_comes_back_the_same() -> None:
    assert decode_recipe(encode_recipe("tiny", RECIPE)) == ("tiny", RECIPE)
    assert set(json.loads(encode_recipe("tiny", RECIPE))) == {"format", "model", "recipe"}


def test_every_field_of_a_recipe_is_known() -> None:
    for field in dataclasses.fields(Recipe):
        with pytest.raises(InvalidRequestError, match=rf"recipe_json\.recipe\.{field.name} is "):
            decode_recipe(with_field(field.name, None))


def test_a_whole_number_where_a_number_is_meant_is_one() -> None:
    _, recipe = decode_recipe(with_field("seconds", 2))
    assert (recipe.seconds, type(recipe.seconds)) == (2.0, float)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 1.0),
        ("seed", True),
        ("seed", "7"),
        ("steps", [1]),
        ("seconds", "long"),
        ("seconds", False),
        ("seconds", 10**400),
        ("omega", {}),
        ("prompt", 3),
        ("prompt", "\ud800"),
        ("bundle_digest", "0F" * 32),
        ("bundle_digest", "../etc"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_recipe(with_field(field, value))
    assert [violation.field for violation in caught.value.violations] == [f"recipe_json.recipe.{field}"]
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"format": 2}, "recipe_json.format"),
        ({"format": True}, "recipe_json.format"),
        ({"model": ""}, "recipe_json.model"),
        ({"model": "x" * 201}, "recipe_json.model"),
        ({"recipe": []}, "recipe_json.recipe"),
        ({"path": "/etc/passwd"}, "recipe_json"),
        ({"recipe": {**RECIPE.to_json(), "plan": []}}, "recipe_json.recipe"),
    ],
)
def test_a_document_of_the_wrong_shape_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_recipe(json.dumps(document(**changes)))
    assert [violation.field for violation in caught.value.violations] == [field]


def test_every_missing_field_is_named_at_once() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_recipe("{}")
    assert [violation.field for violation in caught.value.violations] == [
        "recipe_json.format", "recipe_json.model", "recipe_json.recipe"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rain",
        "[1]",
        "null",
        '{"format": 1',
        "[" * 60_000,
        '{"a":' * 10_000,
        '{"format": ' + "[" * 900 + "]" * 900 + "}",
        "9" * 60_000,
        '{"format": NaN}',
        '{"format": -Infinity}',
        '{"format": 1, "format": 1}',
        " " * (LONGEST_TEXT + 1),
        "\x00",
        "\ufeff{}",
    ],
)
def test_what_is_no_recipe_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^recipe_json") as caught:
        decode_recipe(text)
    assert len(str(caught.value)) < 1000


def test_numbers_beyond_every_float_are_refused() -> None:
    text = encode_recipe("tiny", RECIPE).replace("3.5", "1e999")
    with pytest.raises(InvalidRequestError, match=r"recipe_json\.recipe\.omega is inf; allowed: a finite number"):
        decode_recipe(text)
