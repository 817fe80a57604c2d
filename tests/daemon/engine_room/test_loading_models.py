"""Models come and go beside the clips being made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine_room import Engineered, Room, held
from running_daemon import PATIENCE_SECONDS, Gate
from soundctm.bundle import Bundle
from soundctm.engines.protocol import Engine
from soundctm_daemon.engines import States
from soundctm_daemon.errors import ModelInUseError, ModelLoadError, ModelMemoryBusyError
from soundctm_daemon.jobs import Priority
from tiny import write_tiny_bundle


def test_a_model_that_loads_slowly_holds_up_nobody_else(
    opened: Callable[..., Room], bundle: Bundle, tmp_path: Path
) -> None:
    other, gate = write_tiny_bundle(tmp_path / "other", seed=1), Gate()

    def load(asked: Bundle) -> Engine:
        if asked.digest == other.digest:
            gate.wait()
        return Engineered(asked)

    room = opened(load)
    (slow,) = room.asked(room.order(Priority.PREVIEW, bundle=other))
    gate.wait_until_reached()
    assert room.asked(room.order())[0].clip
    gate.let_through()
    assert slow.clip


def test_a_model_that_cannot_be_loaded_fails_its_clips_and_the_next_one_tries_again(
    opened: Callable[..., Room], bundle: Bundle, tmp_path: Path
) -> None:
    other, faults = write_tiny_bundle(tmp_path / "other", seed=1), [RuntimeError("a damaged layer")]

    def load(asked: Bundle) -> Engine:
        if asked.digest == other.digest and faults:
            raise faults.pop()
        return Engineered(asked)

    room = opened(load)
    (failed,) = room.asked(room.order(bundle=other))
    assert isinstance(failed.error, ModelLoadError)
    assert room.asked(room.order())[0].clip
    assert room.asked(room.order(bundle=other))[0].clip


def test_a_model_that_needs_the_memory_of_clips_being_made_waits_for_them(
    opened: Callable[..., Room], bundle: Bundle, tmp_path: Path
) -> None:
    """And whoever came after it waits for it: it is not put off for ever."""
    other, gate, refused = write_tiny_bundle(tmp_path / "other", seed=1), Gate(), threading.Event()
    engines = {bundle.digest: Engineered(bundle), other.digest: Engineered(other)}
    room = opened(lambda asked: engines[asked.digest], budget_bytes=1_500_000)
    seen: list[States] = []

    def watch(states: States) -> None:
        seen.append(states)
        if any(other.digest in before for before in seen) and other.digest not in states:
            refused.set()

    room.on_states = watch
    engines[bundle.digest].on_jump = lambda prompts: gate.wait()
    (first,) = room.asked(room.order(steps=2))
    gate.wait_until_reached()
    (crowded,) = room.asked(room.order(bundle=other))
    behind = room.asked(*(room.order() for _ in range(3)))
    gate.let_through()
    assert refused.wait(PATIENCE_SECONDS)
    gate.let_through(100)
    assert first.clip and crowded.clip and all(order.clip for order in behind)
    ready = [order.clip.record.created_at for order in (first, crowded, *behind)]
    assert ready == sorted(ready)


def test_a_model_that_fits_beside_none_of_those_in_use_elsewhere_says_so(
    opened: Callable[..., Room], bundle: Bundle, tmp_path: Path
) -> None:
    other = write_tiny_bundle(tmp_path / "other", seed=1)
    room = opened(Engineered, budget_bytes=1_500_000)
    assert room.asked(room.order())[0].clip
    room.pool.pin(bundle.digest)
    (order,) = room.asked(room.order(bundle=other))
    assert isinstance(order.error, ModelMemoryBusyError)
    room.pool.unpin(bundle.digest)
    assert room.asked(room.order(bundle=other))[0].clip


def test_clips_in_flight_pin_their_model(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    with pytest.raises(ModelInUseError):
        room.pool.unload(bundle.digest)
    gate.let_through()
    assert first.clip
    room.pool.unload(bundle.digest)
    assert room.asked(room.order())[0].clip
