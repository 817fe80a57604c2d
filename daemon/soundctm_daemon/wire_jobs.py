"""Jobs and what happens to them -> messages of the contract."""

from __future__ import annotations

from soundctm_daemon import wire
from soundctm_daemon.clip import StoredClip
from soundctm_daemon.job_table import JobState, JobView
from soundctm_daemon.jobs import Failed, Job, JobEvent, JumpDone, Priority, Queued, Ready, Started
from soundgen.v1 import generation_service_pb2

_STATES = {
    JobState.QUEUED: generation_service_pb2.JOB_STATE_QUEUED,
    JobState.RUNNING: generation_service_pb2.JOB_STATE_RUNNING,
    JobState.READY: generation_service_pb2.JOB_STATE_READY,
    JobState.FAILED: generation_service_pb2.JOB_STATE_FAILED,
}
_KINDS = {
    Priority.PREVIEW: generation_service_pb2.JOB_KIND_PREVIEW,
    Priority.REFINEMENT: generation_service_pb2.JOB_KIND_REFINEMENT,
    Priority.BATCH: generation_service_pb2.JOB_KIND_BATCH,
}


def event_message(event: JobEvent, job: Job, model_loading: bool) -> generation_service_pb2.ClipEvent:
    message = generation_service_pb2.ClipEvent(clip_id=job.clip_id)
    match event:
        case Queued(position):
            message.queued.position = position
            message.queued.model_loading = model_loading
            message.queued.recipe.CopyFrom(wire.recipe_message(job.model, job.recipe))
        case Started():
            message.started.SetInParent()
        case JumpDone(done, total):
            message.jump.done, message.jump.total = done, total
        case Ready(clip):
            return ready_message(clip)
        case Failed(error):
            message.failed.reason, message.failed.message = error.reason, str(error)
    return message


def ready_message(clip: StoredClip) -> generation_service_pb2.ClipEvent:
    message = generation_service_pb2.ClipEvent(clip_id=clip.record.id)
    message.clip_ready.clip.CopyFrom(wire.clip_message(clip))
    return message


def job_message(view: JobView) -> generation_service_pb2.Job:
    job, error = view.job, view.error
    message = generation_service_pb2.Job(
        clip_id=job.clip_id,
        state=_STATES[view.state],
        recipe=wire.recipe_message(job.model, view.recipe),
        label=job.label,
        parent_id=job.parent_id,
        request_id=job.request_id,
        client=job.client,
        position=view.position,
        jumps_done=view.jumps_done,
        jumps_total=view.jumps_total,
        reason="" if error is None else error.reason,
        message="" if error is None else str(error),
        kind=_KINDS[job.priority],
    )
    message.created_at.FromMicroseconds(round(job.created_at * 1e6))
    return message
