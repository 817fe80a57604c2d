"""Whoever asks for too much is told so at once, and when to ask again; nothing of it is queued."""

from __future__ import annotations

import grpc
import pytest

from raw_calls import api_of, clips_of, first, gated_api, read, refusal
from running_daemon import Gate, RunningDaemon, steered
from soundctm.errors import SoundCTMError
from soundctm_daemon import status
from soundctm_daemon.errors import QueueFullError, RetryLaterError
from soundctm_daemon.tokens import TokenFile

pytestmark = pytest.mark.usefixtures("models")
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_full_queue_says_when_to_ask_again() -> None:
    with gated_api(queue_limit=2) as (api, gate):
        calls = [api.generate(steps=16)]
        first(calls[0])
        gate.wait_until_reached()
        for _ in range(2):
            calls.append(api.generate(steps=16))
            first(calls[-1])
        code, info, retry = refusal(api.generate())
        assert (code, info.reason) == (EXHAUSTED, "QUEUE_FULL")
        assert retry is not None
        assert 0.1 <= retry.retry_delay.ToTimedelta().total_seconds() <= 60.0
        assert len(api.jobs(include_ended=True)) == 3
        gate.let_through(10_000)
        for call in calls:
            assert read(call)[1] is grpc.StatusCode.OK
        assert read(api.generate())[1] is grpc.StatusCode.OK


def test_of_a_group_all_are_queued_or_none() -> None:
    with gated_api(queue_limit=3) as (api, gate):
        running = api.generate(steps=16)
        first(running)
        gate.wait_until_reached()
        waiting = api.generate(steps=16)
        first(waiting)
        code, info, _ = refusal(api.variations(3, request_id="three"))
        assert (code, info.reason) == (EXHAUSTED, "QUEUE_FULL")
        assert len(api.jobs(include_ended=True)) == 2
        gate.let_through(10_000)
        read(running), read(waiting)
        assert len(clips_of(read(api.variations(3, request_id="three"))[0])) == 3  # its id was not used up


def test_one_client_has_a_share_and_another_has_its_own() -> None:
    gate = Gate()
    with RunningDaemon(steered(gate.wait), client_jobs=3) as daemon:
        token = TokenFile(daemon.settings.state_dir).add("panel")
        with api_of(daemon, token) as panel, api_of(daemon) as owner:
            calls = [panel.generate(steps=16, detached=True) for _ in range(2)]
            for call in calls:
                first(call)
            code, info, retry = refusal(panel.variations(2))
            assert (code, info.reason) == (EXHAUSTED, "TOO_MANY_JOBS")
            assert retry is not None
            assert retry.retry_delay.ToTimedelta().total_seconds() > 0
            calls += [panel.generate(), owner.generate()]
            for call in calls[-2:]:
                assert first(call).clip_id
            assert refusal(panel.generate())[1].reason == "TOO_MANY_JOBS"
            gate.let_through(10_000)
            for call in calls:
                assert read(call)[1] is grpc.StatusCode.OK
            assert read(panel.variations(3))[1] is grpc.StatusCode.OK


def test_every_error_that_passes_by_itself_says_when_to_ask_again() -> None:
    kinds = [SoundCTMError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    passing = [kind for kind in kinds if status.code_of(kind.__new__(kind)) in (EXHAUSTED, grpc.StatusCode.UNAVAILABLE)]
    assert QueueFullError in passing
    assert [kind for kind in passing if not issubclass(kind, RetryLaterError)] == []


def test_a_daemon_that_stops_says_when_another_may_be_there() -> None:
    with gated_api(drain_seconds=7.0) as (api, gate):
        call = api.generate(steps=1)
        first(call)
        gate.wait_until_reached()
        api.daemon.request_stop()
        code = grpc.StatusCode.OK
        while code is not grpc.StatusCode.UNAVAILABLE:  # until it has begun to drain, it takes clips
            attempt = api.generate()
            try:
                first(attempt)
                attempt.cancel()
            except grpc.RpcError:
                code, info, retry = refusal(attempt)
        assert info.reason == "DAEMON_STOPPING"
        assert retry is not None
        assert retry.retry_delay.seconds == 7
        gate.let_through(10_000)
        assert read(call)[1] is grpc.StatusCode.OK
