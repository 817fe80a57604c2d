"""The starter's codec: a fixed, whitened log-band encoder and a small trained decoder.

Encoder: 352 log bands per 1024-sample frame (`bands.py`), projected on their principal components and scaled to a
standard deviation of sigma_data over all channels. Decoder: `vocoder.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.codecs.bands import LogBands
from soundctm.codecs.protocol import Codec
from soundctm.codecs.vocoder import BINS, HOP_SAMPLES, WINDOW_SAMPLES, Vocoder, phase_after

FRAME_SAMPLES = 1024
_SLOW_BANDS, _SLOW_PARTS = 80, 2
_FAST_BANDS, _FAST_PARTS = 24, 8
_TILE_FRAMES = 108
_OVERLAP = 2  # vocoder frames to either side that share samples with one
_FRAMES_PER_LATENT = FRAME_SAMPLES // HOP_SAMPLES  # of the vocoder
FEATURES = _SLOW_BANDS * _SLOW_PARTS + _FAST_BANDS * _FAST_PARTS


class Whitening(nn.Module):
    """Features <-> latent channels, linear. `project` undoes `restore` on the span of the basis."""

    mean: Tensor
    project: Tensor
    restore: Tensor

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("project", torch.zeros(features, channels))
        self.register_buffer("restore", torch.zeros(channels, features))


class WhitenedMelCodec(Codec):
    """Audio [B, 1, samples] <-> latent [B, channels, frames]; the arguments are `CodecSpec.options`."""

    bins_from_bands: Tensor

    def __init__(
        self,
        channels: int,
        slow_dim: int = 256,
        slow_blocks: int = 4,
        fast_dim: int = 192,
        fast_blocks: int = 5,
        sample_rate_hz: int = 44100,
    ) -> None:
        super().__init__()
        self.slow_bands = LogBands(_SLOW_BANDS, 2048, FRAME_SAMPLES // _SLOW_PARTS, sample_rate_hz, 30.0, 3e-5)
        self.fast_bands = LogBands(_FAST_BANDS, 512, FRAME_SAMPLES // _FAST_PARTS, sample_rate_hz, 60.0, 1e-4)
        self.whitening = Whitening(FEATURES, channels)
        self.vocoder = Vocoder(channels, slow_dim, slow_blocks, fast_dim, fast_blocks)
        fast_reach = 3 * fast_blocks + _OVERLAP + 1  # convolutions, overlap, and one more frame handed on
        self.tile_frames = _TILE_FRAMES
        self.halo_frames = 1 + 3 * slow_blocks + -(-fast_reach // _FRAMES_PER_LATENT)
        with torch.device("cpu"):  # arithmetic on the meta device imports torch._dynamo: seconds
            self.register_buffer("bins_from_bands", _bins_from_bands(self.slow_bands.filters, sample_rate_hz))

    def decoder_noise_shape(self, frames: int) -> tuple[int, int]:
        return 1, frames * FRAME_SAMPLES

    def encoder_noise_shape(self, samples: int) -> None:
        return None

    def features(self, audio: Tensor) -> Tensor:
        """Audio [B, samples], whole frames -> [B, frames, 352]: slow parts first, in time order, then fast ones."""
        parts = ((self.slow_bands, _SLOW_PARTS), (self.fast_bands, _FAST_PARTS))
        return torch.cat([bands(audio).unflatten(1, (-1, count)).flatten(2) for bands, count in parts], dim=2)

    def encode(self, audio: Tensor, noise: Tensor | None = None) -> Tensor:
        padded = functional.pad(audio[:, 0], (0, -audio.shape[-1] % FRAME_SAMPLES))
        latent: Tensor = (self.features(padded) - self.whitening.mean) @ self.whitening.project
        return latent.transpose(1, 2).contiguous()

    def envelope(self, latent: Tensor) -> Tensor:
        """Log magnitude [B, 4 T, 513] that the slow bands of a latent [B, C, T] state."""
        features = latent.transpose(1, 2) @ self.whitening.restore + self.whitening.mean
        slow = features[..., : _SLOW_BANDS * _SLOW_PARTS].unflatten(2, (_SLOW_PARTS, -1)).flatten(1, 2)
        slow = functional.interpolate(slow.transpose(1, 2), scale_factor=2.0, mode="linear").transpose(1, 2)
        return slow @ self.bins_from_bands

    def decode(self, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Raises ValueError without the noise that `decoder_noise_shape` asks for."""
        return self.decode_tile(latent, noise, 0, 0, None)[0]

    def decode_tile(
        self, latent: Tensor, noise: Tensor | None, before: int, after: int, carry: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A tile hands on how far every bin's phase has turned."""
        if noise is None:
            raise ValueError("this decoder shapes a noise: pass a standard normal of decoder_noise_shape(frames)")
        start, stop = _FRAMES_PER_LATENT * before, _FRAMES_PER_LATENT * (latent.shape[-1] - after)
        margin = _OVERLAP if before else 0
        kept = slice(start - margin, stop + (_OVERLAP if after else 0))
        tone, offset, shaping = self.vocoder.parts(latent, self.envelope(latent), kept)
        next_start = stop - _OVERLAP - kept.start  # of the frames the next tile keeps, counted in those of this one
        phase, turned = phase_after(tone, carry, next_start - 1)
        audio = self.vocoder.synthesise(tone, phase + offset, shaping, noise[:, 0], kept)
        audio = audio[:, margin * HOP_SAMPLES :][:, : (stop - start) * HOP_SAMPLES]
        return audio[:, None].clamp(-1, 1), turned


def _bins_from_bands(filters: Tensor, sample_rate_hz: int) -> Tensor:
    """Linear interpolation from the bands' centres to the vocoder's bins: [bands, 513]."""
    hz = torch.arange(filters.shape[1]) * (sample_rate_hz / 2 / (filters.shape[1] - 1))
    centres = filters @ hz
    bins_hz = torch.arange(BINS) * (sample_rate_hz / WINDOW_SAMPLES)
    upper = torch.searchsorted(centres, bins_hz).clamp(1, len(centres) - 1)
    low, high = centres[upper - 1], centres[upper]
    share = ((bins_hz - low) / (high - low)).clamp(0, 1)
    weights = torch.zeros(len(centres), BINS)
    weights.scatter_(0, upper[None], share[None])
    return weights.scatter_(0, upper[None] - 1, 1 - share[None])
