"""The text encoder, the jump and the Gaussian DAC as modules with plain tensors in and out, as graphs need them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from soundctm.codecs.dac import GaussianDAC
from soundctm.networks import preconditioning
from soundctm.networks.dit import DiT, TextContext
from soundctm.text.pooling import sentence_embedding


class TextModule(nn.Module):
    """ids, mask [B, L] -> (prompt embedding [B, D], every field of the TextContext but its mask)."""

    def __init__(self, encoder: nn.Module, network: DiT) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        hidden = self.encoder(ids, mask)
        if hidden.ndim == 2:  # one vector per prompt: one token, never masked
            tokens, kept = hidden[:, None], None
            embedding = hidden
        else:
            tokens, kept = hidden * mask[..., None], mask
            embedding = sentence_embedding(tokens, mask)
        return embedding, *context_fields(self.network.encode_context(tokens, kept)).values()


def context_fields(context: TextContext) -> dict[str, Tensor]:
    """What a text graph gives; the mask is one of its inputs."""
    return {name: value for name, value in context.fields().items() if name != "mask"}


class JumpModule(nn.Module):
    """z [B, C, T], t, s, omega [B] and the fields of a TextContext, named by `fields` -> G(z, t, s) [B, C, T]."""

    def __init__(self, network: DiT, sigma_data: float, fields: Sequence[str]) -> None:
        super().__init__()
        self.network, self.sigma_data, self.fields = network, sigma_data, tuple(fields)

    def forward(self, z: Tensor, t: Tensor, s: Tensor, omega: Tensor, *text: Tensor) -> Tensor:
        context = TextContext(**dict(zip(self.fields, text, strict=True)))
        return preconditioning.jump(self.network, z, t, s, omega, context, self.sigma_data)


class DacDecoderModule(nn.Module):
    """latent [B, C, T] -> audio [B, 1, T * hop]."""

    def __init__(self, codec: GaussianDAC) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, latent: Tensor) -> Tensor:
        return self.codec.decode(latent, None)


class DacEncoderModule(nn.Module):
    """audio [B, 1, T * hop] -> mean and standard deviation of the latent, each [B, C, T]."""

    def __init__(self, codec: GaussianDAC) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.codec.posterior(audio)
        spread = posterior.std * self.codec.sigma_data / self.codec.z_std[:, None]
        return self.codec.standardise(posterior.mean), spread
