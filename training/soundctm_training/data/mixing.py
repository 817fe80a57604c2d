"""TANGO's augmentation: new clips out of pairs, mixed so that both are heard (Ghosal et al. 2023, section 2.3).

The weights make the two equally loud by their A-weighted levels (Tokozume et al. 2018, "Learning from between-class
examples", equation 2), whatever the recordings' own levels are.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from soundctm_training.data.clips import DataError

_FLOOR_DB = -80.0        # of the A-weighting, and of a frame's level
_PEAK = 0.5              # of the loudest sample of a group of mixes
_FRAME_SECONDS = 0.093   # 4096 samples at 44.1 kHz, 2048 at 22.05 kHz: the power of two that is nearest


def mix_batch(
    waves: Tensor, captions: Sequence[str], count: int, rng: random.Random, sample_rate_hz: int = 44100
) -> tuple[Tensor, list[str]]:
    """`count` mixes of two different clips each, fewer where there are fewer pairs: [count, samples] and captions.

    waves [B, samples]. All pairs are shuffled by `rng` and the first ones taken; the group's peak is 0.5. Raises
    DataError when waves and captions differ in number.
    """
    if waves.ndim != 2 or len(waves) != len(captions):
        raise DataError(
            f"waves of shape {tuple(waves.shape)} with {len(captions)} captions cannot be mixed; give [B, samples] "
            "and B captions"
        )
    pairs = list(itertools.combinations(range(len(captions)), 2))
    rng.shuffle(pairs)
    chosen = pairs[:count]
    if not chosen:
        return waves[:0], []
    mixed = torch.stack([mix_pair(waves[i], waves[j], sample_rate_hz) for i, j in chosen])
    peak = mixed.abs().max()
    if peak > 0:  # silence stays silence
        mixed = _PEAK * (mixed / peak)
    return mixed, [f"{captions[i]} and {captions[j][:1].lower()}{captions[j][1:]}" for i, j in chosen]


def mix_pair(first: Tensor, second: Tensor, sample_rate_hz: int = 44100) -> Tensor:
    """Two clips [samples], equally loud; power is kept for clips that have nothing in common."""
    levels = [float(peak_level_db(wave, sample_rate_hz)) for wave in (first, second)]
    share = 1 / (1 + 10 ** ((levels[0] - levels[1]) / 20))
    mixed: Tensor = (share * first + (1 - share) * second) / (share**2 + (1 - share) ** 2) ** 0.5
    return mixed


def peak_level_db(wave: Tensor, sample_rate_hz: int = 44100) -> Tensor:
    """The A-weighted level of the loudest frame of a clip [samples]; frames of 93 ms overlap by half.

    What a last frame does not reach is not heard; a clip shorter than a frame is one frame.
    """
    size = 2 ** round(math.log2(_FRAME_SECONDS * sample_rate_hz))
    wave = torch.nn.functional.pad(wave.double(), (0, max(0, size - wave.shape[-1])))
    frames = wave.unfold(-1, size, size // 2) * torch.hann_window(size, dtype=torch.float64, device=wave.device)
    power = torch.fft.rfft(frames).abs().square()
    # the official table is spaced over half the rate rounded down, which an odd rate shows
    frequencies = torch.linspace(0, sample_rate_hz // 2, size // 2 + 1, dtype=torch.float64, device=wave.device)
    energy = (power * 10 ** (a_weighting_db(frequencies) / 10)).sum(-1)
    return 10 * torch.log10(energy.max().clamp(min=10 ** (_FLOOR_DB / 10)))


def a_weighting_db(frequency_hz: Tensor) -> Tensor:
    """IEC 61672's curve A, 0 dB at 1 kHz, cut off at -80 dB."""
    f2 = frequency_hz.square()
    response = (
        12194**2 * f2.square()
        / ((f2 + 20.6**2) * (f2 + 12194**2) * ((f2 + 107.7**2) * (f2 + 737.9**2)).sqrt())
    )  # fmt: skip
    return (2.0 + 20 * torch.log10(response)).clamp(min=_FLOOR_DB)
