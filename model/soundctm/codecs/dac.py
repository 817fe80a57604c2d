"""The official codec: a variational DAC (Kumar et al. 2023) with a Gaussian posterior instead of codebooks.

Attribute names follow the official checkpoint keys, in their form without weight normalisation.
Shapes: audio [B, 1, samples]; latent [B, C, T]; samples = T * hop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.codecs.protocol import Codec

_LOGVAR_MIN, _LOGVAR_MAX = -30.0, 20.0
_DILATIONS = (1, 3, 9)
_TILE_FRAMES = 96


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha (Ziyin et al. 2020), one alpha per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha + 1e-9).reciprocal() * (self.alpha * x).sin().square()


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(channels),
            nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            Snake(channels),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)  # type: ignore[no-any-return]


def _residual_units(channels: int) -> list[nn.Module]:
    return [ResidualUnit(channels, dilation) for dilation in _DILATIONS]


class EncoderBlock(nn.Module):
    """[B, C, T] -> [B, 2 C, T / stride]."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        down = nn.Conv1d(channels, 2 * channels, 2 * stride, stride, padding=math.ceil(stride / 2))
        self.block = nn.Sequential(*_residual_units(channels), Snake(channels), down)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """[B, C, T] -> [B, C / 2, T * stride]; one sample less when the stride is odd, as in the official code."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        up = nn.ConvTranspose1d(channels, half, 2 * stride, stride, padding=math.ceil(stride / 2))
        self.block = nn.Sequential(Snake(channels), up, *_residual_units(half))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Audio [B, 1, samples] -> [B, outputs, T]."""

    def __init__(self, channels: int, strides: Sequence[int], outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(1, channels, 7, padding=3)]
        for stride in strides:
            layers.append(EncoderBlock(channels, stride))
            channels *= 2
        self.block = nn.Sequential(*layers, Snake(channels), nn.Conv1d(channels, outputs, 3, padding=1))

    def forward(self, audio: Tensor) -> Tensor:
        return self.block(audio)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """[B, inputs, T] -> audio [B, 1, samples]."""

    def __init__(self, inputs: int, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(inputs, channels, 7, padding=3)]
        for stride in strides:
            layers.append(DecoderBlock(channels, stride))
            channels //= 2
        self.model = nn.Sequential(*layers, Snake(channels), nn.Conv1d(channels, 1, 7, padding=3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


def decoder_reach_frames(strides: Sequence[int]) -> int:
    """How many latent frames to either side a sample of the decoder's depends on, rounded up."""
    reach, rate = 3.0, 1  # samples of a layer per latent frame
    for stride in strides:
        reach += 1 / rate  # the transposed convolution spans two inputs
        rate *= stride
        reach += 3 * sum(_DILATIONS) / rate
    return math.ceil(reach + 3 / rate)


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over raw latents, mean and logvar [B, C, T]."""

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        return (0.5 * self.logvar).exp()

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + self.std * noise

    def kl(self) -> Tensor:
        """Divergence from the standard normal [B]: a MEAN over channels and frames, as in the official code."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1.0 - self.logvar).mean(dim=(1, 2))


class GaussianDAC(Codec):
    """Raw latents z have the statistics `z_mean`, `z_std` [C]; outside, latent = sigma_data (z - z_mean) / z_std."""

    z_mean: Tensor
    z_std: Tensor

    def __init__(
        self,
        *,
        encoder_dim: int,
        encoder_rates: Sequence[int],
        latent_dim: int,
        decoder_dim: int,
        decoder_rates: Sequence[int],
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__()
        self.hop_samples = math.prod(encoder_rates)
        self.latent_dim = latent_dim
        self.sigma_data = sigma_data
        self.tile_frames, self.halo_frames = _TILE_FRAMES, decoder_reach_frames(decoder_rates)
        self.encoder = Encoder(encoder_dim, encoder_rates, 2 * latent_dim)
        self.decoder = Decoder(latent_dim, decoder_dim, decoder_rates)
        self.pre_conv = nn.Conv1d(2 * latent_dim, 2 * latent_dim, 1)
        self.post_conv = nn.Conv1d(latent_dim, latent_dim, 1)
        self.register_buffer("z_mean", torch.zeros(latent_dim))
        self.register_buffer("z_std", torch.ones(latent_dim))

    def pad(self, audio: Tensor) -> Tensor:
        """Zeros on the right, up to whole frames."""
        return functional.pad(audio, (0, -audio.shape[-1] % self.hop_samples))

    def posterior(self, audio: Tensor) -> Posterior:
        """Audio [B, 1, samples] of any length -> the posterior of its raw latents."""
        mean, logvar = self.pre_conv(self.encoder(self.pad(audio))).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(_LOGVAR_MIN, _LOGVAR_MAX))

    def decode_raw(self, z: Tensor) -> Tensor:
        """Raw latents [B, C, T] -> audio [B, 1, T * hop], not trimmed."""
        return self.decoder(self.post_conv(z))  # type: ignore[no-any-return]

    def standardise(self, z: Tensor) -> Tensor:
        return self.sigma_data * (z - self.z_mean[:, None]) / self.z_std[:, None]

    def restore(self, latent: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return latent / self.sigma_data * self.z_std[:, None] + self.z_mean[:, None]

    def decoder_noise_shape(self, frames: int) -> tuple[int, int] | None:
        return None

    def decode(self, latent: Tensor, noise: Tensor | None) -> Tensor:
        """The decoder draws nothing: raises ValueError when noise is given."""
        if noise is not None:
            raise ValueError(f"the Gaussian DAC decodes without noise; got noise of shape {tuple(noise.shape)}")
        return self.decode_raw(self.restore(latent))

    def decode_tile(
        self, latent: Tensor, noise: Tensor | None, before: int, after: int, carry: Tensor | None
    ) -> tuple[Tensor, None]:
        samples = self.decode(latent, noise)[..., before * self.hop_samples :]
        return samples[..., : (latent.shape[-1] - before - after) * self.hop_samples], None

    def encoder_noise_shape(self, samples: int) -> tuple[int, int] | None:
        return self.latent_dim, -(-samples // self.hop_samples)

    def encode(self, audio: Tensor, noise: Tensor | None) -> Tensor:
        posterior = self.posterior(audio)
        return self.standardise(posterior.mean if noise is None else posterior.sample(noise))
