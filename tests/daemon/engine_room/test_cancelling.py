"""Cancelling, stopping, and calls between the ticks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from engine_room import Engineered, Room, held
from running_daemon import ALL_TOGETHER, PATIENCE_SECONDS, Gate, HeldWrites
from soundctm.bundle import Bundle
from soundctm.errors import CancelledError
from soundctm_daemon import worker
from soundctm_daemon.errors import DaemonStoppingError, NotInFlightError, QueueFullError
from soundctm_daemon.jobs import JumpDone, Priority, Queued, Ready, Started


def test_a_clip_is_cancelled_before_its_next_tile(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, tiles=3), Gate()
    room = opened(engine)
    engine.on_tile = lambda seeds: gate.wait()
    (order,) = room.asked(room.order())
    gate.wait_until_reached()
    room.scheduler.cancel(order.job.clip_id)
    gate.let_through(3)
    assert isinstance(order.error, CancelledError)
    assert len(engine.tiles) == 1
    assert room.library.page(10, None)[0] == []


def test_a_tick_spends_little_on_clips_that_begin_in_it(
    opened: Callable[..., Room], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_BEGIN_SECONDS", 0.0)
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    orders = room.asked(*(room.order(prompt=str(k), steps=3) for k in range(3)))
    gate.let_through()
    assert first.clip and all(order.clip for order in orders)
    assert engine.jumps[1:4] == [["0"], ["0", "1"], ["0", "1", "2"]]


def test_cancelling_one_of_a_batch_leaves_the_others(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    engine.on_jump = lambda prompts: gate.wait()
    orders = room.asked(*(room.order(prompt=str(k), steps=4) for k in range(3)))
    gate.let_through()
    gate.wait_until_reached()
    room.scheduler.cancel(orders[1].job.clip_id)
    gate.let_through(100)
    assert isinstance(orders[1].error, CancelledError)
    assert first.clip and orders[0].clip and orders[2].clip
    assert engine.jumps[1:] == [["0", "1", "2"], *[["0", "2"]] * 3]


def test_a_stop_ends_what_waits_is_made_or_is_to_be_stored_and_leaves_the_file_being_written(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine, gate, disk = Engineered(bundle), Gate(), HeldWrites()
    room = opened(engine, write_file=disk)
    engine.on_jump = lambda prompts: gate.wait() if prompts == ["third"] else None
    orders = room.asked(*(room.order(prompt=prompt) for prompt in ("first", "second", "third", "fourth")))
    disk.wait_until_reached()
    gate.wait_until_reached()  # whoever went before it is made
    with pytest.raises(NotInFlightError):
        room.scheduler.cancel(orders[0].job.clip_id)
    room.scheduler.stop_all()
    gate.let_through()
    disk.let_through()
    assert orders[0].clip
    assert [order.error.reason for order in orders[1:]] == ["DAEMON_STOPPING"] * 3
    assert room.scheduler.wait_idle(PATIENCE_SECONDS)
    assert [clip.record.id for clip in room.library.page(9, None)[0]] == [orders[0].job.clip_id]


def test_who_cancelled_first_is_told_so_when_the_daemon_stops(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    room.scheduler.cancel(first.job.clip_id)
    room.scheduler.stop_all()
    gate.let_through()
    assert isinstance(first.error, CancelledError)


def test_many_jobs_are_queued_all_or_none(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine, queue_limit=3)
    first = held(room, engine, gate)
    waiting = room.asked(room.order(), room.order())
    refused = [room.order(), room.order()]
    with pytest.raises(QueueFullError, match="2 clips are waiting already, 2 more were asked for, and 3 may wait"):
        room.asked(*refused)
    assert not refused[0].events and not refused[1].events
    with pytest.raises(NotInFlightError):
        room.scheduler.cancel(refused[0].job.clip_id)
    waiting += room.asked(room.order(Priority.PREVIEW))
    waited, running = room.scheduler.load()
    assert (dict(waited), dict(running)) == ({Priority.REFINEMENT: 2, Priority.PREVIEW: 1}, {Priority.PREVIEW: 1})
    gate.let_through()
    assert first.clip and all(order.clip for order in waiting)
    positions = [event.position for event in waiting[1].events if isinstance(event, Queued)]
    assert positions == [2, 3, 2, 1, 0]
    assert [type(event) for event in first.events] == [Queued, Started, JumpDone, Ready]


def test_a_call_runs_on_the_engines_thread_between_ticks(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    called: Future[str] = room.worker.call(lambda: threading.current_thread().name)
    failing: Future[float] = room.worker.call(lambda: 1 / 0)
    assert not called.done()
    gate.let_through()
    assert called.result(PATIENCE_SECONDS) == "engine"
    with pytest.raises(ZeroDivisionError):
        failing.result(PATIENCE_SECONDS)
    assert first.clip


def test_after_the_end_a_call_says_so(opened: Callable[..., Room], bundle: Bundle) -> None:
    room = opened(Engineered(bundle))
    room.scheduler.end()
    room.worker.join(PATIENCE_SECONDS)
    with pytest.raises(DaemonStoppingError):
        room.worker.call(lambda: 1).result(PATIENCE_SECONDS)
