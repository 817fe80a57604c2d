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
_EDGE_REACH = 3  # of the convolutions of 7 at both ends
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

    def stages(self) -> list[nn.Module]:
        """The first convolution, the blocks, and all that follows them."""
        layers = list(self.model)
        return [*layers[:-3], nn.Sequential(*layers[-3:])]


def decoder_reaches(strides: Sequence[int]) -> list[int]:
    """How many of its own samples to either side everything after it depends on: of the decoder's input, of the output
    of its first convolution, then of every block's."""
    reaches = [_EDGE_REACH]
    for stride in reversed(strides):  # the transposed convolution spans two inputs
        reaches.append(math.ceil((reaches[-1] + 3 * sum(_DILATIONS)) / stride) + 1)
    return [reaches[-1] + _EDGE_REACH, *reversed(reaches)]


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
        self._strides, self._reaches = tuple(decoder_rates), decoder_reaches(decoder_rates)
        self.tile_frames, self.halo_frames = _TILE_FRAMES, self._reaches[0]
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
        _refuse(noise)
        return self.decode_raw(self.restore(latent))

    def decode_tile(
        self, latent: Tensor, noise: Tensor | None, before: int, after: int, carry: Tensor | None
    ) -> tuple[Tensor, None]:
        """Of the halo every stage gets what the stages after it still reach, and no more."""
        _refuse(noise)
        x, start, tile = self.post_conv(self.restore(latent)), before, latent.shape[-1] - before - after
        for stage, stride, reach in zip(
            self.decoder.stages(), (1, *self._strides, 1), (*self._reaches[1:], 0), strict=True
        ):
            x, start, tile = stage(x), start * stride, tile * stride
            first = max(0, start - reach)
            x, start = x[..., first : start + tile + reach], start - first
        return x, None

    def encoder_noise_shape(self, samples: int) -> tuple[int, int] | None:
        return self.latent_dim, -(-samples // self.hop_samples)

    def encode(self, audio: Tensor, noise: Tensor | None) -> Tensor:
        posterior = self.posterior(audio)
        return self.standardise(posterior.mean if noise is None else posterior.sample(noise))


def _refuse(noise: Tensor | None) -> None:
    if noise is not None:
        raise ValueError(f"the Gaussian DAC decodes without noise; got noise of shape {tuple(noise.shape)}")
