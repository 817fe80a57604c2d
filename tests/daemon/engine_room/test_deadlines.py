"""What a deadline gives: the best take that was finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine_room import Engineered, Order, Room
from running_daemon import Gate, ToldCost
from soundctm.bundle import Bundle
from soundctm.engines.costs import Costs
from soundctm.engines.protocol import Floats
from soundctm.errors import CancelledError
from soundctm_daemon import flight
from soundctm_daemon.errors import InternalError
from soundctm_daemon.jobs import Priority, Queued


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What flights take for the time: `clock.now`."""
    clock = SimpleNamespace(now=1000.0, perf_counter=time.perf_counter, time=time.time)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(flight, "time", clock)
    return clock


def test_with_time_to_spare_a_preview_is_followed_by_the_whole_plan(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine = Engineered(bundle, tiles=2)
    (order,) = opened(engine).asked(opened_order(bundle, 1060.0, steps=8, gamma=0.5, nu=2.0))
    assert order.clip.record.recipe == order.job.recipe
    assert order.jumps == [(1, 1), *((done, 8) for done in range(1, 9))]
    assert len(engine.tiles) == 4


def opened_order(bundle: Bundle, deadline_seconds: float, **wishes: Any) -> Order:
    return Order(bundle, Priority.PREVIEW, deadline_seconds, wishes)


def test_the_first_take_goes_as_a_preview_and_better_ones_as_what_they_are(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    engine.on_jump = lambda prompts: gate.wait()
    (refined,) = room.asked(room.order(prompt="refined", steps=4))
    gate.wait_until_reached()
    waiting, hasty, patient = room.asked(
        room.order(prompt="waiting"),
        Order(bundle, Priority.REFINEMENT, 1060.0, {"prompt": "hasty", "steps": 2}),
        Order(bundle, Priority.BATCH, 1060.0, {"prompt": "batch"}),
    )
    assert hasty.events == [Queued(1)]
    gate.let_through(1000)
    assert all(order.clip for order in (refined, waiting, hasty, patient))
    assert [prompt for (prompt,) in engine.jumps] == [
        "refined", "hasty", *["refined"] * 3, "waiting", *["hasty"] * 2, "batch",
    ]  # fmt: skip


def test_the_largest_plan_that_fits_is_made(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine = Engineered(bundle, Costs(ToldCost.line_of(10.0, 0.0), ToldCost.line_of(1e-9, 0.0)))

    def ten_seconds_later(prompts: list[str]) -> None:
        clock.now += 10.0

    engine.on_jump = ten_seconds_later
    (order,) = opened(engine).asked(opened_order(bundle, 1045.0, steps=16))
    assert order.clip.record.recipe.steps == 3
    assert order.jumps == [(1, 1), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("deadline_seconds", [0.0, 1000.0, 1000.5])
def test_a_preview_is_made_even_when_it_comes_late(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace, deadline_seconds: float
) -> None:
    costs = Costs(ToldCost.line_of(1.0, 0.0), ToldCost.line_of(1.0, 0.0))
    (order,) = opened(Engineered(bundle, costs)).asked(opened_order(bundle, deadline_seconds, steps=16))
    assert order.clip.record.recipe.steps == 1
    assert order.jumps == [(1, 1)]


@pytest.mark.parametrize("stage", ["jump", "tile"])
def test_when_time_runs_out_the_best_finished_take_is_given(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace, stage: str
) -> None:
    """Others used the engine: the second take would come too late, which is seen before its next step."""
    engine = Engineered(bundle, tiles=2)

    def late_jump(prompts: list[str]) -> None:
        clock.now = 2000.0 if stage == "jump" and len(engine.jumps) == 4 else clock.now

    def late_tile(seeds: list[int]) -> None:
        clock.now = 2000.0 if stage == "tile" and len(engine.tiles) == 3 else clock.now

    engine.on_jump, engine.on_tile = late_jump, late_tile
    room = opened(engine)
    (order,) = room.asked(opened_order(bundle, 1060.0, steps=16))
    assert order.clip.record.recipe.steps == 1
    assert (len(engine.jumps), len(engine.tiles)) == ((4, 2) if stage == "jump" else (17, 3))
    assert len(room.library.page(10, None)[0]) == 1


def test_when_time_runs_out_and_the_take_cannot_be_given_nobody_else_is_harmed(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine = Engineered(bundle)
    embed = engine.embed

    def broken_for_thunder(prompts: Sequence[str]) -> Floats:
        if prompts[0] == "thunder":
            raise RuntimeError("no embedding")
        return embed(prompts)

    def late(prompts: list[str]) -> None:
        clock.now = 2000.0 if prompts == ["thunder"] and engine.jumps.count(["thunder"]) == 4 else clock.now

    engine.embed, engine.on_jump = broken_for_thunder, late  # type: ignore[method-assign]
    room = opened(engine)
    hasty, other = room.asked(opened_order(bundle, 1060.0, steps=16, prompt="thunder"), room.order(steps=16))
    assert isinstance(hasty.error, InternalError)
    assert other.clip


def test_cancelled_before_its_deadline_nothing_is_stored(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine, gate = Engineered(bundle), Gate()
    engine.on_jump = lambda prompts: gate.wait() if len(engine.jumps) == 3 else None
    room = opened(engine)
    (order,) = room.asked(opened_order(bundle, 1060.0, steps=16))
    gate.wait_until_reached()
    room.scheduler.cancel(order.job.clip_id)
    gate.let_through()
    assert isinstance(order.error, CancelledError)
    assert room.library.page(10, None)[0] == []


def test_a_better_take_that_fails_leaves_the_preview(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine = Engineered(bundle)
    decode = engine.decode
    engine.decode = lambda z, seeds: decode(z, seeds) * (1.0 if len(engine.tiles) == 1 else np.nan)  # type: ignore
    (order,) = opened(engine).asked(opened_order(bundle, 1060.0, steps=16))
    assert order.clip.record.recipe.steps == 1
