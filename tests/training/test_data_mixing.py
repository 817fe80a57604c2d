"""Mixed clips: both parts are heard, captions join, and the draw is the caller's."""

from __future__ import annotations

import math
import random

import pytest
import torch

from soundctm_training.data.clips import DataError
from soundctm_training.data.mixing import a_weighting_db, mix_batch, mix_pair, peak_level_db

SECOND = 44100


def tone(frequency_hz: float, gain: float) -> torch.Tensor:
    return gain * torch.sin(2 * math.pi * frequency_hz * torch.arange(SECOND) / SECOND)


def amplitude(wave: torch.Tensor, frequency_hz: float) -> float:
    """Of one tone in a second of sound."""
    return float(2 * torch.fft.rfft(wave)[round(frequency_hz)].abs() / SECOND)


def test_two_tones_come_out_equally_loud_whatever_their_levels_were() -> None:
    """At the same place of curve A, equal loudness is equal amplitude."""
    for gain in (0.01, 1.0):
        mixed = mix_pair(tone(1000, 0.5), tone(1010, 0.5 * gain))
        assert amplitude(mixed, 1000) == pytest.approx(amplitude(mixed, 1010), rel=0.02)


def test_curve_a_has_its_published_values() -> None:
    """IEC 61672-1, table 3, to its rounding."""
    found = a_weighting_db(torch.tensor([31.62, 100.0, 1000.0, 3981.0, 10000.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([-39.4, -19.1, 0.0, 1.0, -2.5], abs=0.06)
    assert float(a_weighting_db(torch.zeros(1))) == -80.0


def test_a_group_peaks_at_one_half_and_captions_join() -> None:
    waves = torch.stack([tone(440, 0.9), tone(2000, 0.1), torch.randn(SECOND, generator=torch.Generator())])
    mixed, captions = mix_batch(waves, ["A dog", "", "Rain falls"], 2, random.Random(3))
    assert mixed.shape == (2, SECOND) and float(mixed.abs().max()) == pytest.approx(0.5)
    joined = {"A dog and ", "A dog and rain falls", " and rain falls"}
    assert len(captions) == 2 and set(captions) < joined
    again, same = mix_batch(waves, ["A dog", "", "Rain falls"], 2, random.Random(3))
    assert torch.equal(again, mixed) and same == captions


def test_there_are_no_more_mixes_than_pairs() -> None:
    mixed, captions = mix_batch(torch.ones(3, 5000), ["a", "b", "c"], 10, random.Random(0))
    assert len(mixed) == len(captions) == 3
    assert mix_batch(torch.ones(1, 5000), ["a"], 3, random.Random(0))[1] == []


def test_silence_and_the_shortest_clips_mix_without_a_fault() -> None:
    silent, _ = mix_batch(torch.zeros(2, 5000), ["a", "b"], 1, random.Random(0))
    assert float(silent.abs().max()) == 0.0
    short, _ = mix_batch(torch.ones(2, 10), ["a", "b"], 1, random.Random(0))
    assert bool(short.isfinite().all())
    assert float(peak_level_db(torch.zeros(10))) == pytest.approx(-80.0)


def test_waves_without_captions_are_refused() -> None:
    with pytest.raises(DataError, match="3 captions"):
        mix_batch(torch.ones(2, 10), ["a", "b", "c"], 1, random.Random(0))
