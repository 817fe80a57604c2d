"""Who takes part in a tick: decided without a clock, a thread or an engine."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from soundctm.engines.costs import Cost
from soundctm_daemon.jobs import Priority
from soundctm_daemon.ticks import Candidate, PassedOver, choose, passed_over_after, rows_together

PREVIEW, REFINEMENT, BATCH = Priority


def cost(fixed_seconds: float, seconds_per_frame: float, tried: float = 1e6, **limits: float) -> Cost:
    points = ((frames, fixed_seconds + seconds_per_frame * frames) for frames in (1.0, tried))
    return Cost(tuple(points), **limits)


CPU = cost(fixed_seconds=0.008, seconds_per_frame=2e-4)
GPU = cost(fixed_seconds=0.005, seconds_per_frame=2e-7)
EVERYBODY = 1000


def ready(order: int, priority: Priority = REFINEMENT, **changes: object) -> Candidate:
    candidate = Candidate(f"clip{order}", priority, order, "digest", (432, None), True, 1, 432.0)
    return dataclasses.replace(candidate, **changes)  # type: ignore[arg-type]


def orders(chosen: list[Candidate]) -> list[int]:
    return [candidate.order for candidate in chosen]


def test_previews_lead_before_refinements_before_batch_and_the_oldest_within_a_kind() -> None:
    candidates = [ready(0, BATCH), ready(1), ready(2, PREVIEW), ready(3, PREVIEW), ready(4)]
    assert orders(choose(candidates, {}, lambda lead: 1)) == [2]
    assert orders(choose(candidates, {}, lambda lead: 3)) == [2, 3, 1]
    assert orders(choose(candidates, {}, lambda lead: EVERYBODY)) == [2, 3, 1, 4, 0]


def test_nobody_ready_is_nobody_chosen() -> None:
    assert choose([], {PREVIEW: 99}, lambda lead: EVERYBODY) == []


@pytest.mark.parametrize(
    "other", [{"digest": "another"}, {"stage": (22, None), "frames": 22.0}, {"stage": (432, 0), "jumping": False}]
)
def test_only_those_at_the_leads_stage_on_its_engine_ride(other: dict[str, object]) -> None:
    candidates = [ready(0), ready(1, **other), ready(2)]
    assert orders(choose(candidates, {}, lambda lead: EVERYBODY)) == [0, 2]


def test_rows_of_two_count_twice_and_a_lead_always_goes() -> None:
    candidates = [ready(0, rows=2), ready(1, rows=2), ready(2)]
    assert orders(choose(candidates, {}, lambda lead: 1)) == [0]
    assert orders(choose(candidates, {}, lambda lead: 3)) == [0, 2]
    assert orders(choose(candidates, {}, lambda lead: 4)) == [0, 1]


def test_under_a_flood_of_previews_nothing_starves() -> None:
    """A kind that is ready leads at least once in every 17 ticks, its oldest clip first."""
    leads: Counter[Priority] = Counter()
    passed_over: PassedOver = {}
    for tick in range(340):
        candidates = [ready(1000 + tick, PREVIEW), ready(1), ready(2), ready(3, BATCH)]
        chosen = choose(candidates, passed_over, lambda lead: 1)
        assert chosen[0].order != 2
        leads[chosen[0].priority] += 1
        passed_over = passed_over_after(candidates, chosen, passed_over)
    assert min(leads[REFINEMENT], leads[BATCH]) >= 340 // 18
    assert leads[PREVIEW] > 0.85 * 340


def test_who_rides_was_not_passed_over_and_who_is_not_ready_does_not_count() -> None:
    candidates = [ready(0, PREVIEW), ready(1), ready(2, BATCH)]
    passed_over = passed_over_after(candidates, candidates[:2], {REFINEMENT: 5, BATCH: 5})
    assert passed_over == {BATCH: 6}
    assert passed_over_after(candidates[:2], candidates[:1], passed_over) == {REFINEMENT: 1}


def test_where_the_device_is_busy_with_one_row_a_tick_is_one_clip() -> None:
    assert rows_together(CPU, 432) == 1


def test_where_rows_share_most_of_the_cost_they_ride_together() -> None:
    assert rows_together(GPU, 432) > 100
    assert rows_together(cost(1.0, 0.0), 432) == 256


def test_a_short_clip_shares_even_on_a_cpu_but_the_tick_stays_short() -> None:
    rows = rows_together(CPU, 22)
    assert rows > 1
    assert CPU.seconds(rows * 22) <= max(1.5 * CPU.seconds(22), 0.02)


@pytest.mark.parametrize("fixed", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("per_frame", [0.0, 1e-7, 1e-5, 1e-3])
def test_a_tick_is_at_most_half_as_long_again_as_its_lead_alone(fixed: float, per_frame: float) -> None:
    found = cost(fixed, per_frame)
    rows = rows_together(found, 100)
    assert found.seconds(rows * 100) <= max(1.5 * found.seconds(100), 0.02) * (1 + 1e-6)


def test_a_step_is_never_more_than_twice_as_large_as_any_that_was_tried() -> None:
    """A cost fitted wrongly is found out by a step that is a little too long, not by one that takes a minute."""
    assert rows_together(cost(1.0, 0.0, tried=432.0), 432) == 2
    wrong = cost(0.1, 0.0, tried=432.0)
    rows = rows_together(wrong, 432)
    for _ in range(40):
        wrong = wrong.seen(rows * 432, 0.1 * rows)
        assert rows_together(wrong, 432) <= 2


def test_memory_bounds_the_rows_and_never_forbids_a_clip() -> None:
    assert rows_together(dataclasses.replace(GPU, frames_in_memory=1000.0), 432) == 2
    assert rows_together(dataclasses.replace(GPU, frames_in_memory=10.0), 432) == 1
