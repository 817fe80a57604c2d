"""Several seeds of one request, made together; takes of one clip in ever more jumps."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import soundfile

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
from running_daemon import RunningDaemon

pytestmark = pytest.mark.usefixtures("models")
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_seeds_follow_one_another_and_begin_again_at_their_end() -> None:
    with open_api() as api:
        events, code = read(api.variations(4, seed=2**32 - 2, label="four"))
        clips = clips_of(events)
        assert code is grpc.StatusCode.OK
        assert {clip.recipe.seed for clip in clips} == {2**32 - 2, 2**32 - 1, 0, 1}
        assert {clip.label for clip in clips} == {"four"}
        assert {(clip.recipe.prompt, clip.recipe.steps, clip.parent_id) for clip in clips} == {("rain", 1, "")}
        assert sorted(api.stored_ids()) == sorted(clip.id for clip in clips)


def test_every_clip_has_its_whole_story() -> None:
    with open_api() as api:
        events, _ = read(api.variations(3, steps=2))
        for clip in clips_of(events):
            told = [kind(event) for event in events if event.clip_id == clip.id]
            assert told[0] == "queued"
            assert [what for what in told if what != "queued"] == ["started", "jump", "jump", "clip_ready"]


def test_named_seeds_are_taken_as_they_are() -> None:
    with open_api() as api:
        clips = clips_of(read(api.variations(60, seeds=(7, 3, 2**32 - 1)))[0])
        assert sorted(clip.recipe.seed for clip in clips) == [3, 7, 2**32 - 1]


def test_without_a_seed_one_is_drawn() -> None:
    with open_api() as api:
        drawn = [min(clip.recipe.seed for clip in clips_of(read(api.variations(2))[0])) for _ in range(3)]
        assert len(set(drawn)) == 3


def test_a_variation_is_the_clip_of_its_seed() -> None:
    with RunningDaemon() as daemon, api_of(daemon) as api:
        variation = next(clip for clip in clips_of(read(api.variations(3, seed=5))[0]) if clip.recipe.seed == 6)
        alone = api.make(seed=6)
        assert alone.recipe == variation.recipe
        audio, expected = (soundfile.read(clip.path, dtype="float32")[0] for clip in (variation, alone))
        np.testing.assert_allclose(audio, expected, atol=1e-5)


def test_one_that_fails_does_not_stop_the_others() -> None:
    with open_api(FailingWrites(1)) as api:
        events, code = read(api.variations(4, seed=1))
        assert (len(clips_of(events)), len(failed_ids(events)), code) == (3, 1, grpc.StatusCode.OK)
        assert len(api.stored_ids()) == 3


def test_where_all_fail_the_first_error_ends_the_call() -> None:
    with open_api(FailingWrites(0, 1, 2)) as api:
        call = api.variations(3)
        events, code = read(call)
        assert (len(failed_ids(events)), code) == (3, grpc.StatusCode.FAILED_PRECONDITION)
        assert "write 0 is told to fail" in call.details()


def test_one_is_cancelled_and_the_others_are_made() -> None:
    with gated_api() as (api, gate):
        blocker = api.generate(steps=1)
        first(blocker)
        gate.wait_until_reached()
        call = api.variations(3, steps=16)
        one = first(call).clip_id
        api.cancel(one)
        gate.let_through(10_000)
        events, code = read(call)
        assert (failed_ids(events), len(clips_of(events)), code) == ([one], 2, grpc.StatusCode.OK)


@pytest.mark.parametrize("detached", [False, True])
def test_who_leaves_cancels_all_that_is_not_done_unless_detached(detached: bool) -> None:
    with gated_api() as (api, gate):
        call = api.variations(3, steps=16, detached=detached)
        first(call)
        gate.wait_until_reached()
        ids = [job.clip_id for job in api.jobs()]
        watchers = [api.watch(clip_id) for clip_id in ids]
        for watcher in watchers:
            first(watcher)
        call.cancel()
        until_leaving_is_noticed(api)
        gate.let_through(10_000)
        expected = grpc.StatusCode.OK if detached else grpc.StatusCode.CANCELLED
        assert [read(watcher)[1] for watcher in watchers] == [expected] * 3
        assert sorted(api.stored_ids()) == (sorted(ids) if detached else [])


@pytest.mark.parametrize(
    ("count", "fields", "field"),
    [
        (0, {}, "count"),
        (65, {}, "count"),
        (2**32 - 1, {}, "count"),
        (1, {"seeds": tuple(range(65))}, "seeds"),
        (1, {"seeds": (1, 2, 1)}, "seeds"),
        (2, {"within_seconds": 1.0}, "within_seconds"),
        (2, {"prompt": ""}, "prompt"),
        (2, {"steps": 0}, "steps"),
        (2, {"label": "x" * 201}, "label"),
        (2, {"request_id": "no id"}, "request_id"),
    ],
)
def test_what_cannot_be_varied_is_named(count: int, fields: dict[str, object], field: str) -> None:
    with open_api() as api:
        code, info, retry = refusal(api.variations(count, **fields))  # type: ignore[arg-type]
        assert (code, info.metadata["field"], retry) == (INVALID, field, None)
        assert api.jobs(include_ended=True) == []


def test_more_than_may_ever_be_in_flight_is_refused_for_good() -> None:
    with open_api(client_jobs=4) as api:
        code, info, _ = refusal(api.variations(5))
        assert (code, info.metadata["allowed"]) == (INVALID, "1 to 4")
        assert len(clips_of(read(api.variations(4))[0])) == 4


def test_takes_of_a_clip_come_in_ever_more_jumps() -> None:
    with open_api() as api:
        preview = api.make(seed=3, negative_prompt="dog", nu=2.0, omega=2.0, label="a name")
        events, code = read(api.progressively(preview.id))
        takes = clips_of(events)
        assert (sorted(take.recipe.steps for take in takes), code) == ([2, 4, 8, 16], grpc.StatusCode.OK)
        for take in takes:
            assert (take.parent_id, take.label) == (preview.id, "a name")
            take.recipe.steps = preview.recipe.steps
            assert take.recipe == preview.recipe
        four = next(take for take in clips_of(read(api.progressively(preview.id, steps=[4], gamma=0.5))[0]))
        assert (four.recipe.steps, four.recipe.gamma) == (4, 0.5)
        assert sorted(take.recipe.steps for take in clips_of(read(api.progressively(four.id))[0])) == [8, 16]


def test_one_good_enough_ends_the_call_and_the_rest() -> None:
    with gated_api() as (api, gate):
        gate.let_through(1)
        preview = api.make()
        gate.wait_until_reached()
        call = api.progressively(preview.id, steps=[2, 32])
        first(call)
        ids = {job.recipe.steps: job.clip_id for job in api.jobs()}
        long_one = api.watch(ids[32])
        first(long_one)
        call.cancel()
        until_leaving_is_noticed(api)
        gate.let_through(10_000)
        assert read(long_one)[1] is grpc.StatusCode.CANCELLED
        assert ids[32] not in api.stored_ids()


@pytest.mark.parametrize(
    "steps", [[1], [2, 2], [4, 2], [2, 65], [0, 2], list(range(2, 11)), [2**32 - 1], list(range(2, 60_000))]
)
def test_takes_that_do_not_rise_are_named(steps: list[int]) -> None:
    with open_api() as api:
        preview = api.make()
        code, info, _ = refusal(api.progressively(preview.id, steps=steps))
        assert (code, info.metadata["field"]) == (INVALID, "steps")


def test_a_clip_that_has_them_all_names_what_is_left() -> None:
    with open_api() as api:
        clip = api.make(steps=16)
        code, info, _ = refusal(api.progressively(clip.id))
        assert (code, info.metadata["value"]) == (INVALID, "absent")
        assert "more than the clip's 16, up to 64" in info.metadata["allowed"]
        for gamma in (-0.1, 1.1, float("nan")):
            code, info, _ = refusal(api.progressively(clip.id, steps=[17], gamma=gamma))
            assert (code, info.metadata["field"]) == (INVALID, "gamma")
        code, info, _ = refusal(api.progressively("nosuchclip"))
        assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "CLIP_NOT_FOUND")
