"""What a fault in a batch costs, and what is found about a clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from engine_room import Engineered, Order, Room, held
from running_daemon import ALL_TOGETHER, Gate
from soundctm.bundle import Bundle
from soundctm.engines.protocol import Floats
from soundctm.errors import NonFiniteAudioError, OutOfMemoryError
from soundctm_daemon.clip import AudioFinding
from soundctm_daemon.errors import InternalError
from soundctm_daemon.jobs import Priority


def test_a_fault_in_a_batch_fails_the_guilty_clip_alone(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    room = opened(engine)
    first = held(room, engine, gate)

    def poisoned(prompts: list[str]) -> None:
        if "poison" in prompts:
            raise RuntimeError("a kernel failed")

    engine.on_jump = poisoned
    good = [room.order(prompt=f"good {k}", steps=3) for k in range(3)]
    poison = room.order(prompt="poison", steps=3)
    room.asked(*good[:2], poison, good[2])
    gate.let_through()
    assert isinstance(poison.error, InternalError) and "a kernel failed" in str(poison.error)
    for order in good:
        assert order.clip.record.recipe == order.job.recipe
        assert order.jumps == [(1, 3), (2, 3), (3, 3)]
    assert first.clip
    (following,) = room.asked(room.order())
    assert following.clip


def test_a_batch_too_large_for_the_memory_is_split_and_not_tried_again(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    room = opened(engine)
    first = held(room, engine, gate)

    def scarce(prompts: list[str]) -> None:
        if len(prompts) > 3:
            raise OutOfMemoryError("no memory left for this much at once")

    engine.on_jump = scarce
    orders = room.asked(*(room.order(prompt=str(k), steps=4) for k in range(6)))
    gate.let_through()
    assert first.clip and all(order.clip for order in orders)
    assert [len(prompts) for prompts in engine.jumps].count(6) == 1
    assert max(len(prompts) for prompts in engine.jumps[2:]) == 3


def test_a_clip_that_never_fits_says_so(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine = Engineered(bundle)
    room = opened(engine)

    def none_left(prompts: list[str]) -> None:
        raise OutOfMemoryError("no memory left for this much at once")

    engine.on_jump = none_left
    (order,) = room.asked(room.order())
    assert order.error.reason == "OUT_OF_MEMORY"
    engine.on_jump = lambda prompts: None
    assert room.asked(room.order())[0].clip


def test_a_fault_in_a_tile_and_in_a_prompt_fail_their_clips_alone(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER, tiles=2), Gate()
    room = opened(engine)
    encode = engine.encode_text

    def encoded(prompts: Sequence[str]) -> list[Any]:
        if "unreadable" in prompts:
            raise ValueError("no such token")
        return encode(prompts)

    def broken(seeds: list[int]) -> None:
        if 13 in seeds:
            raise RuntimeError("a tile failed")

    engine.encode_text = encoded  # type: ignore[method-assign]
    engine.on_tile = broken
    first = held(room, engine, gate)
    good, bad_tile, bad_prompt = room.asked(
        room.order(seed=12), room.order(seed=13), room.order(seed=14, prompt="unreadable")
    )
    gate.let_through()
    assert "a tile failed" in str(bad_tile.error) and "no such token" in str(bad_prompt.error)
    assert first.clip and good.clip


def test_not_a_number_fails_its_clip_alone(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    decode = engine.decode

    def decoded(z: Any, seeds: Sequence[int]) -> Floats:
        audio = np.array(decode(z, seeds))
        audio[[seed == 13 for seed in seeds]] = np.nan
        return audio

    engine.decode = decoded  # type: ignore[method-assign]
    room = opened(engine)
    first = held(room, engine, gate)
    good, bad = room.asked(room.order(seed=12), room.order(seed=13))
    gate.let_through()
    assert isinstance(bad.error, NonFiniteAudioError)
    assert first.clip and good.clip
    assert len(room.library.page(10, None)[0]) == 2


def test_an_engine_that_cannot_be_measured_fails_its_clips_and_nobody_elses(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine = Engineered(bundle)
    measure = engine.costs
    engine.costs = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    room = opened(engine)
    (order,) = room.asked(room.order())
    assert isinstance(order.error, InternalError)
    engine.costs = measure  # type: ignore[method-assign]
    assert room.asked(room.order())[0].clip


@pytest.mark.parametrize(("peak", "found"), [(0.9999, False), (1.0, True), (1.5, True)])
def test_samples_at_full_scale_were_cut_by_the_decoder(
    opened: Callable[..., Room], bundle: Bundle, peak: float, found: bool
) -> None:
    engine = Engineered(bundle)
    decode = engine.decode
    engine.decode = lambda z, seeds: np.clip(4 * decode(z, seeds), -peak, peak)  # type: ignore
    (order,) = opened(engine).asked(Order(bundle, Priority.PREVIEW, None, {}))
    assert (AudioFinding.CLIPPING in order.clip.record.findings) == found


def test_a_clip_says_what_was_found_about_it(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine = Engineered(bundle)
    decode = engine.decode
    engine.decode = lambda z, seeds: (decode(z, seeds) + 0.1)[..., :20_000]  # type: ignore
    room = opened(engine)
    order = room.order()
    order.job = dataclasses.replace(order.job, other_weights=True)
    (order,) = room.asked(order)
    assert set(order.clip.record.findings) == {
        AudioFinding.DC_OFFSET, AudioFinding.SHORT, AudioFinding.OTHER_WEIGHTS
    }
    assert order.clip.record.mean == pytest.approx(0.1, abs=0.01)
