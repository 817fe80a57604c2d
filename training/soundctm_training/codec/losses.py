"""Distances of waveforms as the Descript audio codec weighs them (Kumar et al. 2023, section 3.5), and the KL term.

Audio is [B, samples]; every loss is a scalar. Magnitudes are scaled so that a full-scale sine reaches 1, hops are a
quarter of the window. Distances are SUMS over scales, as in DAC: the paper's weights (15 for mel) suppose that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from soundctm.codecs.bands import frame_spectrum, mel_filters
from soundctm.codecs.dac import Posterior

_POWER_FLOOR = 1e-14  # under the square root, whose gradient is infinite at 0; -140 dB of a full-scale sine


@cache
def _window(samples: int, device: torch.device) -> Tensor:
    return torch.hann_window(samples, device=device)


@cache
def _filters(bands: int, window_samples: int, sample_rate_hz: int, device: torch.device) -> Tensor:
    return mel_filters(bands, window_samples, sample_rate_hz, 0.0).to(device)


def magnitudes(audio: Tensor, window_samples: int) -> Tensor:
    """Audio [B, samples] -> [B, frames, window / 2 + 1]."""
    window = _window(window_samples, audio.device)
    parts = torch.view_as_real(frame_spectrum(audio.float(), window, window_samples // 4))
    return (parts.square().sum(-1) + _POWER_FLOOR).sqrt() * (2 / window.sum())


def log_distance(estimate: Tensor, target: Tensor, floor: float) -> Tensor:
    """Mean absolute difference of decimal logarithms of magnitudes no smaller than `floor`: 0.05 is 1 dB."""
    return functional.l1_loss(estimate.clamp(min=floor).log10(), target.clamp(min=floor).log10())


def stft_distance(
    estimate: Tensor,
    target: Tensor,
    windows: Sequence[int] = (2048, 512),
    floor: float = 1e-5,
    log_weight: float = 1.0,
    linear_weight: float = 1.0,
) -> Tensor:
    """Log and linear distance of the magnitudes seen through several windows (in samples)."""
    terms = []
    for samples in windows:
        x, y = magnitudes(estimate, samples), magnitudes(target, samples)
        terms.append(log_weight * log_distance(x, y, floor) + linear_weight * functional.l1_loss(x, y))
    return torch.stack(terms).sum()


def mel_distance(
    estimate: Tensor,
    target: Tensor,
    sample_rate_hz: int,
    bands: Sequence[int] = (5, 10, 20, 40, 80, 160, 320),
    windows: Sequence[int] = (32, 64, 128, 256, 512, 1024, 2048),
    floor: float = 1e-5,
) -> Tensor:
    """Log distance of mel magnitudes: `bands[i]` bands of a window of `windows[i]` samples. Filters sum to 1."""
    terms = []
    for count, samples in zip(bands, windows, strict=True):
        filters = _filters(count, samples, sample_rate_hz, estimate.device).T
        x, y = magnitudes(estimate, samples) @ filters, magnitudes(target, samples) @ filters
        terms.append(log_distance(x, y, floor))
    return torch.stack(terms).sum()


def waveform_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of samples."""
    return functional.l1_loss(estimate, target)


def gaussian_kl(posterior: Posterior) -> Tensor:
    """0.5 (mu^2 + sigma^2 - 1 - ln sigma^2), a MEAN over batch, channels and frames, as in the official code."""
    return posterior.kl().mean()
