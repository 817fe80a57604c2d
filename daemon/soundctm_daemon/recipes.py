"""Recipes as JSON: what ExportRecipe gives and Rerender takes. The text may come from anywhere and is not trusted.

    {"format": 1, "model": "starter", "recipe": {"bundle_digest": ..., "prompt": ..., ..., "nu": 1.0}}

`recipe` names every field of soundctm.recipe.Recipe and nothing else. Whether the values fit a model is the model's
matter and is asked elsewhere; here they have their types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from soundctm.errors import FieldViolation, InvalidRequestError
from soundctm.recipe import Recipe
from soundctm_daemon.untrusted import is_number, is_text, is_whole

LONGEST_TEXT = 64 * 1024  # characters; a recipe with the longest prompts has a tenth of them
_FORMAT = 1
_FIELD = "recipe_json"
_LONGEST_MODEL = 200      # characters
_LONGEST_SHOWN = 80       # characters of a value in a message
_DIGEST = re.compile(r"[0-9a-f]{64}")

_Check = Callable[[Any], bool]


def encode_recipe(model: str, recipe: Recipe) -> str:
    """`model` is the name the bundle goes by. Numbers come back from `decode_recipe` bit for bit."""
    document = {"format": _FORMAT, "model": model, "recipe": recipe.to_json()}
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def decode_recipe(text: str) -> tuple[str, Recipe]:
    """The model's name and the recipe. Raises InvalidRequestError naming every field at fault."""
    document = _parsed(text)
    violations = _violations(_FIELD, document, _DOCUMENT)
    if violations:
        raise InvalidRequestError(violations)
    fields = document["recipe"]
    violations = _violations(f"{_FIELD}.recipe", fields, _RECIPE)
    if violations:
        raise InvalidRequestError(violations)
    return document["model"], Recipe.from_json({name: _as_held(value, name) for name, value in fields.items()})


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > LONGEST_TEXT:
        raise _invalid(f"{len(text)} characters long", f"at most {LONGEST_TEXT} characters")
    try:
        document = json.loads(text, object_pairs_hook=_each_once, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _invalid("nested too deep", "JSON as ExportRecipe gives it") from error
    except ValueError as error:  # also a number of more digits than Python reads
        raise _invalid(f"no JSON ({error})", "JSON as ExportRecipe gives it") from error
    if not isinstance(document, dict):
        raise _invalid(_shown(document), "a JSON object as ExportRecipe gives it")
    return document


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("an object names a key twice")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _violations(where: str, values: Mapping[str, Any], known: Mapping[str, tuple[_Check, str]]) -> list[FieldViolation]:
    unknown = sorted(set(values) - set(known))
    if unknown:
        names = ", ".join(_shown(name) for name in unknown[:8])
        return [FieldViolation(where, f"an object with the unknown keys {names}", ", ".join(known))]
    violations = []
    for name, (fits, allowed) in known.items():
        if name not in values:
            violations.append(FieldViolation(f"{where}.{name}", "missing", allowed))
        elif not fits(values[name]):
            violations.append(FieldViolation(f"{where}.{name}", _shown(values[name]), allowed))
    return violations


def _as_held(value: Any, name: str) -> Any:
    """JSON need not tell 1 from 1.0; a recipe does."""
    return float(value) if _RECIPE[name] is _NUMBER else value


_TEXT = (is_text, "text in Unicode")
_WHOLE = (is_whole, "a whole number")
_NUMBER = (is_number, "a finite number")
_DOCUMENT: dict[str, tuple[_Check, str]] = {
    "format": (lambda value: is_whole(value) and value == _FORMAT, f"{_FORMAT}, all this version reads"),
    "model": (lambda value: is_text(value) and 0 < len(value) <= _LONGEST_MODEL, f"1 to {_LONGEST_MODEL} characters"),
    "recipe": (lambda value: isinstance(value, dict), "a JSON object"),
}
_RECIPE: dict[str, tuple[_Check, str]] = {
    "bundle_digest": (
        lambda value: isinstance(value, str) and _DIGEST.fullmatch(value) is not None,
        "a sha256 in lower-case hexadecimal",
    ),
    "prompt": _TEXT,
    "negative_prompt": _TEXT,
    "seed": _WHOLE,
    "seconds": _NUMBER,
    "steps": _WHOLE,
    "gamma": _NUMBER,
    "omega": _NUMBER,
    "nu": _NUMBER,
}


def _shown(value: Any) -> str:
    """For a message: short, and text that can be sent."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes, or nested too deep
        text = "too much to show"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _invalid(value: str, allowed: str) -> InvalidRequestError:
    return InvalidRequestError([FieldViolation(_FIELD, value, allowed)])
