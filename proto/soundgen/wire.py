"""Messages <-> values, for the sync and the async client alike."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from soundgen import types
from soundgen.errors import FieldViolation, InvalidRequestError
from soundgen.v1 import clip_pb2, generation_service_pb2, model_service_pb2

_FINDINGS = {
    clip_pb2.AUDIO_FINDING_SILENT: types.AudioFinding.SILENT,
    clip_pb2.AUDIO_FINDING_CLIPPING: types.AudioFinding.CLIPPING,
    clip_pb2.AUDIO_FINDING_UNFAMILIAR_PROMPT: types.AudioFinding.UNFAMILIAR_PROMPT,
}
_MODEL_STATES = {
    model_service_pb2.MODEL_STATE_INSTALLED: types.ModelState.INSTALLED,
    model_service_pb2.MODEL_STATE_LOADING: types.ModelState.LOADING,
    model_service_pb2.MODEL_STATE_LOADED: types.ModelState.LOADED,
    model_service_pb2.MODEL_STATE_UNUSABLE: types.ModelState.UNUSABLE,
}
_ALLOWED = {
    FieldDescriptor.TYPE_UINT32: "a whole number from 0 to 4294967295",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_STRING: "text in Unicode",
}


def generate_request(prompt: str, **settings: Any) -> generation_service_pb2.GenerateRequest:
    """Settings that are None stay absent. Raises InvalidRequestError where a value does not fit its field's type."""
    request = generation_service_pb2.GenerateRequest()
    _fill(request, {"prompt": prompt, **settings})
    return request


def refine_request(clip_id: str, **settings: Any) -> generation_service_pb2.RefineRequest:
    """Settings that are None stay absent. Raises InvalidRequestError where a value does not fit its field's type."""
    request = generation_service_pb2.RefineRequest()
    _fill(request, {"clip_id": clip_id, **settings})
    return request


def _fill(request: Message, fields: dict[str, Any]) -> None:
    violations = []
    for name, value in fields.items():
        if value is None:
            continue
        try:
            setattr(request, name, value)
        except (TypeError, ValueError):
            allowed = _ALLOWED[request.DESCRIPTOR.fields_by_name[name].type]
            violations.append(FieldViolation(name, f"{name} is {value!r}; allowed: {allowed}"))
    if violations:
        raise InvalidRequestError("; ".join(v.description for v in violations), violations=violations)


def event(message: generation_service_pb2.ClipEvent) -> types.Event | None:
    """None for `failed`, which the stream's status repeats with details, and for events of a later contract."""
    clip_id = message.clip_id
    match message.WhichOneof("event"):
        case "queued":
            queued = message.queued
            return types.Queued(clip_id, queued.position, queued.model_loading, recipe(queued.recipe))
        case "started":
            return types.Started(clip_id)
        case "jump":
            return types.JumpDone(clip_id, message.jump.done, message.jump.total)
        case "clip_ready":
            return types.ClipReady(clip_id, clip(message.clip_ready.clip))
        case _:
            return None


def recipe(message: clip_pb2.Recipe) -> types.Recipe:
    return types.Recipe(
        model=message.model,
        bundle_digest=message.bundle_digest,
        prompt=message.prompt,
        negative_prompt=message.negative_prompt,
        seed=message.seed,
        seconds=message.seconds,
        steps=message.steps,
        gamma=message.gamma,
        omega=message.omega,
        nu=message.nu,
    )


def clip(message: clip_pb2.Clip) -> types.Clip:
    about = message.familiarity
    return types.Clip(
        id=message.id,
        recipe=recipe(message.recipe),
        parent_id=message.parent_id or None,
        label=message.label,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        render_seconds=message.render_seconds,
        sample_rate_hz=message.sample_rate_hz,
        channels=message.channels,
        samples=message.samples,
        seconds=message.seconds,
        peak_dbfs=message.peak_dbfs,
        findings=tuple(_FINDINGS[finding] for finding in message.findings if finding in _FINDINGS),
        path=Path(message.path),
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        problem=message.problem,
        familiarity=types.Familiarity(about.nearest, about.similarity, about.threshold)
        if message.HasField("familiarity")
        else None,
    )


def model(message: model_service_pb2.Model) -> types.Model:
    ranges = message.ranges
    return types.Model(
        name=message.name,
        digest=message.digest,
        description=message.description,
        licence=message.licence,
        is_default=message.is_default,
        state=_MODEL_STATES.get(message.state, types.ModelState.UNUSABLE),
        problem=message.problem,
        sample_rate_hz=message.sample_rate_hz,
        ranges=types.Ranges(
            min_seconds=ranges.min_seconds,
            max_seconds=ranges.max_seconds,
            max_steps=ranges.max_steps,
            omega_min=ranges.omega_min,
            omega_max=ranges.omega_max,
            omega_default=ranges.omega_default,
            nu_max=ranges.nu_max,
            max_prompt_chars=ranges.max_prompt_chars,
        )
        if message.HasField("ranges")
        else None,
    )
