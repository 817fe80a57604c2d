"""What a step costs: fitted on measurements, kept in step with what is seen, bounded by memory."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from soundctm.bundle import open_bundle
from soundctm.engines.calibration import calibrate
from soundctm.engines.costs import Cost, fitted
from soundctm.engines.torch import load_engine
from soundctm.errors import OutOfMemoryError


@pytest.mark.parametrize(("fixed", "per_frame"), [(0.0, 2e-4), (5e-3, 1e-6), (0.01, 0.0)])
def test_a_line_is_found_again(fixed: float, per_frame: float) -> None:
    points = [(frames, fixed + per_frame * frames) for frames in (22.0, 88.0, 432.0, 1728.0)]
    assert fitted(points) == pytest.approx((fixed, per_frame), rel=1e-6, abs=1e-12)


def test_noisy_measurements_never_give_a_negative_part() -> None:
    random = np.random.Generator(np.random.Philox(5))
    for _ in range(200):
        works = [22.0, 88.0, 432.0]
        truth = random.choice([0.0, 1e-2]) + random.choice([0.0, 1e-4]) * np.array(works) + 1e-4
        points = list(zip(works, truth * random.uniform(0.5, 2.0, 3), strict=True))
        fixed, per_frame = fitted(points)
        assert fixed >= 0 and per_frame >= 0 and fixed + per_frame > 0


def test_one_point_gives_no_fixed_part() -> None:
    assert fitted([(100.0, 0.5)]) == (0.0, pytest.approx(0.005))


def test_the_line_follows_the_latest_steps_and_one_hiccup_moves_it_little() -> None:
    cost = Cost(tuple((frames, 0.01 + 1e-4 * frames) for frames in (22.0, 88.0, 432.0)))
    for _ in range(20):
        cost = cost.seen(432, 0.0532)
    assert cost.seconds(432) == pytest.approx(0.0532)
    assert cost.seen(432, 60.0).seconds(432) == pytest.approx(0.0532, rel=0.1)
    slower = cost
    for _ in range(100):
        slower = slower.seen(432, 3 * 0.0532)
    assert slower.seconds(432) == pytest.approx(3 * 0.0532, rel=0.1)
    assert len(slower.latest) == 32


def test_memory_that_was_not_enough_bounds_what_is_tried_again() -> None:
    cost = Cost(((1000.0, 0.01),)).too_large(1000)
    assert cost.frames_in_memory == 500
    assert cost.too_large(2000).frames_in_memory == 500


class Clock:
    """Time passes only by what an engine does."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_engine_is_measured_within_its_budget(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow device only the two smallest works are tried, once each; a fast one's line and memory are found."""
    engine, clock = load_engine(open_bundle(tiny_bundle_dir)), Clock()

    def slow_jump(z: object, t: list[float], *rest: object) -> object:
        clock.now += 2.0 * len(t)
        return z

    monkeypatch.setattr(engine, "jump", slow_jump)
    costs = calibrate(engine, clock=clock)
    assert clock.now == 2.0 + 8.0
    assert costs.jump.line == (0.0, pytest.approx(2.0 / engine.spec.latent_frames(0.5)))

    def fast_jump(z: object, t: list[float], *rest: object) -> object:
        clock.now += 1e-3 + 1e-6 * len(t) * z.shape[-1]  # type: ignore[attr-defined]
        return z

    monkeypatch.setattr(engine, "jump", fast_jump)
    costs = calibrate(engine, lambda run: 10.0, clock=clock)
    assert costs.jump.line == pytest.approx((1e-3, 1e-6))
    assert costs.jump.frames_in_memory == 0.5 * 10 * 4 * engine.spec.latent_frames(10.0)


def test_a_batch_that_does_not_fit_is_found_while_measuring(
    tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, most = load_engine(open_bundle(tiny_bundle_dir)), 3

    def scarce_jump(z: object, t: list[float], *rest: object) -> object:
        if len(t) > most:
            raise OutOfMemoryError("no memory left for this much at once")
        return z

    monkeypatch.setattr(engine, "jump", scarce_jump)
    assert calibrate(engine).jump.frames_in_memory == 4 * engine.spec.latent_frames(0.5) / 2
    most = 0
    with pytest.raises(OutOfMemoryError):
        calibrate(engine)


def test_a_real_engine_is_measured_once(tiny_bundle_dir: Path) -> None:
    engine = load_engine(open_bundle(tiny_bundle_dir))
    costs = engine.costs()
    assert costs.jump.seconds(432) > 0 and costs.decode.seconds(96) > 0
    assert costs.jump.frames_in_memory == math.inf
    assert engine.costs() is costs
