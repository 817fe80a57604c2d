"""Messages of the contract -> values, for the sync and the async client alike."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from soundgen import types
from soundgen.v1 import clip_pb2, clip_service_pb2, generation_service_pb2, model_service_pb2

_FINDINGS = {
    clip_pb2.AUDIO_FINDING_SILENT: types.AudioFinding.SILENT,
    clip_pb2.AUDIO_FINDING_CLIPPING: types.AudioFinding.CLIPPING,
    clip_pb2.AUDIO_FINDING_UNFAMILIAR_PROMPT: types.AudioFinding.UNFAMILIAR_PROMPT,
    clip_pb2.AUDIO_FINDING_DC_OFFSET: types.AudioFinding.DC_OFFSET,
    clip_pb2.AUDIO_FINDING_SHORT: types.AudioFinding.SHORT,
    clip_pb2.AUDIO_FINDING_OTHER_WEIGHTS: types.AudioFinding.OTHER_WEIGHTS,
}
_MODEL_STATES = {
    model_service_pb2.MODEL_STATE_INSTALLED: types.ModelState.INSTALLED,
    model_service_pb2.MODEL_STATE_LOADING: types.ModelState.LOADING,
    model_service_pb2.MODEL_STATE_LOADED: types.ModelState.LOADED,
    model_service_pb2.MODEL_STATE_UNUSABLE: types.ModelState.UNUSABLE,
}
_ORIGINS = {
    clip_pb2.CLIP_ORIGIN_GENERATED: types.ClipOrigin.GENERATED,
    clip_pb2.CLIP_ORIGIN_IMPORTED: types.ClipOrigin.IMPORTED,
}
_JOB_STATES = {
    generation_service_pb2.JOB_STATE_QUEUED: types.JobState.QUEUED,
    generation_service_pb2.JOB_STATE_RUNNING: types.JobState.RUNNING,
    generation_service_pb2.JOB_STATE_READY: types.JobState.READY,
    generation_service_pb2.JOB_STATE_FAILED: types.JobState.FAILED,
}
_JOB_KINDS = {
    generation_service_pb2.JOB_KIND_PREVIEW: types.JobKind.PREVIEW,
    generation_service_pb2.JOB_KIND_REFINEMENT: types.JobKind.REFINEMENT,
    generation_service_pb2.JOB_KIND_BATCH: types.JobKind.BATCH,
}


def event(message: generation_service_pb2.ClipEvent) -> types.ClipsEvent | None:
    """None for events of a later contract."""
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
        case "failed":
            return types.ClipFailed(clip_id, message.failed.reason, message.failed.message)
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
        recipe=recipe(message.recipe) if message.HasField("recipe") else None,
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
        tags=tuple(message.tags),
        favourite=message.favourite,
        notes=message.notes,
        origin=_ORIGINS.get(message.origin, types.ClipOrigin.GENERATED),
        deleted_at=message.deleted_at.ToDatetime(tzinfo=UTC) if message.HasField("deleted_at") else None,
    )


def clip_page(message: clip_service_pb2.ListClipsResponse) -> types.ClipPage:
    return types.ClipPage(tuple(clip(one) for one in message.clips), message.next_page_token)


def search_hits(message: clip_service_pb2.SearchClipsResponse) -> tuple[types.SearchHit, ...]:
    return tuple(types.SearchHit(clip(hit.clip), hit.similarity) for hit in message.hits)


def job(message: generation_service_pb2.Job) -> types.Job:
    return types.Job(
        clip_id=message.clip_id,
        state=_JOB_STATES.get(message.state, types.JobState.QUEUED),
        recipe=recipe(message.recipe),
        label=message.label,
        parent_id=message.parent_id or None,
        request_id=message.request_id,
        client=message.client,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        position=message.position,
        jumps_done=message.jumps_done,
        jumps_total=message.jumps_total,
        reason=message.reason,
        message=message.message,
        kind=_JOB_KINDS.get(message.kind, types.JobKind.REFINEMENT),
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
        provenance=message.provenance,
        licence_restricted=message.licence_restricted,
        licence_accepted=message.licence_accepted,
        memory_bytes=message.memory_bytes,
        engine=message.engine,
    )
