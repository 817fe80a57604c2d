"""Clients of every kind at one daemon: the small version of `make soak`."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from soaking.clients import KINDS
from soaking.memory import slope
from soaking.soak import Outcome, soak

pytestmark = pytest.mark.usefixtures("models")


def test_nothing_goes_wrong_while_eight_clients_are_at_work() -> None:
    outcome = soak(3.0)
    assert outcome.errors == []
    assert outcome.world.done.keys() == KINDS.keys()
    assert outcome.clips >= len(outcome.world.told)


def test_a_clip_that_was_told_and_is_not_there_is_an_error() -> None:
    def pretend(outcome: Outcome) -> None:
        clip = next(iter(outcome.world.told.values()))
        outcome.world.note(replace(clip, id="neverwasthere"))

    (error,) = soak(0.5, pretend).errors
    assert error.startswith("clip neverwasthere was told as")
    assert error.endswith("and is None")


@pytest.mark.parametrize("mb_per_hour", [-50.0, 0.0, 50.0])
def test_the_slope_lies_in_its_interval(mb_per_hour: float) -> None:
    chance = random.Random(1)
    found = slope([(second, 300 + mb_per_hour * second / 3600 + chance.gauss(0, 0.5)) for second in range(1440)])
    assert found.low <= mb_per_hour <= found.high
    assert found.mb_per_hour == pytest.approx(mb_per_hour, abs=2.0)


def test_memory_that_is_high_for_a_while_is_no_growth() -> None:
    found = slope([(second, 500.0 if 700 < second < 760 else 300.0) for second in range(1440)])
    assert found.mb_per_hour == 0.0
