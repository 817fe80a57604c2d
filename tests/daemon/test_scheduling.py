"""Who is made next, and how a clip is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, steered
from soundgen import types
from soundgen.client import Client
from soundgen.errors import (
    ClipCancelledError,
    DaemonUnreachableError,
    DeadlineExceededError,
    ExhaustedError,
    NotFoundError,
    SoundgenError,
)

pytestmark = pytest.mark.usefixtures("models")


class Call(threading.Thread):
    """One `generate` on its own thread; starts at once."""

    def __init__(self, client: Client, steps: int = 1) -> None:
        super().__init__()
        self.events: list[types.Event] = []
        self.error: SoundgenError | None = None
        self._queued = threading.Event()
        self._stream = client.generate("rain", seconds=0.5, steps=steps)
        self.start()

    def run(self) -> None:
        try:
            for event in self._stream:
                self.events.append(event)
                self._queued.set()
        except SoundgenError as error:
            self.error = error
            self._queued.set()

    @property
    def clip_id(self) -> str:
        assert self._queued.wait(PATIENCE_SECONDS)
        return self.events[0].clip_id

    def wait(self) -> None:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()


@contextmanager
def gated_daemon(**settings: int) -> Iterator[tuple[RunningDaemon, Gate]]:
    gate = Gate()
    with RunningDaemon(steered(gate.wait), **settings) as daemon:
        yield daemon, gate
        gate.let_through(1000)


def queued_calls(client: Client, *steps: int) -> list[Call]:
    """Calls that are queued in this very order."""
    calls = []
    for count in steps:
        calls.append(Call(client, count))
        assert calls[-1].clip_id
    return calls


def test_previews_go_before_refinements_and_positions_are_told() -> None:
    with gated_daemon() as (_, gate), Client() as client:
        (running,) = queued_calls(client, 1)
        gate.wait_until_reached()
        refinement, first, second = queued_calls(client, 16, 1, 2)
        gate.let_through(1000)
        for call in (running, refinement, first, second):
            call.wait()
    positions = [event.position for event in refinement.events if isinstance(event, types.Queued)]
    assert positions == [1, 2, 3, 2, 1, 0]
    stored = [call.events[-1] for call in (first, second, refinement)]
    assert all(isinstance(event, types.ClipReady) for event in stored)
    times = [event.clip.created_at for event in stored if isinstance(event, types.ClipReady)]
    assert times == sorted(times)


def test_a_running_clip_stops_before_its_next_jump_and_nothing_is_stored() -> None:
    with gated_daemon() as (_, gate), Client() as client:
        call = Call(client, steps=16)
        gate.wait_until_reached()
        client.cancel(call.clip_id)
        gate.let_through()
        call.wait()
        assert isinstance(call.error, ClipCancelledError)
        assert not gate.reached.acquire(blocking=False)
        assert client.clips().clips == ()


def test_a_waiting_clip_is_cancelled_at_once() -> None:
    with gated_daemon() as (_, gate), Client() as client:
        running, waiting, last = queued_calls(client, 1, 16, 16)
        gate.wait_until_reached()
        client.cancel(waiting.clip_id)
        waiting.wait()
        assert isinstance(waiting.error, ClipCancelledError)
        gate.let_through(1000)
        running.wait()
        last.wait()
        assert [clip.id for clip in client.clips().clips] == [last.clip_id, running.clip_id]


def test_what_is_not_in_flight_cannot_be_cancelled() -> None:
    with gated_daemon() as (_, gate), Client() as client:
        gate.let_through()
        done = Call(client)
        done.wait()
        with pytest.raises(NotFoundError, match="it may be done already") as caught:
            client.cancel(done.clip_id)
        assert caught.value.reason == "NOT_IN_FLIGHT"


def test_who_leaves_cancels_the_clip() -> None:
    with gated_daemon() as (daemon, gate), Client() as client:
        stream = client.generate("rain", seconds=0.5, steps=16)
        next(stream)
        gate.wait_until_reached()
        stream.close()
        daemon.wait_until_told_to_stop()
        gate.let_through(17)  # enough to finish
        following = Call(client)
        following.wait()
        assert [clip.id for clip in client.clips().clips] == [following.clip_id]


def test_a_deadline_cancels_the_clip() -> None:
    with gated_daemon() as (daemon, gate), Client() as client:
        with pytest.raises(DeadlineExceededError):
            list(client.generate("rain", seconds=0.5, steps=16, timeout_seconds=0.5))
        daemon.wait_until_told_to_stop()
        gate.let_through(17)
        following = Call(client)
        following.wait()
        assert [clip.id for clip in client.clips().clips] == [following.clip_id]


def test_a_full_queue_refuses_and_keeps_what_it_holds() -> None:
    with gated_daemon(queue_limit=1) as (_, gate), Client() as client:
        (running,) = queued_calls(client, 1)
        gate.wait_until_reached()
        (waiting,) = queued_calls(client, 1)
        with pytest.raises(ExhaustedError, match="1 clips are waiting already") as caught:
            list(client.generate("rain", seconds=0.5))
        assert caught.value.reason == "QUEUE_FULL"
        gate.let_through(2)
        for call in (running, waiting):
            call.wait()
            assert isinstance(call.events[-1], types.ClipReady)


def test_draining_finishes_what_is_in_flight() -> None:
    with gated_daemon() as (daemon, gate), Client() as client:
        call = Call(client, steps=2)
        gate.wait_until_reached()
        daemon.request_stop()
        with pytest.raises(DaemonUnreachableError, match="is stopping") as caught:
            while True:  # until the daemon has begun to drain, it takes clips
                next(client.generate("rain", seconds=0.5))
        assert caught.value.reason == "DAEMON_STOPPING"
        gate.let_through(1000)
        call.wait()
        assert isinstance(call.events[-1], types.ClipReady)
    assert daemon.drained


def test_what_takes_longer_than_the_drain_was_not_cancelled_and_may_be_asked_for_again() -> None:
    with gated_daemon(drain_seconds=0) as (daemon, gate), Client(reconnect_seconds=0.0) as client:
        running, waiting = queued_calls(client, 16, 16)
        gate.wait_until_reached()
        daemon.request_stop()
        waiting.wait()
        gate.let_through()
        running.wait()
        for call in (running, waiting):
            assert isinstance(call.error, DaemonUnreachableError)
            assert (call.error.reason, call.error.retry_after_seconds) == ("DAEMON_STOPPING", 1.0)
    assert daemon.drained


def test_who_was_cut_short_by_a_stop_goes_on_with_the_next_daemon() -> None:
    gate = Gate()
    with RunningDaemon(steered(gate.wait), drain_seconds=0) as daemon:
        client = Client()
        call = Call(client, steps=2)
        gate.wait_until_reached()
        daemon.request_stop()
        daemon.wait_until_told_to_stop()
        gate.let_through()
    with RunningDaemon(steered()), client:
        call.wait()
        assert isinstance(call.events[-1], types.ClipReady)
        assert [clip.id for clip in client.clips().clips] == [call.events[-1].clip_id]
