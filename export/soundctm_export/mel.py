"""The whitened mel codec as modules of real arithmetic.

Runtimes know complex numbers and Fourier transforms poorly or not at all. Frames have a fixed length, so a transform
is a matrix, with the window and the centring of phases inside; the matrices are made in float64.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.codecs.bands import LogBands
from soundctm.codecs.mel import FRAME_SAMPLES, WhitenedMelCodec
from soundctm.codecs.vocoder import BINS, HOP_SAMPLES, WINDOW_SAMPLES, phase_after

_HOPS = 4  # per window, in every analysis and synthesis of this codec
OVERLAP_STEPS = 2
STEPS_PER_FRAME = FRAME_SAMPLES // HOP_SAMPLES


class MelDecoderModule(nn.Module):
    """Of latent [B, C, T] and its white noise [B, 1, T * 1024]: the vocoder frames `kept` [K], and what comes after.

    `carry` float64 [B, 2, 513] is what the tile before handed on (zeros: there is none); it is handed on after the
    frame kept[last]. Gives audio [B, 1, K * 256] and the next carry.
    """

    def __init__(self, codec: WhitenedMelCodec) -> None:
        super().__init__()
        self.codec = codec
        window = codec.vocoder.window
        scale = (window.double() ** 2).sum().rsqrt()
        self.register_buffer("analysis", (_forward_transform(window) * _centring() * scale).float())
        self.register_buffer("synthesis", (_centring()[:, None] * _inverse_transform(window)).float())
        self.register_buffer("window_power", window**2)

    analysis: Tensor
    synthesis: Tensor
    window_power: Tensor

    def forward(
        self, latent: Tensor, noise: Tensor, kept: Tensor, last: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor]:
        frames = cast(slice, kept)  # a tensor of indices where the codec has a slice: indexing takes both
        tone, offset, shaping = self.codec.vocoder.parts(latent, self.codec.envelope(latent), frames)
        phase, turned = phase_after(tone, carry, cast(int, last))
        phase = phase + offset
        tonal = tone.exp()
        white = _framed(noise[:, 0], HOP_SAMPLES)[:, kept] @ self.analysis
        shaped = white * shaping.exp().repeat(1, 1, 2)
        spectrum = torch.cat([tonal * phase.cos(), tonal * phase.sin()], -1) + shaped
        return self._overlapped(spectrum @ self.synthesis)[:, None].clamp(-1, 1), turned

    def _overlapped(self, frames: Tensor) -> Tensor:
        """Frames [B, K, 1024], each centred in its hop -> [B, K * 256]."""
        power = _overlap_added(self.window_power + torch.zeros_like(frames[:1]))
        edge = (WINDOW_SAMPLES - HOP_SAMPLES) // 2
        return (_overlap_added(frames) / power.clamp(min=1e-3))[:, edge:-edge]


class MelEncoderModule(nn.Module):
    """audio [B, 1, T * 1024] -> latent [B, C, T]."""

    def __init__(self, codec: WhitenedMelCodec) -> None:
        super().__init__()
        self.codec = codec
        self.slow, self.fast = _Bands(codec.slow_bands), _Bands(codec.fast_bands)

    def forward(self, audio: Tensor) -> Tensor:
        slow, fast = (
            bands(audio[:, 0]).unflatten(1, (-1, FRAME_SAMPLES // bands.hop_samples)).flatten(2)
            for bands in (self.slow, self.fast)
        )
        whitening = self.codec.whitening
        return ((torch.cat([slow, fast], dim=2) - whitening.mean) @ whitening.project).transpose(1, 2)


class _Bands(nn.Module):
    """`LogBands`, its transform a matrix."""

    def __init__(self, bands: LogBands) -> None:
        super().__init__()
        self.hop_samples, self.floor = bands.hop_samples, bands.floor
        scale = 2 / bands.window.double().sum()
        self.register_buffer("transform", (_forward_transform(bands.window) * scale).float())
        self.register_buffer("filters", bands.filters)

    transform: Tensor
    filters: Tensor

    def forward(self, audio: Tensor) -> Tensor:
        real, imaginary = (_framed(audio, self.hop_samples) @ self.transform).chunk(2, dim=-1)
        return torch.log((real**2 + imaginary**2).sqrt() @ self.filters.T + self.floor)


def _framed(audio: Tensor, hop_samples: int) -> Tensor:
    """Audio [B, F * hop] -> frames [B, F, 4 hop], frame k centred in the k-th hop."""
    pad = (_HOPS - 1) * hop_samples // 2
    hops = functional.pad(audio, (pad, pad)).unflatten(1, (-1, hop_samples))  # [B, F + 3, hop]
    count = hops.shape[1] - (_HOPS - 1)
    return torch.cat([hops[:, start : start + count] for start in range(_HOPS)], dim=-1)


def _overlap_added(frames: Tensor) -> Tensor:
    """[B, K, 1024] -> [B, (K + 3) * 256]."""
    hops = frames.unflatten(2, (_HOPS, HOP_SAMPLES))
    shifted = [functional.pad(hops[:, :, i], (0, 0, i, _HOPS - 1 - i)) for i in range(_HOPS)]
    return torch.stack(shifted).sum(0).flatten(1)


def _angles(window_samples: int) -> Tensor:
    """Of sample n and bin k, float64 [window, window/2 + 1]; whole turns are taken off as integers first."""
    turns = torch.arange(window_samples)[:, None] * torch.arange(window_samples // 2 + 1)[None] % window_samples
    return 2 * math.pi * turns.double() / window_samples


def _forward_transform(window: Tensor) -> Tensor:
    """Windowed real transform: samples @ [window, 2 bins] -> real parts, then imaginary ones."""
    angles = _angles(window.shape[0])
    return window.double()[:, None] * torch.cat([angles.cos(), -angles.sin()], dim=1)


def _inverse_transform(window: Tensor) -> Tensor:
    """[2 bins, window]: real and imaginary parts @ it -> windowed samples."""
    angles = _angles(window.shape[0]).T
    weights = torch.full((angles.shape[0], 1), 2.0 / window.shape[0], dtype=torch.float64)
    weights[0] = weights[-1] = 1.0 / window.shape[0]
    return torch.cat([weights * angles.cos(), -weights * angles.sin()]) * window.double()


def _centring() -> Tensor:
    """(-1)^k of every bin, twice: phases are told at the frame's centre."""
    return (1 - 2 * (torch.arange(BINS) % 2)).double().repeat(2)
