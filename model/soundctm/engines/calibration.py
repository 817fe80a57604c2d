"""What jumps and tiles cost on this device, measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from soundctm.engines.costs import Cost, Costs
from soundctm.engines.protocol import Engine
from soundctm.errors import OutOfMemoryError

_BUDGET_SECONDS = 0.3   # for all measurements together
_FEWEST_POINTS = 2      # of each kind, whatever they take
_BATCHES = (1, 4)       # rows
_SHARE_OF_MEMORY = 0.5  # the rest is for what is measured wrongly, and for others


def calibrate(
    engine: Engine,
    room_for: Callable[[Callable[[], object]], float] = lambda run: math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> Costs:
    """Measure an engine that is warm. `room_for(run)` tells how many times the memory that `run` takes is free.

    Raises OutOfMemoryError when there is not enough for the shortest clip.
    """
    spec = engine.spec
    text, levels = engine.encode_text([""])[0], (spec.diffusion.sigma_max, spec.diffusion.sigma_min)
    shortest, longest = (spec.latent_frames(limit) for limit in (spec.ranges.min_seconds, spec.ranges.max_seconds))
    works = sorted((rows * frames, rows, frames) for rows in _BATCHES for frames in (shortest, longest))

    def latents(rows: int, frames: int) -> object:
        return engine.array(np.zeros((rows, spec.codec.latent_channels, frames), np.float32))

    def jump(rows: int, frames: int) -> object:
        t, s, omega = ([value] * rows for value in (*levels, spec.ranges.omega_default))
        return engine.jump(latents(rows, frames), t, s, omega, [text] * rows)

    def decode(rows: int, frames: int) -> object:
        return engine.decode_tile(latents(rows, frames), [0] * rows, 0, [None] * rows)

    def measured(run: Callable[[int, int], object], share: Callable[[int], float]) -> Cost:
        cost, began = Cost(()), clock()
        for _, rows, frames in works:
            work = rows * share(frames)
            left = _BUDGET_SECONDS / 2 - (clock() - began)
            if len(cost.measured) >= _FEWEST_POINTS and cost.seconds(work) > left:
                break
            step = partial(run, rows, frames)
            try:
                seconds = _timed(step, clock)
                if 2 * seconds < left:  # the better of two: others use the machine too
                    seconds = min(seconds, _timed(step, clock))
            except OutOfMemoryError:
                if not cost.measured:
                    raise
                return cost.too_large(work)
            cost, largest = replace(cost, measured=(*cost.measured, (work, seconds))), step
        return replace(cost, frames_in_memory=_SHARE_OF_MEMORY * room_for(largest) * cost.frames_tried)

    return Costs(measured(jump, float), measured(decode, lambda frames: frames / engine.decode_tiles(frames)))


def _timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    run()
    return clock() - began
