"""A clip is followed by whoever asks, as often as they ask; a detached one outlives the call that asked for it."""

from __future__ import annotations

import grpc
import pytest

from raw_calls import (
    api_of,
    clips_of,
    first,
    gated_api,
    kind,
    open_api,
    read,
    refusal,
    until_leaving_is_noticed,
)
from running_daemon import RunningDaemon, steered

pytestmark = pytest.mark.usefixtures("models")


def test_a_detached_clip_outlives_its_call_and_is_watched_to_its_end() -> None:
    with gated_api() as (api, gate):
        running = api.generate(steps=4, detached=True)
        clip_id = first(running).clip_id
        gate.wait_until_reached()
        waiting = api.generate(steps=4, detached=True)
        waiting_id = first(waiting).clip_id
        running.cancel()
        waiting.cancel()
        watched_running = api.watch(clip_id)
        assert kind(first(watched_running)) == "started"
        watched_waiting = api.watch(waiting_id)
        assert kind(first(watched_waiting)) == "queued"
        until_leaving_is_noticed(api)
        gate.let_through(10_000)
        for call, made in ((watched_running, clip_id), (watched_waiting, waiting_id)):
            events, code = read(call)
            assert code is grpc.StatusCode.OK
            assert [clip.id for clip in clips_of(events)] == [made]
            assert kind(events[-1]) == "clip_ready"
        assert set(api.stored_ids()) == {clip_id, waiting_id}


def test_without_detached_who_leaves_cancels() -> None:
    with gated_api() as (api, gate):
        call = api.generate(steps=4)
        clip_id = first(call).clip_id
        gate.wait_until_reached()
        watched = api.watch(clip_id)
        first(watched)
        call.cancel()
        until_leaving_is_noticed(api)
        gate.let_through(10_000)
        events, code = read(watched)
        assert (kind(events[-1]), events[-1].failed.reason) == ("failed", "CANCELLED")
        assert code is grpc.StatusCode.CANCELLED
        assert api.stored_ids() == []


def test_watchers_come_and_go_and_all_that_stay_see_the_end() -> None:
    with gated_api() as (api, gate):
        call = api.generate(steps=3)
        clip_id = first(call).clip_id
        gate.wait_until_reached()
        watchers = [api.watch(clip_id) for _ in range(5)]
        for watcher in watchers:
            assert first(watcher).clip_id == clip_id
        watchers.pop().cancel()
        gate.let_through(10_000)
        for follower in (call, *watchers):
            events, code = read(follower)
            assert code is grpc.StatusCode.OK
            assert clips_of(events)[0].id == clip_id
            assert [event.jump.done for event in events if kind(event) == "jump"] == [1, 2, 3]


def test_watchers_that_never_read_hold_nobody_up() -> None:
    with open_api() as api:
        waiting = [api.generate(steps=64, detached=True) for _ in range(8)]
        ids = [first(call).clip_id for call in waiting]
        idle = [api.watch(clip_id) for clip_id in ids for _ in range(4)]
        made = api.make(steps=64)
        assert set(api.stored_ids()) >= {made.id}
        for clip_id, watcher in zip(ids, idle[::4], strict=True):
            assert clips_of(read(watcher)[0])[0].id == clip_id


def test_a_stored_clip_is_watched_by_its_end_alone_also_after_a_restart() -> None:
    with open_api() as api:
        clip = api.make(steps=2)
        events, code = read(api.watch(clip.id))
        assert (events[0].clip_ready.clip, code) == (clip, grpc.StatusCode.OK)
    with open_api() as api:
        events, code = read(api.watch(clip.id))
        assert [kind(event) for event in events] == ["clip_ready"]
        assert events[0].clip_ready.clip == clip


def test_a_clip_that_failed_lately_is_watched_by_its_failure() -> None:
    with RunningDaemon(steered(amplitude=float("nan"))) as daemon, api_of(daemon) as api:
        call = api.generate()
        events, _ = read(call)
        code, info, _ = refusal(api.watch(events[0].clip_id))
        assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "NON_FINITE_AUDIO")


@pytest.mark.parametrize("clip_id", ["", "nosuchclip", "../tokens.json", "x" * 10_000])
def test_a_clip_nobody_knows_is_not_found(clip_id: str) -> None:
    with open_api() as api:
        code, info, _ = refusal(api.watch(clip_id))
        assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "CLIP_NOT_FOUND")


def test_a_clip_is_cancelled_while_queued_while_running_and_not_once_it_is_done() -> None:
    with gated_api() as (api, gate):
        running = api.generate(steps=4)
        running_id = first(running).clip_id
        gate.wait_until_reached()
        queued = api.generate(steps=16)
        queued_id = first(queued).clip_id
        api.cancel(queued_id)
        assert read(queued)[1] is grpc.StatusCode.CANCELLED
        api.cancel(running_id)
        gate.let_through(10_000)
        events, code = read(running)
        assert (kind(events[-1]), code) == ("failed", grpc.StatusCode.CANCELLED)
        done = api.make()
        for clip_id in (running_id, queued_id, done.id, "nosuchclip"):
            with pytest.raises(grpc.RpcError) as caught:
                api.cancel(clip_id)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert api.stored_ids() == [done.id]
