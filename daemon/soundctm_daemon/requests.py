"""Requests of the contract -> jobs. Everything is validated once, here; blocks on small reads."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from soundctm.bundle import Bundle
from soundctm.errors import BundleError, FieldViolation, InvalidRequestError
from soundctm.noise import SEED_MAX
from soundctm.recipe import REFINE_STEPS, Recipe, make_recipe, with_steps
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.clip import ClipRecord, new_clip_id
from soundctm_daemon.errors import ModelChangedError, ModelNotFoundError, NoRecipeError
from soundctm_daemon.jobs import Job, JobEvent, Priority
from soundctm_daemon.library import Library
from soundctm_daemon.recipes import decode_recipe
from soundgen.v1 import generation_service_pb2

Emit = Callable[[JobEvent], None]
LONGEST_NAME = 200       # characters of a label or a model's name
MOST_VARIATIONS = 64
MOST_TAKES = 8           # of a progressive refine
TAKES = (1, 2, 4, 8, 16)  # their jumps, where the request names none
_LABEL_FROM_PROMPT = 60  # characters
_MOST_SHOWN = 16         # numbers of a list in a message
_SHORTEST_WITHIN_SECONDS, _LONGEST_WITHIN_SECONDS = 0.1, 3600.0


@dataclass(frozen=True)
class Asker:
    """Whose request it is, and what was drawn for it: `seed` is that of the (first) clip where the request has none."""

    client: str
    request_id: str
    seed: int


class JobMaker:
    """Jobs by the kind of request. `emitter` gives the `emit` of a clip by its id; recipes of at most `preview_steps`
    jumps are previews; no request makes more than `most_jobs`, which could never be in flight at once.

    Every method raises InvalidRequestError, ModelNotFoundError, BundleError, LicenceNotAcceptedError; those that take
    a clip also ClipNotFoundError, NoRecipeError, ModelChangedError, LibraryError.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        library: Library,
        emitter: Callable[[str], Emit],
        preview_steps: int,
        most_jobs: int,
    ) -> None:
        self._catalogue, self._library, self._emitter = catalogue, library, emitter
        self._preview_steps, self._most_jobs = preview_steps, most_jobs

    def generate(self, request: generation_service_pb2.GenerateRequest, asker: Asker) -> list[Job]:
        model, bundle, recipe = self._asked_for(request, asker.seed, _within_violations(request))
        deadline = time.monotonic() + request.within_seconds if request.HasField("within_seconds") else None
        job = self._job(asker, model, bundle, recipe, label=_label(request, recipe), batch=request.batch)
        return [dataclasses.replace(job, deadline_seconds=deadline)]

    def variations(self, request: generation_service_pb2.GenerateVariationsRequest, asker: Asker) -> list[Job]:
        shared, violations = request.request, _seeds_violations(request, self._most_jobs)
        if shared.HasField("within_seconds"):
            violations.append(FieldViolation("within_seconds", str(shared.within_seconds), "absent for variations"))
        model, bundle, recipe = self._asked_for(shared, asker.seed, violations)
        seeds = list(request.seeds) or [(recipe.seed + index) % (SEED_MAX + 1) for index in range(request.count)]
        label = _label(shared, recipe)
        return [
            self._job(asker, model, bundle, dataclasses.replace(recipe, seed=seed), label=label, batch=shared.batch)
            for seed in seeds
        ]

    def refine(self, request: generation_service_pb2.RefineRequest, asker: Asker) -> list[Job]:
        parent, bundle, recipe = self._parent(request.clip_id)
        steps = request.steps if request.HasField("steps") else REFINE_STEPS
        gamma = request.gamma if request.HasField("gamma") else None
        refined = with_steps(recipe, bundle.spec, steps=steps, gamma=gamma)
        if refined.steps <= recipe.steps:
            raise InvalidRequestError([FieldViolation("steps", str(steps), _more_than(recipe, bundle))])
        return [self._job(asker, parent.model, bundle, refined, parent=parent, batch=request.batch)]

    def refine_progressively(
        self, request: generation_service_pb2.RefineProgressivelyRequest, asker: Asker
    ) -> list[Job]:
        parent, bundle, recipe = self._parent(request.clip_id)
        gamma = request.gamma if request.HasField("gamma") else None
        most = min(MOST_TAKES, self._most_jobs)
        takes = list(request.steps)
        if not takes:
            takes = [steps for steps in TAKES if recipe.steps < steps <= bundle.spec.ranges.max_steps][-most:]
        rising = all(before < after for before, after in zip([recipe.steps, *takes], takes, strict=False))
        if not takes or len(takes) > most or not rising:
            allowed = f"1 to {most} rising numbers, each {_more_than(recipe, bundle)}"
            raise InvalidRequestError([FieldViolation("steps", _shown(takes) or "absent", allowed)])
        return [
            self._job(asker, parent.model, bundle, with_steps(recipe, bundle.spec, steps=steps, gamma=gamma), parent)
            for steps in takes
        ]

    def rerender(self, request: generation_service_pb2.RerenderRequest, asker: Asker) -> list[Job]:
        model, recipe = decode_recipe(request.recipe_json)
        try:
            model, bundle = self._same_weights(model, recipe.bundle_digest)
        except ModelChangedError:
            if not request.allow_other_weights:
                raise
            model, bundle = self._catalogue.find(model)
        other_weights = bundle.digest != recipe.bundle_digest
        values = {name: value for name, value in recipe.to_json().items() if name != "bundle_digest"}
        job = self._job(asker, model, bundle, make_recipe(bundle.spec, bundle.digest, **values))
        return [dataclasses.replace(job, other_weights=other_weights)]

    def _asked_for(
        self, request: generation_service_pb2.GenerateRequest, seed: int, violations: Sequence[FieldViolation]
    ) -> tuple[str, Bundle, Recipe]:
        """The model's name, the model and the recipe; `violations` were found before."""
        too_long = _length_violations("model", request.model)
        violations = [*violations, *_length_violations("label", request.label), *too_long]
        if too_long:
            raise InvalidRequestError(violations)
        name, bundle = self._catalogue.find(request.model)
        steps = request.steps if request.HasField("steps") else None
        if steps is None and request.HasField("within_seconds"):
            steps = min(REFINE_STEPS, bundle.spec.ranges.max_steps)
        try:
            recipe = make_recipe(
                bundle.spec,
                bundle.digest,
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                seed=request.seed if request.HasField("seed") else seed,
                seconds=request.seconds if request.HasField("seconds") else None,
                steps=steps,
                gamma=request.gamma if request.HasField("gamma") else None,
                omega=request.omega if request.HasField("omega") else None,
                nu=request.nu if request.HasField("nu") else None,
            )
        except InvalidRequestError as error:
            raise InvalidRequestError([*error.violations, *violations]) from error
        if violations:
            raise InvalidRequestError(violations)
        return name, bundle, recipe

    def _parent(self, clip_id: str) -> tuple[ClipRecord, Bundle, Recipe]:
        violations = _length_violations("clip_id", clip_id)
        if violations:
            raise InvalidRequestError(violations)
        record = self._library.get(clip_id).record
        if record.recipe is None:
            raise NoRecipeError(
                f"clip {clip_id!r} was imported without a recipe, so that nothing can make it again. Refine a clip "
                "that was made here, or one whose file carried its recipe."
            )
        model, bundle = self._same_weights(record.model, record.recipe.bundle_digest)
        return dataclasses.replace(record, model=model), bundle, record.recipe

    def _same_weights(self, model: str, digest: str) -> tuple[str, Bundle]:
        """The model of this digest: under the name it had, else under any."""
        for name in (model, *self._catalogue.names()):
            if self._has(name, digest):
                return self._catalogue.find(name)
        _, bundle = self._catalogue.look_up(model)
        raise ModelChangedError(
            f"the recipe was made for the model {model!r} with the digest {digest}, the one installed now has "
            f"{bundle.digest} and would make another clip. Install the former again, or make a new clip of the prompt."
        )

    def _has(self, name: str, digest: str) -> bool:
        try:
            return self._catalogue.look_up(name)[1].digest == digest
        except (BundleError, ModelNotFoundError):
            return False

    def _job(
        self,
        asker: Asker,
        model: str,
        bundle: Bundle,
        recipe: Recipe,
        parent: ClipRecord | None = None,
        *,
        label: str | None = None,
        batch: bool = False,
    ) -> Job:
        clip_id = new_clip_id()
        preview = recipe.steps <= self._preview_steps
        return Job(
            clip_id=clip_id,
            model=model,
            bundle=bundle,
            recipe=recipe,
            parent_id=parent.id if parent else "",
            label=label or (parent.label if parent else recipe.prompt[:_LABEL_FROM_PROMPT]),
            emit=self._emitter(clip_id),
            priority=Priority.BATCH if batch else Priority.PREVIEW if preview else Priority.REFINEMENT,
            request_id=asker.request_id,
            client=asker.client,
        )


