"""The daemon's values -> messages of the contract."""

from __future__ import annotations

from soundctm.bundle import Bundle
from soundctm.errors import SoundCTMError
from soundctm.recipe import Recipe
from soundctm.spec import Ranges
from soundctm_daemon.clip import AudioFinding, ClipOrigin, StoredClip
from soundctm_daemon.engines import EngineState, Phase
from soundgen.v1 import clip_pb2, model_service_pb2

_FINDINGS = {
    AudioFinding.SILENT: clip_pb2.AUDIO_FINDING_SILENT,
    AudioFinding.CLIPPING: clip_pb2.AUDIO_FINDING_CLIPPING,
    AudioFinding.UNFAMILIAR_PROMPT: clip_pb2.AUDIO_FINDING_UNFAMILIAR_PROMPT,
    AudioFinding.DC_OFFSET: clip_pb2.AUDIO_FINDING_DC_OFFSET,
    AudioFinding.SHORT: clip_pb2.AUDIO_FINDING_SHORT,
    AudioFinding.OTHER_WEIGHTS: clip_pb2.AUDIO_FINDING_OTHER_WEIGHTS,
}
_ORIGINS = {
    ClipOrigin.GENERATED: clip_pb2.CLIP_ORIGIN_GENERATED,
    ClipOrigin.IMPORTED: clip_pb2.CLIP_ORIGIN_IMPORTED,
}

_MODEL_STATES = {
    Phase.LOADING: model_service_pb2.MODEL_STATE_LOADING,
    Phase.LOADED: model_service_pb2.MODEL_STATE_LOADED,
    Phase.FAILED: model_service_pb2.MODEL_STATE_UNUSABLE,
}


def recipe_message(model: str, recipe: Recipe) -> clip_pb2.Recipe:
    return clip_pb2.Recipe(
        model=model,
        bundle_digest=recipe.bundle_digest,
        prompt=recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        seed=recipe.seed,
        seconds=recipe.seconds,
        steps=recipe.steps,
        gamma=recipe.gamma,
        omega=recipe.omega,
        nu=recipe.nu,
    )


def clip_message(clip: StoredClip) -> clip_pb2.Clip:
    record = clip.record
    message = clip_pb2.Clip(
        id=record.id,
        recipe=None if record.recipe is None else recipe_message(record.model, record.recipe),
        parent_id=record.parent_id,
        label=record.label,
        render_seconds=record.render_seconds,
        sample_rate_hz=record.sample_rate_hz,
        channels=record.channels,
        samples=record.samples,
        seconds=record.seconds,
        peak_dbfs=record.peak_dbfs,
        findings=[_FINDINGS[finding] for finding in record.findings],
        path=str(clip.path),
        size_bytes=clip.size_bytes,
        sha256=clip.sha256,
        problem=clip.problem,
        tags=clip.edits.tags,
        favourite=clip.edits.favourite,
        notes=clip.edits.notes,
        origin=_ORIGINS[record.origin],
    )
    if clip.edits.deleted_at is not None:
        message.deleted_at.FromMicroseconds(round(clip.edits.deleted_at * 1e6))
    message.created_at.FromMicroseconds(round(record.created_at * 1e6))
    if (familiarity := record.familiarity) is not None:
        message.familiarity.nearest = familiarity.label
        message.familiarity.similarity = familiarity.similarity
        message.familiarity.threshold = familiarity.threshold
    return message


def model_message(
    name: str,
    bundle: Bundle,
    *,
    is_default: bool,
    state: EngineState | None,
    memory_bytes: int,
    licence_accepted: bool,
) -> model_service_pb2.Model:
    """`state` None: nobody asked for it yet."""
    spec = bundle.spec
    return model_service_pb2.Model(
        name=name,
        digest=bundle.digest,
        description=spec.description,
        licence=spec.licence,
        is_default=is_default,
        state=_MODEL_STATES[state.phase] if state else model_service_pb2.MODEL_STATE_INSTALLED,
        problem=state.problem if state else "",
        sample_rate_hz=spec.codec.sample_rate_hz,
        ranges=_ranges_message(spec.ranges),
        provenance=spec.provenance,
        licence_restricted=spec.restricted,
        licence_accepted=licence_accepted,
        memory_bytes=memory_bytes,
        engine=state.engine if state else "",
    )


def unusable_model_message(name: str, is_default: bool, error: SoundCTMError) -> model_service_pb2.Model:
    """A model whose manifest cannot be read."""
    return model_service_pb2.Model(
        name=name, is_default=is_default, state=model_service_pb2.MODEL_STATE_UNUSABLE, problem=str(error)
    )


def _ranges_message(ranges: Ranges) -> model_service_pb2.Ranges:
    return model_service_pb2.Ranges(
        min_seconds=ranges.min_seconds,
        max_seconds=ranges.max_seconds,
        max_steps=ranges.max_steps,
        omega_min=ranges.omega_min,
        omega_max=ranges.omega_max,
        omega_default=ranges.omega_default,
        nu_max=ranges.nu_max,
        max_prompt_chars=ranges.max_prompt_chars,
    )
