"""Promises of the codec that encodes: found wherever it is, the same latents from the same seeds, refused when it does
not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from small_training import CONFIG
from soundctm.bundle import CODEC_FILE, find_bundle
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.mel import WhitenedMelCodec
from soundctm.errors import BundleError
from soundctm.spec import CodecKind
from soundctm_training.codec.settings import DacTraining
from soundctm_training.config import ConfigError
from soundctm_training.data.codecs import load_codec_for_encoding
from soundctm_training.data.settings import PosteriorUse
from soundctm_training.runs import write_weights

DAC = DacTraining(encoder_dim=4, encoder_rates=(4, 8), latent_dim=6, decoder_dim=16, decoder_rates=(8, 4))
DAC_CONFIG = dataclasses.replace(CONFIG, codec=None, decoder=None, dac=DAC)


def write_mel(path: Path, channels: int = 6) -> WhitenedMelCodec:
    torch.manual_seed(0)
    codec = WhitenedMelCodec(channels, slow_dim=8, slow_blocks=1, fast_dim=8, fast_blocks=1)
    codec.whitening.project.copy_(0.01 * torch.randn(codec.whitening.project.shape))
    write_weights(path, codec.state_dict())
    return codec


def write_dac(path: Path) -> GaussianDAC:
    torch.manual_seed(0)
    codec = GaussianDAC(**DAC.spec(0.5).options)
    write_weights(path, codec.state_dict())
    return codec


def noise(rows: int, samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(1))


def test_the_mel_codec_needs_its_encoder_alone(tmp_path: Path) -> None:
    codec = write_mel(tmp_path / CODEC_FILE)
    encoder = {name: t for name, t in codec.state_dict().items() if not name.startswith("vocoder.")}
    write_weights(tmp_path / "encoder.safetensors", encoder)
    loaded = [load_codec_for_encoding(tmp_path / name, CONFIG) for name in ("encoder.safetensors", CODEC_FILE, "")]
    assert {one.digest for one in loaded} == {loaded[0].digest}  # a retrained decoder leaves the latents valid
    assert (loaded[0].kind, loaded[0].channels, loaded[0].hop_samples) == (CodecKind.WHITENED_MEL, 6, 1024)
    latent = loaded[0].encode(noise(2, 3000), [(0, 0), (0, 1)], PosteriorUse.SAMPLE)
    assert torch.equal(latent, codec.encode(noise(2, 3000)[:, None]))


def test_a_bundles_codec_has_its_encoders_digest(tmp_path: Path) -> None:
    bundle = find_bundle("starter")
    network = dataclasses.replace(bundle.spec.network, text_memory=0)  # what assembling added
    config = dataclasses.replace(CONFIG, network=network)
    from_bundle, from_file = (load_codec_for_encoding(path, config) for path in (bundle.path, bundle.file(CODEC_FILE)))
    assert from_bundle.digest == from_file.digest
    assert from_bundle.channels == bundle.spec.codec.latent_channels


def test_a_draw_from_the_posterior_depends_on_its_clip_alone(tmp_path: Path) -> None:
    codec = write_dac(tmp_path / CODEC_FILE)
    loaded = load_codec_for_encoding(tmp_path, DAC_CONFIG)
    audio, seeds = noise(3, 64 * 32), [(0, 7, 0), (0, 8, 0), (0, 8, 1)]
    latent = loaded.encode(audio, seeds, PosteriorUse.SAMPLE)
    alone = loaded.encode(audio[1:2], seeds[1:2], PosteriorUse.SAMPLE)
    torch.testing.assert_close(latent[1:2], alone, rtol=0, atol=1e-5)  # products of other batch sizes round otherwise
    mean = loaded.encode(audio, seeds, PosteriorUse.MEAN)
    torch.testing.assert_close(mean, codec.encode(audio[:, None], None))
    posterior = codec.posterior(audio[:, None])
    drawn = ((latent - mean) / 0.5 / posterior.std).detach().numpy()  # standardise: sigma_data 0.5, deviation 1
    expected = [np.random.default_rng(list(seed)).standard_normal((6, 64), dtype=np.float32) for seed in seeds]
    np.testing.assert_allclose(drawn, np.stack(expected), atol=1e-3)


def test_a_codec_of_other_channels_than_the_network_is_refused_with_both(tmp_path: Path) -> None:
    write_mel(tmp_path / CODEC_FILE, channels=8)
    with pytest.raises(ConfigError, match=r"makes latents of 8 channels, but network\.io_channels is 6"):
        load_codec_for_encoding(tmp_path / CODEC_FILE, CONFIG)


def test_files_that_are_no_such_codec_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"codec\.safetensors cannot be read"):
        load_codec_for_encoding(tmp_path / CODEC_FILE, CONFIG)
    write_dac(tmp_path / CODEC_FILE)
    with pytest.raises(ConfigError, match=r"no whitened mel codec.*has no \[dac\]"):
        load_codec_for_encoding(tmp_path / CODEC_FILE, CONFIG)
    other = dataclasses.replace(DAC_CONFIG, dac=dataclasses.replace(DAC, encoder_dim=8))
    with pytest.raises(ConfigError, match=r"of another shape.*trained with"):
        load_codec_for_encoding(tmp_path, other)
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="not a valid manifest"):
        load_codec_for_encoding(tmp_path, CONFIG)
