"""A request that is sent again meets the clips of the first; ids are each client's own."""

from __future__ import annotations

import grpc
import pytest

from raw_calls import (
    FailingWrites,
    api_of,
    clips_of,
    failed_ids,
    first,
    gated_api,
    kind,
    open_api,
    read,
    refusal,
    until_leaving_is_noticed,
)
from running_daemon import HeldWrites, RunningDaemon, steered
from soundctm_daemon.tokens import TokenFile

pytestmark = pytest.mark.usefixtures("models")
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_sent_again_while_queued_running_and_done_it_is_the_same_clip() -> None:
    with gated_api() as (api, gate):
        blocker = api.generate(steps=1)
        blocker_id = first(blocker).clip_id
        gate.wait_until_reached()
        call = api.generate(steps=64, request_id=ID)
        clip_id = first(call).clip_id
        while_queued = api.generate(steps=64, request_id=ID)
        told = first(while_queued)
        assert (told.clip_id, kind(told)) == (clip_id, "queued")
        gate.let_through(1)
        clips = [clip.id for clip in clips_of(read(blocker)[0])]
        assert clips == [blocker_id]
        gate.wait_until_reached()
        while_running = api.generate(steps=64, request_id=ID)
        told = first(while_running)
        assert (told.clip_id, kind(told)) == (clip_id, "started")
        gate.let_through(10_000)
        for follower in (call, while_queued, while_running):
            events, code = read(follower)
            assert ([clip.id for clip in clips_of(events)], code) == ([clip_id], grpc.StatusCode.OK)
        events, code = read(api.generate(steps=64, request_id=ID))
        assert ([kind(event) for event in events], code) == (["clip_ready"], grpc.StatusCode.OK)
        assert events[0].clip_id == clip_id
        assert api.stored_ids() == [clip_id, blocker_id]


def test_two_at_the_same_moment_make_one_clip() -> None:
    with open_api() as api:
        calls = [api.generate(request_id=ID) for _ in range(8)]
        made = {clip.id for call in calls for clip in clips_of(read(call)[0])}
        assert api.stored_ids() == list(made)


def test_the_id_of_another_request_is_refused_by_name() -> None:
    with open_api() as api:
        clip = clips_of(read(api.generate(request_id=ID))[0])[0]
        for call in (
            api.generate(prompt="thunder", request_id=ID),
            api.generate(request_id=ID, detached=True),
            api.variations(2, request_id=ID),
            api.refine(clip.id, request_id=ID),
            api.progressively(clip.id, request_id=ID),
        ):
            code, info, _ = refusal(call)
            assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "request_id")
            assert ID in info.metadata["value"]
        assert api.stored_ids() == [clip.id]


def test_a_refused_request_does_not_use_its_id_up() -> None:
    with open_api() as api:
        assert refusal(api.generate(steps=0, request_id=ID))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert read(api.generate(steps=1, request_id=ID))[1] is grpc.StatusCode.OK


@pytest.mark.parametrize("request_id", ["", "x" * 65, "x" * 100_000, "a b", "ä", "x\n", "../x", "a.b"])
def test_what_is_no_id_is_named(request_id: str) -> None:
    with open_api() as api:
        for call in (
            api.generate(request_id=request_id),
            api.refine("x", request_id=request_id),
            api.progressively("x", request_id=request_id),
            api.rerender("{}", request_id=request_id),
        ):
            code, info, _ = refusal(call)
            assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "request_id")
            assert info.metadata["allowed"] == "1 to 64 letters, digits, '-' and '_'"


def test_another_clients_id_is_another_request() -> None:
    with RunningDaemon(steered()) as daemon:
        other_token = TokenFile(daemon.settings.state_dir).add("panel")
        with api_of(daemon) as api, api_of(daemon, other_token) as other:
            clip = clips_of(read(api.generate(request_id=ID))[0])[0]
            others = clips_of(read(other.generate(prompt="thunder", request_id=ID))[0])[0]
            assert others.id != clip.id
            assert {job.client for job in api.jobs(include_ended=True)} == {"", "panel"}


def test_the_first_call_may_leave_while_the_second_follows() -> None:
    with gated_api() as (api, gate):
        dropped = api.generate(steps=4, request_id=ID)
        clip_id = first(dropped).clip_id
        gate.wait_until_reached()
        again = api.generate(steps=4, request_id=ID)
        assert first(again).clip_id == clip_id
        dropped.cancel()
        until_leaving_is_noticed(api)
        gate.let_through(10_000)
        assert clips_of(read(again)[0])[0].id == clip_id


def test_what_was_cancelled_because_its_call_was_lost_is_made_anew_by_the_next() -> None:
    with gated_api() as (api, gate):
        lost = api.generate(steps=4, request_id=ID)
        told = first(lost)
        gate.wait_until_reached()
        watcher = api.watch(told.clip_id)
        first(watcher)
        lost.cancel()
        until_leaving_is_noticed(api)
        gate.let_through(1)
        assert read(watcher)[1] is grpc.StatusCode.CANCELLED
        gate.let_through(10_000)
        events, _ = read(api.generate(steps=4, request_id=ID))
        (clip,) = clips_of(events)
        assert clip.id != told.clip_id
        assert clip.recipe == told.queued.recipe
        assert api.stored_ids() == [clip.id]


def test_sent_again_while_its_file_is_written_it_is_the_same_clip() -> None:
    disk = HeldWrites()
    with gated_api(disk) as (api, gate):
        lost = api.generate(request_id=ID)
        clip_id = first(lost).clip_id
        gate.let_through()
        disk.wait_until_reached()
        blocker = api.generate(steps=16)
        first(blocker)
        gate.wait_until_reached()
        lost.cancel()
        until_leaving_is_noticed(api)
        again = api.generate(request_id=ID)
        assert first(again).clip_id == clip_id
        disk.let_through()
        assert [clip.id for clip in clips_of(read(again)[0])] == [clip_id]
        assert api.stored_ids() == [clip_id]


def test_what_failed_is_made_anew_with_the_seed_that_was_drawn() -> None:
    with open_api(FailingWrites(0)) as api:
        events, code = read(api.generate(request_id=ID))
        assert (kind(events[-1]), code) == ("failed", grpc.StatusCode.FAILED_PRECONDITION)
        (clip,) = clips_of(read(api.generate(request_id=ID))[0])
        assert clip.recipe == events[0].queued.recipe


def test_of_several_only_those_that_failed_are_made_anew() -> None:
    with open_api(FailingWrites(1)) as api:
        events, _ = read(api.variations(4, request_id=ID))
        (failed,) = failed_ids(events)
        seeds = {event.clip_id: event.queued.recipe.seed for event in events if kind(event) == "queued"}
        before = {clip.id for clip in clips_of(events)}
        again = clips_of(read(api.variations(4, request_id=ID))[0])
        (new,) = (clip for clip in again if clip.id not in before)
        assert {clip.id for clip in again} == before | {new.id}
        assert new.recipe.seed == seeds[failed]
        assert sorted(api.stored_ids()) == sorted(clip.id for clip in again)


def test_other_kinds_of_requests_are_met_again_too() -> None:
    with open_api() as api:
        preview = api.make()
        (refined,) = clips_of(read(api.refine(preview.id, request_id="refine-1"))[0])
        assert clips_of(read(api.refine(preview.id, request_id="refine-1"))[0]) == [refined]
        takes = clips_of(read(api.progressively(preview.id, request_id="takes_1"))[0])
        assert {clip.id for clip in clips_of(read(api.progressively(preview.id, request_id="takes_1"))[0])} == {
            take.id for take in takes
        }


