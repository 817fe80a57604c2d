"""Latent <-> waveform. A codec is the sole owner of normalisation: latents outside it have std `sigma_data`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Codec(nn.Module, ABC):
    """Shapes: latent [B, C, T]; audio [B, 1, samples] in -1..1 at the bundle's sample rate."""

    @abstractmethod
    def decoder_noise_shape(self, frames: int) -> tuple[int, int] | None:
        """(channels, length) of the standard normal that `decode` of `frames` latent frames asks for; None for none."""

    @abstractmethod
    def decode(self, latent: Tensor, noise: Tensor | None) -> Tensor:
        """[B, C, T] and noise [B, channels, length] or None -> [B, 1, T * hop]."""

    @abstractmethod
    def encoder_noise_shape(self, samples: int) -> tuple[int, int] | None:
        """(channels, frames) of the standard normal that draws from the codec's posterior; None for none."""

    @abstractmethod
    def encode(self, audio: Tensor, noise: Tensor | None) -> Tensor:
        """[B, 1, samples], padded right with zeros to whole frames, -> [B, C, T]. No noise: the posterior's mean."""
