"""The clips in flight in the order they will be made, and those that ended lately."""

from __future__ import annotations

import time

import pytest

from raw_calls import FailingWrites, api_of, first, gated_api, open_api, read
from running_daemon import RunningDaemon, steered
from soundctm_daemon.tokens import TokenFile
from soundgen.v1 import generation_service_pb2 as contract

pytestmark = pytest.mark.usefixtures("models")


def test_in_flight_the_running_one_comes_first_then_those_that_wait() -> None:
    with gated_api() as (api, gate):
        calls = [api.generate(steps=16, label="running")]
        queued = first(calls[0])
        gate.wait_until_reached()
        for label, steps in (("refinement", 32), ("preview", 2)):
            calls.append(api.generate(steps=steps, label=label, request_id=f"id-{label}"))
            first(calls[-1])
        running, *waiting = api.jobs()
        assert running.state == contract.JOB_STATE_RUNNING
        assert (running.clip_id, running.recipe, running.label) == (queued.clip_id, queued.queued.recipe, "running")
        assert (running.position, running.jumps_done, running.jumps_total) == (0, 0, 16)
        assert [(job.label, job.request_id, job.state) for job in waiting] == [
            ("preview", "id-preview", contract.JOB_STATE_QUEUED),
            ("refinement", "id-refinement", contract.JOB_STATE_QUEUED),
        ]
        assert [job.kind for job in waiting] == [contract.JOB_KIND_PREVIEW, contract.JOB_KIND_REFINEMENT]
        assert [job.position for job in waiting] == sorted(job.position for job in waiting)
        assert 0 < running.created_at.seconds <= time.time()
        assert api.jobs(include_ended=True) == [running, *waiting]


def test_jumps_are_counted_as_they_are_done() -> None:
    with gated_api() as (api, gate):
        call = api.generate(steps=3)
        gate.wait_until_reached()
        gate.let_through(2)
        while next(call).event.jump.done < 2:
            continue
        (job,) = api.jobs()
        assert (job.jumps_done, job.jumps_total) == (2, 3)


def test_those_that_ended_are_listed_when_asked_for_the_latest_first() -> None:
    with open_api(FailingWrites(1)) as api:
        preview = api.make()
        failed = read(api.generate(label="fails"))[0][-1]
        (refined,) = (event.clip_ready.clip for event in read(api.refine(preview.id, steps=2))[0][-1:])
        assert api.jobs() == []
        latest, middle, oldest = api.jobs(include_ended=True)
        assert [latest.state, middle.state, oldest.state] == [
            contract.JOB_STATE_READY, contract.JOB_STATE_FAILED, contract.JOB_STATE_READY
        ]  # fmt: skip
        assert (latest.clip_id, latest.parent_id, latest.recipe) == (refined.id, preview.id, refined.recipe)
        assert (latest.jumps_done, latest.jumps_total, latest.reason) == (2, 2, "")
        assert (middle.clip_id, middle.reason, middle.message) == (
            failed.clip_id, failed.failed.reason, failed.failed.message
        )  # fmt: skip


def test_every_client_sees_whose_they_are_and_may_watch_and_cancel_them() -> None:
    with RunningDaemon(steered()) as daemon:
        token = TokenFile(daemon.settings.state_dir).add("panel")
        with api_of(daemon, token) as panel, api_of(daemon) as owner:
            clip = panel.make()
            (job,) = owner.jobs(include_ended=True)
            assert (job.clip_id, job.client) == (clip.id, "panel")
            assert read(owner.watch(clip.id))[0][0].clip_ready.clip == clip
