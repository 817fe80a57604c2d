"""The Gaussian DAC keeps its promises on lengths, noise and normalisation; its values are the parity tests' matter."""

from __future__ import annotations

import pytest
import torch

from soundctm.codecs.dac import GaussianDAC, Posterior
from soundctm.codecs.weight_norm import fold_weight_norm
from soundctm.errors import TensorMismatchError


@pytest.fixture(scope="module")
def codec() -> GaussianDAC:
    torch.manual_seed(0)
    codec = GaussianDAC(encoder_dim=2, encoder_rates=[2, 4], latent_dim=3, decoder_dim=8, decoder_rates=[4, 2])
    codec.z_mean += torch.tensor([1.0, -2.0, 0.5])
    codec.z_std *= torch.tensor([2.0, 0.1, 3.0])
    return codec.eval().requires_grad_(False)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (8, 1), (9, 2), (80, 10)])
def test_audio_is_padded_to_whole_frames(codec: GaussianDAC, samples: int, frames: int) -> None:
    latent = codec.encode(torch.randn(2, 1, samples), None)
    assert latent.shape == (2, 3, frames)
    assert codec.encoder_noise_shape(samples) == (3, frames)
    assert codec.decode(latent, None).shape == (2, 1, frames * codec.hop_samples)


def test_padding_is_zeros_on_the_right(codec: GaussianDAC) -> None:
    audio = torch.randn(1, 1, 5)
    assert torch.equal(codec.pad(audio), torch.cat([audio, torch.zeros(1, 1, 3)], dim=-1))
    assert codec.pad(torch.randn(1, 1, 16)).shape[-1] == 16


def test_encoding_draws_only_from_the_noise_given(codec: GaussianDAC) -> None:
    audio, noise = torch.randn(1, 1, 16), torch.randn(1, 3, 2)
    posterior = codec.posterior(audio)
    assert torch.equal(codec.encode(audio, None), codec.standardise(posterior.mean))
    assert torch.equal(codec.encode(audio, noise), codec.standardise(posterior.mean + posterior.std * noise))


def test_the_codec_owns_normalisation(codec: GaussianDAC) -> None:
    z = codec.z_mean[:, None] + codec.z_std[:, None] * torch.randn(1, 3, 4000)
    latent = codec.standardise(z)
    assert latent.std(dim=2).sub(0.5).abs().max() < 0.05 and latent.mean(dim=2).abs().max() < 0.05
    assert torch.allclose(codec.restore(latent), z, atol=1e-5)


def test_noise_for_a_decoder_that_draws_none_is_refused(codec: GaussianDAC) -> None:
    assert codec.decoder_noise_shape(4) is None
    with pytest.raises(ValueError, match="without noise"):
        codec.decode(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2))


def test_divergence_is_a_mean_over_channels_and_frames() -> None:
    """KL(N(m, v) || N(0, 1)) = (m^2 + v - 1 - log v) / 2 everywhere, so the mean is that number."""
    posterior = Posterior(torch.full((2, 3, 4), 2.0), torch.zeros(2, 3, 4))
    assert torch.equal(posterior.kl(), torch.full((2,), 2.0))


def test_folding_equals_torchs_own_weight_normalisation() -> None:
    torch.manual_seed(1)
    for plain in (torch.nn.Conv1d(3, 5, 7), torch.nn.ConvTranspose1d(3, 5, 4, 2)):
        normed = torch.nn.utils.parametrizations.weight_norm(plain, dim=0)
        with torch.no_grad():
            normed.parametrizations.weight.original0.mul_(3.0)
        stored = {
            "up.weight_g": normed.parametrizations.weight.original0,
            "up.weight_v": normed.parametrizations.weight.original1,
            "up.bias": normed.bias,
        }
        folded = fold_weight_norm(stored)
        assert set(folded) == {"up.weight", "up.bias"}
        assert torch.allclose(folded["up.weight"], normed.weight, atol=1e-6)


@pytest.mark.parametrize("alone", ["up.weight_g", "up.weight_v"])
def test_half_a_weight_normalisation_is_named(alone: str) -> None:
    other = {"up.weight_g": "up.weight_v", "up.weight_v": "up.weight_g"}[alone]
    with pytest.raises(TensorMismatchError, match=other):
        fold_weight_norm({alone: torch.ones(2, 1, 1)})
