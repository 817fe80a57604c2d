"""What is ready shares steps, and what is urgent does not wait for the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine_room import Engineered, Room, held, read
from running_daemon import ALL_TOGETHER, ONE_BY_ONE, Gate
from soundctm.bundle import Bundle
from soundctm.engines.torch import load_engine
from soundctm.render import render
from soundctm_daemon.jobs import Priority


def test_what_is_ready_shares_forwards_and_tiles_whatever_its_plan(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER, tiles=2), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    orders = room.asked(
        *(room.order(prompt=f"{steps} jumps", steps=steps, seed=steps) for steps in (1, 2, 3)),
        room.order(prompt="with nu", negative_prompt="without", nu=2.0, steps=2, seed=9),
    )
    gate.let_through()
    assert [order.clip.record.recipe.steps for order in (first, *orders)] == [1, 1, 2, 3, 2]
    assert sorted(map(len, engine.jumps[1:]), reverse=True) == [5, 4, 1]
    assert [prompts for prompts in engine.jumps if len(prompts) == 5] == [
        ["1 jumps", "2 jumps", "3 jumps", "with nu", "without"]
    ]
    assert [2, 9] in engine.tiles  # whose jumps ended together
    assert orders[2].jumps == [(1, 3), (2, 3), (3, 3)]


def test_where_sharing_gains_nothing_a_preview_waits_for_one_step_only(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine, gate = Engineered(bundle, ONE_BY_ONE, tiles=2), Gate()
    room = opened(engine)
    engine.on_jump = lambda prompts: gate.wait()
    refinements = room.asked(*(room.order(prompt=f"refined {k}", steps=4) for k in range(3)))
    gate.wait_until_reached()
    (preview,) = room.asked(room.order(Priority.PREVIEW, prompt="preview", steps=1))
    gate.let_through(1000)
    assert preview.clip and all(order.clip for order in refinements)
    assert engine.jumps[:3] == [["refined 0"], ["preview"], ["refined 0"]]
    assert [prompt for (prompt,) in engine.jumps[2:]] == ["refined 0"] * 3 + ["refined 1"] * 4 + ["refined 2"] * 4


def test_a_preview_goes_between_the_tiles_of_others(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, tiles=3), Gate()
    room = opened(engine)
    engine.on_tile = lambda seeds: gate.wait() if seeds == [1] else None
    (refinement,) = room.asked(room.order(steps=2, seed=1))
    gate.wait_until_reached()
    (preview,) = room.asked(room.order(Priority.PREVIEW, seed=2))
    gate.let_through(3)
    assert preview.clip and refinement.clip
    assert engine.tiles == [[1], [2], [2], [2], [1], [1]]


def test_batch_work_goes_last_and_never_starves(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    (batch,) = room.asked(room.order(Priority.BATCH, prompt="batch", steps=2))
    refinements = room.asked(*(room.order(prompt="refined", steps=16) for _ in range(3)))
    gate.let_through()
    assert all(order.clip for order in (first, batch, *refinements))
    places = [place for place, prompts in enumerate(engine.jumps) if prompts == ["batch"]]
    assert 10 < places[0] < 20 and places[1] < 40


def test_the_latent_of_a_clip_is_its_own_whoever_shares_its_steps(opened: Callable[..., Room], bundle: Bundle) -> None:
    """The real engine, told that sharing costs nothing; each clip against itself alone."""
    engine = load_engine(bundle)
    engine._costs = ALL_TOGETHER
    room = opened(lambda asked: engine)
    orders = room.asked(
        *(room.order(steps=steps, seed=steps, gamma=0.5, seconds=3.0) for steps in (1, 4, 8)),
        room.order(steps=3, nu=2.0, negative_prompt="dog", seconds=3.0),
    )
    for order in orders:
        stored = order.clip
        audio = read(stored)
        alone = render(engine, stored.record.recipe)[0]
        assert np.abs(audio - alone).max() < 1e-5 + 1e-4 * np.abs(alone).max()
