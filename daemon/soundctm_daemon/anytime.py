"""How a clip with a deadline spends its time: one jump first, then the largest plan that still fits."""

from __future__ import annotations

from soundctm.engines.costs import Costs
from soundctm.render import Take

_MARGIN = 1.1  # a plan must fit even if the device is so many times slower than expected


def next_steps(take: Take, most: int, seconds_left: float, costs: Costs) -> int | None:
    """Jumps of the take to make after this one, more than it has and at most `most`; None: no larger one fits."""
    jump_seconds = _MARGIN * costs.jump.seconds(len(take.texts) * take.frames)
    if seconds_left <= 0.0 or jump_seconds <= 0.0:
        return None
    steps = min(most, int((seconds_left - _MARGIN * _decode_seconds(take, take.tiles, costs)) / jump_seconds))
    return steps if steps > len(take.cursor.plan) else None


def seconds_to_go(take: Take, costs: Costs) -> float:
    """What is left of a take, with the engine to itself."""
    jumps = len(take.cursor.plan) - take.cursor.done
    jump_seconds = costs.jump.seconds(len(take.texts) * take.frames)
    return jumps * jump_seconds + _decode_seconds(take, take.tiles - len(take.pieces), costs)


def _decode_seconds(take: Take, tiles: int, costs: Costs) -> float:
    return tiles * costs.decode.seconds(take.frames / take.tiles)
