"""Requests of the contract -> jobs. Everything is validated once, here; blocks on small reads."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from soundctm.bundle import Bundle
from soundctm.errors import FieldViolation, InvalidRequestError
from soundctm.noise import SEED_MAX
from soundctm.recipe import REFINE_STEPS, make_recipe, with_steps
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.clip import new_clip_id
from soundctm_daemon.errors import ModelChangedError
from soundctm_daemon.jobs import Job, JobEvent
from soundctm_daemon.library import Library
from soundgen.v1 import generation_service_pb2

Emit = Callable[[JobEvent], None]
LONGEST_NAME = 200       # characters of a label or a model's name
_LABEL_FROM_PROMPT = 60  # characters


def generate_job(request: generation_service_pb2.GenerateRequest, catalogue: Catalogue, emit: Emit) -> Job:
    """Raises InvalidRequestError, ModelNotFoundError, BundleError."""
    _require_short("model", request.model)
    _require_short("label", request.label)
    name, bundle = catalogue.find(request.model)
    recipe = make_recipe(
        bundle.spec,
        bundle.digest,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed if request.HasField("seed") else secrets.randbelow(SEED_MAX + 1),
        seconds=request.seconds if request.HasField("seconds") else None,
        steps=request.steps if request.HasField("steps") else None,
        gamma=request.gamma if request.HasField("gamma") else None,
        omega=request.omega if request.HasField("omega") else None,
        nu=request.nu if request.HasField("nu") else None,
    )
    label = request.label.strip() or recipe.prompt[:_LABEL_FROM_PROMPT]
    return Job(new_clip_id(), name, bundle, recipe, "", label, emit)


def refine_job(
    request: generation_service_pb2.RefineRequest, catalogue: Catalogue, library: Library, emit: Emit
) -> Job:
    """Raises ClipNotFoundError, InvalidRequestError, ModelChangedError, ModelNotFoundError,
    BundleError."""
    _require_short("clip_id", request.clip_id)
    parent = library.get(request.clip_id).record
    bundle = _same_weights(parent.model, parent.recipe.bundle_digest, catalogue)
    steps = request.steps if request.HasField("steps") else REFINE_STEPS
    gamma = request.gamma if request.HasField("gamma") else None
    recipe = with_steps(parent.recipe, bundle.spec, steps=steps, gamma=gamma)
    if recipe.steps <= parent.recipe.steps:
        allowed = f"more than the clip's {parent.recipe.steps}, up to {bundle.spec.ranges.max_steps}"
        raise InvalidRequestError([FieldViolation("steps", str(steps), allowed)])
    return Job(new_clip_id(), parent.model, bundle, recipe, parent.id, parent.label, emit)


def _same_weights(model: str, digest: str, catalogue: Catalogue) -> Bundle:
    _, bundle = catalogue.find(model)
    if bundle.digest != digest:
        raise ModelChangedError(
            f"the clip was made by model {model!r} with the digest {digest}, the one installed now has {bundle.digest} "
            "and would make another clip. Install the former again, or make a new clip of the prompt."
        )
    return bundle


def _require_short(field: str, value: str) -> None:
    if len(value) > LONGEST_NAME:
        violation = FieldViolation(field, f"{len(value)} characters long", f"at most {LONGEST_NAME} characters")
        raise InvalidRequestError([violation])
