"""The codec: principal components for the encoder, a spectral energy distance for the decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm.codecs.bands import frame_spectrum
from soundctm.codecs.mel import FEATURES, FRAME_SAMPLES, WhitenedMelCodec

PCM_SCALE = 32767.0
_LOG_FLOOR = 1e-3  # of magnitudes whose full-scale sine is 1, under the loss's logarithm
_LINEAR_WEIGHT = 4.0


def fit_whitening(codec: WhitenedMelCodec, batches: Iterator[Tensor], spread: float, sigma_data: float) -> float:
    """Fit mean, projection and its inverse on audio batches [B, samples]; returns the share of variance kept.

    Channel i has standard deviation ~ variance_i**(spread / 2); over all channels it is sigma_data.
    """
    count, total, outer = 0, torch.zeros(FEATURES, dtype=torch.float64), torch.zeros(FEATURES, FEATURES).double()
    for audio in batches:
        rows = codec.features(audio).flatten(0, 1).double()
        count, total, outer = count + len(rows), total + rows.sum(0), outer + rows.T @ rows
    mean = total / count
    values, vectors = torch.linalg.eigh(outer / count - mean[:, None] * mean[None])
    channels = codec.whitening.project.shape[1]
    kept, basis = values[-channels:].flip(0), vectors[:, -channels:].flip(1)
    std = kept ** (spread / 2)
    std = std * (sigma_data / std.square().mean().sqrt())
    scale = std / kept.sqrt()
    codec.whitening.mean.copy_(mean)
    codec.whitening.project.copy_(basis * scale)
    codec.whitening.restore.copy_((basis / scale).T)
    return float(kept.sum() / values.sum())


def spectral_distances(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of log and of linear magnitudes over all resolutions."""
    terms = [
        ((x + _LOG_FLOOR).log() - (y + _LOG_FLOOR).log()).abs().mean() + _LINEAR_WEIGHT * (x - y).abs().mean()
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(terms).mean()


def spectra(audio: Tensor, windows: Sequence[Tensor]) -> list[Tensor]:
    """Magnitudes of [B, samples] at several resolutions, a full-scale sine reaching 1."""
    parts = (torch.view_as_real(frame_spectrum(audio, w, w.shape[0] // 4)) for w in windows)
    return [(part.square().sum(-1) + 1e-12).sqrt() * (2 / w.sum()) for part, w in zip(parts, windows, strict=True)]


def energy_distance(first: Tensor, second: Tensor, target: Tensor, windows: Sequence[Tensor]) -> Tensor:
    """d(y1, x) + d(y2, x) - d(y1, y2): zero in expectation when both draws y follow the law of x, else positive."""
    y1, y2, x = (spectra(audio, windows) for audio in (first, second, target))
    return spectral_distances(y1, x) + spectral_distances(y2, x) - spectral_distances(y1, y2)


def decode_twice(codec: WhitenedMelCodec, latent: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two draws of the waveform [B, samples] of one latent; the network runs once."""
    spectrum = codec.vocoder.spectrum(latent, codec.envelope(latent))
    shape = (latent.shape[0], latent.shape[2] * FRAME_SAMPLES)
    noises = [torch.randn(shape, generator=generator) for _ in range(2)]
    first, second = (codec.vocoder.synthesise(*spectrum, noise) for noise in noises)
    return first, second


def random_crops(
    pool: NDArray[np.int16], batch: int, crop_frames: int, generator: np.random.Generator
) -> Tensor:
    """Crops [B, crop * 1024] of an int16 pool [clips, samples], at whole frames."""
    samples = crop_frames * FRAME_SAMPLES
    rows = generator.integers(len(pool), size=batch)
    starts = generator.integers(pool.shape[1] // FRAME_SAMPLES - crop_frames + 1, size=batch) * FRAME_SAMPLES
    crops = np.stack([pool[row, start : start + samples] for row, start in zip(rows, starts, strict=True)])
    return torch.from_numpy(crops.astype(np.float32) / PCM_SCALE)


def decoder_step(
    codec: WhitenedMelCodec, audio: Tensor, latent_noise: float, windows: Sequence[Tensor], generator: torch.Generator
) -> Tensor:
    """Energy distance of a batch of audio [B, samples] and its reconstructions."""
    with torch.no_grad():
        latent = codec.encode(audio[:, None])
        level = latent_noise * torch.rand((len(latent), 1, 1), generator=generator)
        latent = latent + level * torch.randn(latent.shape, generator=generator)
    first, second = decode_twice(codec, latent, generator)
    return energy_distance(first, second, audio, windows)