def _label(request: generation_service_pb2.GenerateRequest, recipe: Recipe) -> str:
    return request.label.strip() or recipe.prompt[:_LABEL_FROM_PROMPT]


def _within_violations(request: generation_service_pb2.GenerateRequest) -> list[FieldViolation]:
    within = request.within_seconds
    if not request.HasField("within_seconds") or _SHORTEST_WITHIN_SECONDS <= within <= _LONGEST_WITHIN_SECONDS:
        return []
    allowed = f"{_SHORTEST_WITHIN_SECONDS:g} to {_LONGEST_WITHIN_SECONDS:g}"
    return [FieldViolation("within_seconds", str(within), allowed)]


def _seeds_violations(
    request: generation_service_pb2.GenerateVariationsRequest, most_jobs: int
) -> list[FieldViolation]:
    most, seeds = min(MOST_VARIATIONS, most_jobs), list(request.seeds)
    if not seeds and not 1 <= request.count <= most:
        return [FieldViolation("count", str(request.count), f"1 to {most}")]
    if len(seeds) > most:
        return [FieldViolation("seeds", f"{len(seeds)} seeds", f"at most {most}")]
    if len(set(seeds)) < len(seeds):
        return [FieldViolation("seeds", _shown(seeds), "no two the same")]
    return []


def _length_violations(field: str, value: str) -> list[FieldViolation]:
    if len(value) <= LONGEST_NAME:
        return []
    return [FieldViolation(field, f"{len(value)} characters long", f"at most {LONGEST_NAME} characters")]


def _more_than(recipe: Recipe, bundle: Bundle) -> str:
    return f"more than the clip's {recipe.steps}, up to {bundle.spec.ranges.max_steps}"


def _shown(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_MOST_SHOWN])) + (" …" if len(numbers) > _MOST_SHOWN else "")
