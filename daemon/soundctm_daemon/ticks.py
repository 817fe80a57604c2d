"""Who takes part in the next tick: pure decisions, no clock, no thread.

A tick is one batched step of an engine: a jump, or the decoding of a tile. Its lead is the oldest clip of the first
kind that has one ready; a kind that was passed over `_PATIENCE_TICKS` times leads the next one, so that nothing
starves. Whoever stands at the same stage rides along, as far as that costs the lead little.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from soundctm.engines.costs import Cost
from soundctm_daemon.jobs import Priority

_PATIENCE_TICKS = 16
_STRETCH = 1.5              # a tick takes at most so many times as long as its lead's step alone
_UNNOTICED_SECONDS = 0.02   # or so long, whichever is more
_MOST_ROWS = 256

PassedOver = Mapping[Priority, int]  # ticks since a kind with a clip ready last took part


@dataclass(frozen=True)
class Candidate:
    """A clip that is ready for a step: a jump, or (`jumping` False) a tile. It takes `rows` of `frames` each.

    Clips of one model at one stage may share it; the engine of a model stays the same while clips are made with it.
    """

    clip_id: str
    priority: Priority
    order: int  # the older, the smaller
    digest: str
    stage: Hashable
    jumping: bool
    rows: int
    frames: float

    def may_ride_with(self, lead: Candidate) -> bool:
        return (self.digest, self.stage) == (lead.digest, lead.stage)


def choose(
    candidates: Sequence[Candidate], passed_over: PassedOver, row_limit: Callable[[Candidate], int]
) -> list[Candidate]:
    """The lead, and who rides with it; empty when nobody is ready. `row_limit` of the lead is asked."""
    if not candidates:
        return []
    waiting = sorted(candidates, key=lambda candidate: (candidate.priority, candidate.order))
    impatient = [c for c in waiting if passed_over.get(c.priority, 0) >= _PATIENCE_TICKS]
    lead = max(impatient, key=lambda c: (passed_over[c.priority], -c.order)) if impatient else waiting[0]
    chosen, rows, limit = [lead], lead.rows, row_limit(lead)
    for candidate in waiting:
        if candidate is not lead and candidate.may_ride_with(lead) and rows + candidate.rows <= limit:
            chosen.append(candidate)
            rows += candidate.rows
    return chosen


def passed_over_after(
    candidates: Sequence[Candidate], chosen: Sequence[Candidate], before: PassedOver
) -> dict[Priority, int]:
    took_part = {candidate.priority for candidate in chosen}
    ready = {candidate.priority for candidate in candidates}
    return {kind: before.get(kind, 0) + 1 for kind in ready - took_part}


def rows_together(cost: Cost, frames: float) -> int:
    """How many rows of so many frames may share a step.

    One, where a row costs more than what rows share: there a larger batch makes everybody in it wait and gains
    nothing. Else as many as keep the step short and fit the memory, and no step is more than twice as large as any
    that was tried: what was fitted may be wrong.
    """
    fixed, per_row = cost.seconds(0.0), cost.seconds(frames) - cost.seconds(0.0)
    if per_row > fixed:
        return 1
    longest_seconds = max(_STRETCH * cost.seconds(frames), _UNNOTICED_SECONDS)
    in_time = (longest_seconds - fixed) / per_row if per_row else _MOST_ROWS
    in_reason = min(cost.frames_in_memory, 2 * cost.frames_tried) / frames
    return max(1, int(min(in_time, in_reason, _MOST_ROWS)))
