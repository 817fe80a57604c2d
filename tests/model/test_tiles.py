"""A clip decoded in tiles is the clip decoded whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from soundctm.bundle import find_bundle, open_bundle
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.mel import WhitenedMelCodec
from soundctm.codecs.protocol import Codec
from soundctm.engines.torch import TorchEngine, load_engine


def dac() -> Codec:
    return GaussianDAC(encoder_dim=2, encoder_rates=[2, 4, 8], latent_dim=3, decoder_dim=16, decoder_rates=[8, 4, 2])


def odd_dac() -> Codec:
    """Odd strides: a whole clip ends some samples early."""
    return GaussianDAC(encoder_dim=2, encoder_rates=[3, 5], latent_dim=3, decoder_dim=8, decoder_rates=[5, 3])


def mel() -> Codec:
    codec = WhitenedMelCodec(3, slow_dim=8, slow_blocks=2, fast_dim=8, fast_blocks=3)
    for name, tensor in codec.named_buffers():
        if "whitening" in name:
            tensor.normal_()
    return codec


def tiles_of(codec: Codec, latent: torch.Tensor, noise: torch.Tensor | None, cuts: list[int]) -> torch.Tensor:
    frames, pieces, carry = latent.shape[-1], [], None
    per_frame = 0 if noise is None else noise.shape[-1] // frames
    for start, stop in zip([0, *cuts], [*cuts, frames], strict=True):
        first, last = max(0, start - codec.halo_frames), min(frames, stop + codec.halo_frames)
        share = None if noise is None else noise[..., first * per_frame : last * per_frame]
        piece, carry = codec.decode_tile(latent[..., first:last], share, start - first, last - stop, carry)
        pieces.append(piece)
    return torch.cat(pieces, -1)


@pytest.mark.parametrize("cuts", [[40], [1, 2, 60], [20, 40, 60, 79]])
@pytest.mark.parametrize("make", [dac, odd_dac, mel])
def test_tiles_join_to_the_whole(make: type[Codec], cuts: list[int]) -> None:
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        codec = make().eval()
        latent = torch.randn(2, 3, 80)
        shape = codec.decoder_noise_shape(80)
        noise = None if shape is None else torch.randn(2, *shape)
        whole = codec.decode(latent, noise)
        found = tiles_of(codec, latent, noise, cuts)
    assert found.shape == whole.shape
    # of the mel codec's bins between two peaks, rounding in the seventh digit can send one to the other peak
    assert float((found - whole).norm() / whole.norm()) < 1e-3
    assert float((found - whole).abs().median()) < 1e-6


@pytest.mark.parametrize("make", [dac, odd_dac, mel])
def test_the_halo_holds_everything_a_tile_depends_on(make: type[Codec]) -> None:
    """What lies further away changes nothing; what lies within does."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(1)
        codec = make().eval()
        latent, noise = torch.randn(1, 3, 100), None
        shape = codec.decoder_noise_shape(100)
        noise = None if shape is None else torch.randn(1, *shape)
        edge = 60
        other = latent.clone()
        other[..., edge:] = torch.randn(1, 3, 100 - edge)
        first, second = codec.decode(latent, noise), codec.decode(other, noise)
        per_frame = first.shape[-1] // 100
        safe = (edge - codec.halo_frames) * per_frame
        assert torch.equal(first[..., :safe], second[..., :safe])
        assert not torch.equal(first[..., : edge * per_frame], second[..., : edge * per_frame])


@pytest.mark.parametrize("make", [dac, odd_dac])
def test_a_tile_costs_little_more_than_its_share(make: type[GaussianDAC]) -> None:
    """Of the halo every stage computes what it must: the last one, which makes most samples, hardly any of it."""
    codec = make().eval()
    made: list[int] = []
    codec.decoder.model[-1].register_forward_hook(lambda module, inputs, output: made.append(output.shape[-1]))
    with torch.inference_mode():
        piece, _ = codec.decode_tile(torch.randn(1, 3, 40), None, 14, 14, None)
    assert piece.shape[-1] == 12 * codec.hop_samples
    assert made == [piece.shape[-1] + 2 * 3]  # the last convolution reaches three samples to either side


@pytest.fixture(scope="module")
def tiny(tiny_bundle_dir: Path) -> TorchEngine:
    return load_engine(open_bundle(tiny_bundle_dir))


@pytest.mark.parametrize("seconds", [0.5, 2.3, 10.0])
def test_the_engine_decodes_every_length_in_tiles(tiny: TorchEngine, seconds: float) -> None:
    frames = tiny.spec.latent_frames(seconds)
    latents = torch.randn(2, 4, frames, generator=torch.Generator().manual_seed(0)) / 2
    pieces, carries = [], [None, None]
    for index in range(tiny.decode_tiles(frames)):
        piece, carries = tiny.decode_tile(latents, [1, 2], index, carries)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, -1), tiny.decode(latents, [1, 2]), atol=1e-5)


def test_the_starters_tiles_have_its_noise_and_its_phases() -> None:
    """The real weights: a phase that turned otherwise, or another noise, would be heard at every cut."""
    engine = load_engine(find_bundle("starter"))
    latent = 0.5 * torch.randn(1, 40, 300, generator=torch.Generator().manual_seed(0))
    assert engine.decode_tiles(300) == 3
    pieces, carries = [], [None]
    for index in range(3):
        piece, carries = engine.decode_tile(latent, [7], index, carries)
        pieces.append(piece)
    whole = engine.decode(latent, [7])
    difference = np.concatenate(pieces, -1) - whole
    assert np.sqrt(np.mean(difference**2)) < 1e-4 * np.sqrt(np.mean(whole**2))
