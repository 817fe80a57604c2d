"""A clip is made again from its recipe alone, by the same weights, or knowingly by others."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile

from raw_calls import api_of, clips_of, kind, open_api, read, refusal
from running_daemon import RunningDaemon
from soundctm.recipe import Recipe
from soundctm_daemon.recipes import encode_recipe
from soundgen.v1 import clip_pb2

pytestmark = pytest.mark.usefixtures("models")
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def recipe_json(clip: clip_pb2.Clip, **changes: object) -> str:
    known = clip.recipe
    values = {field.name: getattr(known, field.name) for field in dataclasses.fields(Recipe)}
    return encode_recipe(known.model, Recipe(**{**values, **changes}))


def install_other_weights(models: Path) -> None:
    whole = (models / "tiny").resolve()
    (models / "tiny").unlink()
    shutil.copytree(whole, models / "tiny")
    manifest = models / "tiny" / "bundle.json"
    manifest.write_text(manifest.read_text().replace("random weights", "other weights"))


def test_the_same_weights_make_the_same_clip() -> None:
    with RunningDaemon() as daemon, api_of(daemon) as api:
        clip = api.make(prompt="rain on a tin roof", steps=3, gamma=0.4, nu=1.5, negative_prompt="dog", omega=2.2)
        events, code = read(api.rerender(recipe_json(clip), request_id="again"))
        (again,) = clips_of(events)
        assert (again.recipe, code) == (clip.recipe, grpc.StatusCode.OK)
        assert (again.label, again.parent_id) == (clip.label, "")
        assert again.id != clip.id
        np.testing.assert_array_equal(soundfile.read(again.path)[0], soundfile.read(clip.path)[0])
        assert clips_of(read(api.rerender(recipe_json(clip), request_id="again"))[0]) == [again]


def test_other_weights_are_refused_unless_they_are_allowed(models: Path) -> None:
    with open_api() as api:
        clip = api.make(seed=9, steps=2)
    install_other_weights(models)
    with open_api() as api:
        for call in (api.rerender(recipe_json(clip)), api.refine(clip.id), api.progressively(clip.id)):
            code, info, _ = refusal(call)
            assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_CHANGED")
        (other,) = clips_of(read(api.rerender(recipe_json(clip), allow_other_weights=True))[0])
        assert other.recipe.bundle_digest != clip.recipe.bundle_digest
        assert clip_pb2.AUDIO_FINDING_OTHER_WEIGHTS in other.findings
        other.recipe.bundle_digest = clip.recipe.bundle_digest
        assert other.recipe == clip.recipe


def test_the_same_weights_are_found_under_another_name(models: Path) -> None:
    with open_api() as api:
        clip = api.make()
    (models / "renamed").symlink_to((models / "tiny").resolve(), target_is_directory=True)
    install_other_weights(models)
    with open_api() as api:
        (again,) = clips_of(read(api.rerender(recipe_json(clip)))[0])
        assert again.recipe.model == "renamed"
        assert again.recipe.bundle_digest == clip.recipe.bundle_digest
        assert clip_pb2.AUDIO_FINDING_OTHER_WEIGHTS not in again.findings
        assert read(api.refine(clip.id, steps=2))[1] is grpc.StatusCode.OK


def test_a_model_that_is_not_installed_is_not_found() -> None:
    with open_api() as api:
        text = recipe_json(api.make(), bundle_digest="0" * 64).replace('"tiny"', '"../tiny"')
        for allow in (False, True):
            code, info, _ = refusal(api.rerender(text, allow_other_weights=allow))
            assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


def test_values_the_model_does_not_take_are_named_together() -> None:
    with open_api() as api:
        clip = api.make()
        text = recipe_json(clip, steps=10_000, seed=2**32, seconds=-1.0, prompt="x" * 1001)
        code, info, _ = refusal(call := api.rerender(text))
        assert (code, info.metadata["field"]) == (INVALID, "prompt")
        for field in ("seed", "steps", "seconds"):
            assert f"{field} is " in call.details()


@pytest.mark.parametrize("text", ["", "{}", "[" * 50_000, "null", '{"format": 1, "model": "tiny", "recipe": {}}'])
def test_what_is_no_recipe_is_named(text: str) -> None:
    with open_api() as api:
        code, info, _ = refusal(api.rerender(text))
        assert code is INVALID
        assert info.metadata["field"].startswith("recipe_json")


def test_what_leaves_a_clip_as_json_is_plain() -> None:
    with open_api() as api:
        clip = api.make()
        document = json.loads(recipe_json(clip))
        events, _ = read(api.rerender(json.dumps(document, indent=4, sort_keys=True)))
        assert kind(events[-1]) == "clip_ready"
