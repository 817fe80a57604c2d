"""DAC's discriminators (Kumar et al. 2023, section 3.4): waveforms folded by periods, complex spectra cut in bands.

Every discriminator turns audio [B, 1, samples] into `Verdict`s; a GAN's losses over them are in `adversarial.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from soundctm.codecs.bands import frame_spectrum

_SLOPE = 0.1
_SPECTRAL_STRIDES = (1, 2, 2, 2, 1)  # over frequency, of a band's five convolutions


@dataclass(frozen=True)
class Verdict:
    """`features`: what the hidden layers saw; `logits`: high where the audio sounds real. Shapes are the network's."""

    features: tuple[Tensor, ...]
    logits: Tensor


@dataclass(frozen=True)
class DiscriminatorSizes:
    """The defaults are DAC's at 44.1 kHz."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)       # samples
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    windows: tuple[int, ...] = (2048, 1024, 512)      # samples, of the spectral ones; the hop is a quarter
    band_edges: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # shares of the Nyquist frequency
    band_channels: int = 32


def _convolution(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int]) -> nn.Module:
    padding = (kernel[0] // 2, kernel[1] // 2)
    layer: nn.Module = weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding))
    return layer


class PeriodDiscriminator(nn.Module):
    """Samples a period apart stand in one column; convolutions run down the columns (Kong et al. 2020)."""

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        strides = [3] * (len(channels) - 1) + [1]
        self.layers = nn.ModuleList(
            _convolution(inputs, outputs, (5, 1), (stride, 1))
            for inputs, outputs, stride in zip((1, *channels[:-1]), channels, strides, strict=True)
        )
        self.last = _convolution(channels[-1], 1, (3, 1), (1, 1))

    def forward(self, audio: Tensor) -> Verdict:
        padded = functional.pad(audio, (0, -audio.shape[-1] % self.period), mode="reflect")
        hidden = padded.unflatten(2, (-1, self.period))  # [B, 1, samples / period, period]
        features = []
        for layer in self.layers:
            hidden = functional.leaky_relu(layer(hidden), _SLOPE)
            features.append(hidden)
        return Verdict(tuple(features), self.last(hidden))


class SpectralDiscriminator(nn.Module):
    """Real and imaginary parts of one STFT; every band has convolutions of its own, the last one sees all bands."""

    window: Tensor

    def __init__(self, window_samples: int, band_edges: Sequence[float], channels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window_samples), persistent=False)
        edges = [round(edge * (window_samples // 2 + 1)) for edge in band_edges]
        self.bands = list(itertools.pairwise(edges))
        self.stacks = nn.ModuleList(self._stack(channels) for _ in self.bands)
        self.last = _convolution(channels, 1, (3, 3), (1, 1))

    @staticmethod
    def _stack(channels: int) -> nn.ModuleList:
        layers = []
        for index, stride in enumerate(_SPECTRAL_STRIDES):
            kernel = (3, 3) if index == len(_SPECTRAL_STRIDES) - 1 else (3, 9)
            layers.append(_convolution(channels if index else 2, channels, kernel, (1, stride)))
        return nn.ModuleList(layers)

    def forward(self, audio: Tensor) -> Verdict:
        spectrum = torch.view_as_real(frame_spectrum(audio[:, 0], self.window, len(self.window) // 4))
        spectrum = spectrum.permute(0, 3, 1, 2)  # [B, 2, frames, bins]
        features, seen = [], []
        for (low, high), stack in zip(self.bands, self.stacks, strict=True):
            hidden = spectrum[..., low:high]
            for layer in stack:  # type: ignore[attr-defined]
                hidden = functional.leaky_relu(layer(hidden), _SLOPE)
                features.append(hidden)
            seen.append(hidden)
        return Verdict(tuple(features), self.last(torch.cat(seen, dim=3)))


class Discriminators(nn.Module):
    """All of them on audio without offset and with its peak at 0.8: none may judge by level."""

    def __init__(self, sizes: DiscriminatorSizes) -> None:
        super().__init__()
        periods = [PeriodDiscriminator(period, sizes.period_channels) for period in sizes.periods]
        spectra = [SpectralDiscriminator(w, sizes.band_edges, sizes.band_channels) for w in sizes.windows]
        self.members = nn.ModuleList([*periods, *spectra])

    def forward(self, audio: Tensor) -> list[Verdict]:
        centred = audio - audio.mean(dim=-1, keepdim=True)
        levelled = 0.8 * centred / (centred.abs().amax(dim=-1, keepdim=True) + 1e-9)
        return [member(levelled) for member in self.members]
