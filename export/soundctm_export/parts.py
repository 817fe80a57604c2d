"""A bundle's networks, loaded, and what they meet on the way of a clip: realistic inputs for every graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from soundctm.bundle import CODEC_FILE, NETWORK_FILE, Bundle
from soundctm.codecs.loading import load_codec
from soundctm.codecs.protocol import Codec
from soundctm.networks import preconditioning
from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.loading import load_into, read_tensors
from soundctm.noise import Stream, standard_normal
from soundctm.spec import BundleSpec
from soundctm.text.loading import load_text_encoder
from soundctm.text.protocol import TextEncoder

# the rows of every batch that is tried: prompts, and (t, s) of the preview's jump and of two that refining makes
_PROMPTS = ("heavy rain on a tin roof", "", "a dog barks twice")
_REFINING = ((5.0, 1.0), (0.6, 0.05))
MOST_ROWS = len(_PROMPTS)


@dataclass(frozen=True)
class Parts:
    spec: BundleSpec
    network: DiT
    codec: Codec
    text: TextEncoder

    def prompts(self, rows: int) -> tuple[str, ...]:
        return _PROMPTS[:rows]

    def ids(self, rows: int) -> tuple[Tensor, Tensor]:
        """Token ids and masks [rows, L] of the first prompts."""
        ids, masks = zip(*(self.text.tokenize(prompt) for prompt in self.prompts(rows)), strict=True)
        return torch.cat(ids), torch.cat(masks)

    def contexts(self, rows: int) -> TextContext:
        """As the PyTorch engine makes them: prompt by prompt."""
        encoded = (self.text.encode([prompt]) for prompt in self.prompts(rows))
        return TextContext.cat([self.network.encode_context(tokens, mask) for tokens, mask in encoded])

    def levels(self, rows: int) -> tuple[Tensor, Tensor]:
        """t and s [rows]."""
        diffusion = self.spec.diffusion
        pairs = ((diffusion.sigma_max, diffusion.sigma_min), *_REFINING)
        t, s = zip(*pairs[:rows], strict=True)
        return torch.tensor(t), torch.tensor(s)

    def omegas(self, rows: int) -> Tensor:
        ranges = self.spec.ranges
        return torch.tensor([ranges.omega_default, ranges.omega_min, ranges.omega_max][:rows])

    def start_noise(self, rows: int, frames: int) -> Tensor:
        """Standard normals [rows, C, frames]."""
        return _noise(Stream.START, rows, (self.spec.codec.latent_channels, frames))

    def previews(self, rows: int, frames: int) -> Tensor:
        """Latents [rows, C, frames] after one jump from noise."""
        diffusion = self.spec.diffusion
        z = self.start_noise(rows, frames) * diffusion.sigma_max
        t, s = torch.full((rows,), diffusion.sigma_max), torch.full((rows,), diffusion.sigma_min)
        return self.jumped(z, t, s, self.omegas(rows), self.contexts(rows))

    def jumped(self, z: Tensor, t: Tensor, s: Tensor, omega: Tensor, context: TextContext) -> Tensor:
        return preconditioning.jump(self.network, z, t, s, omega, context, self.spec.diffusion.sigma_data)

    def decoder_noise(self, rows: int, frames: int) -> Tensor | None:
        shape = self.codec.decoder_noise_shape(frames)
        return None if shape is None else _noise(Stream.DECODER, rows, shape)


def _noise(stream: Stream, rows: int, shape: tuple[int, int]) -> Tensor:
    return torch.from_numpy(np.stack([standard_normal(seed, stream, 0, shape) for seed in range(rows)]))


def load_parts(bundle: Bundle) -> Parts:
    """Verify a bundle's checksums and load it. Raises DigestMismatchError, TensorMismatchError, BundleError."""
    bundle.verify()
    network = load_into(lambda: DiT(bundle.spec.network), read_tensors(bundle.file(NETWORK_FILE)), NETWORK_FILE)
    codec = load_codec(bundle.spec, read_tensors(bundle.file(CODEC_FILE)))
    return Parts(bundle.spec, network, codec, load_text_encoder(bundle))
