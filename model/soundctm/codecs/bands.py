"""Log-band analysis: what the whitened mel codec hears. Fixed filters, nothing learned.

A latent frame of 1024 samples holds 2 x 80 mel bands of a long window (pitch, colour) and 8 x 24 bands of a short one
(attacks). Filters are buffers: they travel with the weights, so that no other version of a formula changes them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def mel_filters(bands: int, window_samples: int, sample_rate_hz: int, low_hz: float) -> Tensor:
    """Triangles [bands, window/2 + 1] evenly spaced in mel, each at least one bin wide to a side; rows sum to 1."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (low_hz, 0.48 * sample_rate_hz))
    edges = 700 * (10 ** (torch.linspace(low, high, bands + 2) / 2595) - 1)
    bin_hz = sample_rate_hz / window_samples
    centre = edges[1:-1, None]
    below = (edges[1:-1] - edges[:-2]).clamp(min=bin_hz)[:, None]
    above = (edges[2:] - edges[1:-1]).clamp(min=bin_hz)[:, None]
    hz = torch.arange(window_samples // 2 + 1)[None] * bin_hz
    weights = (1 - torch.where(hz < centre, (centre - hz) / below, (hz - centre) / above)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def frame_spectrum(audio: Tensor, window: Tensor, hop_samples: int) -> Tensor:
    """Complex spectra [B, frames, window/2 + 1] of audio [B, samples]; frame k is centred in the k-th hop."""
    pad = (window.shape[0] - hop_samples) // 2
    frames = functional.pad(audio, (pad, pad)).unfold(1, window.shape[0], hop_samples)
    spectrum: Tensor = torch.fft.rfft(frames * window)
    return spectrum


class LogBands(nn.Module):
    """Natural logarithms of band magnitudes; 1 is a full-scale sine."""

    window: Tensor
    filters: Tensor

    def __init__(
        self, bands: int, window_samples: int, hop_samples: int, sample_rate_hz: int, low_hz: float, floor: float
    ) -> None:
        super().__init__()
        self.hop_samples, self.floor = hop_samples, floor
        with torch.device("cpu"):  # arithmetic on the meta device imports torch._dynamo: seconds
            self.register_buffer("window", torch.hann_window(window_samples))
            self.register_buffer("filters", mel_filters(bands, window_samples, sample_rate_hz, low_hz))

    def forward(self, audio: Tensor) -> Tensor:
        """Audio [B, samples] -> [B, samples / hop, bands]."""
        magnitude = frame_spectrum(audio, self.window, self.hop_samples).abs() * (2 / self.window.sum())
        return torch.log(magnitude @ self.filters.T + self.floor)
