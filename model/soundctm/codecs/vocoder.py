"""The whitened mel codec's decoder: latent frames -> spectrum -> waveform.

Every spectral frame is the sum of a tone and a noise part. The network predicts the log magnitude of both, as a
difference from the envelope that the latent states. A tone's phase advances at the frequency of its spectral peak
(single-pass spectrogram inversion, Beauregard et al. 2015), plus an offset the network predicts for attacks; the
noise part is a given white noise, shaped.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.codecs.bands import frame_spectrum

WINDOW_SAMPLES = 1024
HOP_SAMPLES = 256
BINS = WINDOW_SAMPLES // 2 + 1
_NOISE_BANDS = 65
_MAX_LOG_MAGNITUDE = 7.0  # a full-scale sine reaches ln(256) = 5.5
_PEAK_CLIMB = 2           # doublings: 4 bins, twice the main lobe of the window
_ALL = slice(None)


class ConvNextBlock(nn.Module):
    """x + scale * MLP(LN(depthwise conv x)): [B, C, T] -> [B, C, T] (Liu et al. 2022)."""

    def __init__(self, dim: int, mult: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, mult * dim)
        self.reduce = nn.Linear(mult * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.mix(x).transpose(1, 2))
        hidden = self.reduce(functional.gelu(self.expand(hidden), approximate="tanh")) * self.scale
        return x + hidden.transpose(1, 2)  # type: ignore[no-any-return]


class SpectrumNetwork(nn.Module):
    """Latent [B, C, T] -> tone log magnitude, phase offset (513 bins) and noise gain (65 bands): [B, 4 T, 1091]."""

    def __init__(self, channels: int, slow_dim: int, slow_blocks: int, fast_dim: int, fast_blocks: int) -> None:
        super().__init__()
        self.project_in = nn.Conv1d(channels, slow_dim, 3, padding=1)
        self.slow = nn.Sequential(*(ConvNextBlock(slow_dim, 3) for _ in range(slow_blocks)))
        self.upsample = nn.Conv1d(slow_dim, 4 * fast_dim, 1)
        self.fast = nn.Sequential(*(ConvNextBlock(fast_dim, 3) for _ in range(fast_blocks)))
        self.norm = nn.LayerNorm(fast_dim)
        self.head = nn.Linear(fast_dim, 2 * BINS + _NOISE_BANDS)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, latent: Tensor, kept: slice = _ALL) -> Tensor:
        hidden = self.upsample(self.slow(self.project_in(latent)))
        hidden = hidden.unflatten(1, (4, -1)).permute(0, 2, 3, 1).flatten(2)  # [B, fast_dim, 4 T]
        return self.head(self.norm(self.fast(hidden).transpose(1, 2)[:, kept]))  # type: ignore[no-any-return]


def peak_frequencies(log_magnitude: Tensor) -> Tensor:
    """Frequency, in bins, of the spectral peak that each bin [..., 513] belongs to."""
    padded = functional.pad(log_magnitude, (1, 1), value=-math.inf)
    left, right = padded[..., :-2], padded[..., 2:]
    bins = torch.arange(BINS, device=log_magnitude.device)
    climbs_right = (right > log_magnitude) & (right >= left)
    climbs_left = (left > log_magnitude) & ~climbs_right
    peak = bins + climbs_right.long() - climbs_left.long()
    for _ in range(_PEAK_CLIMB):
        peak = peak.gather(-1, peak)
    curvature = (left - 2 * log_magnitude + right)[..., 1:-1].clamp(max=-1e-3)  # parabola through three bins
    offset = (0.5 * (left - right)[..., 1:-1] / curvature).clamp(-0.5, 0.5)
    return (bins + functional.pad(offset, (1, 1))).gather(-1, peak)


def running_phase(log_magnitude: Tensor) -> Tensor:
    """Phase at the centre of every frame [B, F, 513], each peak turning at its own frequency. No gradient."""
    return phase_after(log_magnitude, None)[0]


def phase_after(log_magnitude: Tensor, before: Tensor | None, last: int = -1) -> tuple[Tensor, Tensor]:
    """`running_phase` of frames that follow others, and its state after frame `last` of them, float64 [B, 2, 513].

    `before` is the state after the frame that comes before the first of these; None: there is none.
    """
    with torch.no_grad():
        turns = peak_frequencies(log_magnitude) * (HOP_SAMPLES / WINDOW_SAMPLES)
        if before is None:
            before = turns.new_zeros(turns.shape[0], 2, BINS, dtype=torch.float64)
        total, latest = before.unbind(1)
        earlier = torch.cat([latest[:, None].to(turns.dtype), turns], 1)[:, :-1]
        steps = 0.5 * (turns + earlier)  # trapezoid: the frequency may glide
        totals = torch.cat([total[:, None], steps.double()], 1).cumsum(1)[:, 1:]
        phase = 2 * math.pi * torch.remainder(totals, 1.0).float()
        return phase, torch.stack([totals[:, last], turns[:, last].double()], 1)


def overlap_add(spectrum: Tensor, window: Tensor) -> Tensor:
    """Spectra [B, F, 513], frame k centred in the k-th hop -> samples [B, F * 256]."""
    frames = torch.fft.irfft(spectrum, n=WINDOW_SAMPLES) * window
    blocks = WINDOW_SAMPLES // HOP_SAMPLES

    def add(parts: Tensor) -> Tensor:  # [B, F, 1024] -> [B, (F + 3) * 256]
        hops = parts.unflatten(2, (blocks, HOP_SAMPLES))
        shifted = [functional.pad(hops[:, :, i], (0, 0, i, blocks - 1 - i)) for i in range(blocks)]
        return torch.stack(shifted).sum(0).flatten(1)

    pad = (WINDOW_SAMPLES - HOP_SAMPLES) // 2
    envelope = add((window**2).expand(1, frames.shape[1], -1))
    return (add(frames) / envelope.clamp(min=1e-3))[:, pad:-pad]


class Vocoder(nn.Module):
    """Latent, its envelope and white noise -> waveform."""

    window: Tensor
    noise_spread: Tensor

    def __init__(self, channels: int, slow_dim: int, slow_blocks: int, fast_dim: int, fast_blocks: int) -> None:
        super().__init__()
        self.network = SpectrumNetwork(channels, slow_dim, slow_blocks, fast_dim, fast_blocks)
        self.tone_level = nn.Parameter(torch.full((BINS,), math.log(256.0) - 1.5))
        self.noise_level = nn.Parameter(torch.full((BINS,), math.log(400.0) - 0.5))
        with torch.device("cpu"):  # arithmetic on the meta device imports torch._dynamo: seconds
            self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES))
            self.register_buffer("noise_spread", _interpolation(_NOISE_BANDS, BINS))

    def spectrum(self, latent: Tensor, envelope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latent [B, C, T], log envelope [B, 4 T, 513] -> log tone, phase and log noise, each [B, 4 T, 513]."""
        tone, offset, noise = self.parts(latent, envelope)
        return tone, running_phase(tone) + offset, noise

    def parts(self, latent: Tensor, envelope: Tensor, kept: slice = _ALL) -> tuple[Tensor, Tensor, Tensor]:
        """Log tone, phase offset and log noise of the frames kept, each [B, F, 513]."""
        tone, offset, noise = self.network(latent, kept).split([BINS, BINS, _NOISE_BANDS], dim=-1)
        envelope = envelope[:, kept]
        tone = (envelope + self.tone_level + tone).clamp(max=_MAX_LOG_MAGNITUDE)
        noise = (envelope + self.noise_level + noise @ self.noise_spread).clamp(max=_MAX_LOG_MAGNITUDE)
        return tone, offset, noise

    def synthesise(self, tone: Tensor, phase: Tensor, noise: Tensor, white: Tensor, kept: slice = _ALL) -> Tensor:
        """White noise [B, F * 256] -> waveform of the frames kept, whose tone, phase and noise these are."""
        sign = 1 - 2 * (torch.arange(BINS, device=tone.device) % 2)  # phases are told at the frame's centre
        tonal = torch.polar(tone.exp(), phase) * sign
        scale = (self.window**2).sum().rsqrt()
        shaped = frame_spectrum(white, self.window, HOP_SAMPLES)[:, kept] * (noise.exp() * scale)
        return overlap_add(tonal + shaped, self.window)


def _interpolation(points: int, bins: int) -> Tensor:
    """Linear interpolation from `points` to `bins`, both evenly spaced with common ends: [points, bins]."""
    place = torch.linspace(0, points - 1, bins)
    return (1 - (place[None] - torch.arange(points)[:, None]).abs()).clamp(min=0)
