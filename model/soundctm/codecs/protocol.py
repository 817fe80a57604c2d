"""Latent <-> waveform. A codec is the sole owner of normalisation: latents outside it have std `sigma_data`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Codec(nn.Module, ABC):
    """Shapes: latent [B, C, T]; audio [B, 1, samples] in -1..1 at the bundle's sample rate.

    A clip may be decoded in tiles of at most `tile_frames` latent frames; `halo_frames` on either side of a tile are
    all that its samples depend on, beside what the tile before it hands on.
    """

    tile_frames: int
    halo_frames: int

    @abstractmethod
    def decoder_noise_shape(self, frames: int) -> tuple[int, int] | None:
        """(channels, length) of the standard normal that `decode` of `frames` latent frames asks for; None for none."""

    @abstractmethod
    def decode(self, latent: Tensor, noise: Tensor | None) -> Tensor:
        """[B, C, T] and noise [B, channels, length] or None -> [B, 1, T * hop]."""

    @abstractmethod
    def decode_tile(
        self, latent: Tensor, noise: Tensor | None, before: int, after: int, carry: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The samples that `decode` of the whole clip gives for a tile, and what the tile after it needs.

        `latent` [B, C, before + tile + after] and its share of the noise reach `halo_frames` beyond the tile on
        either side, or to the clip's end. `carry` [B, ...] is what the tile before gave; None for the first, and for
        codecs whose tiles hand nothing on.
        """

    @abstractmethod
    def encoder_noise_shape(self, samples: int) -> tuple[int, int] | None:
        """(channels, frames) of the standard normal that draws from the codec's posterior; None for none."""

    @abstractmethod
    def encode(self, audio: Tensor, noise: Tensor | None) -> Tensor:
        """[B, 1, samples], padded right with zeros to whole frames, -> [B, C, T]. No noise: the posterior's mean."""
