"""Promises of the whitened mel codec and of its training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from small_training import CONFIG
from soundctm.codecs.bands import mel_filters
from soundctm.codecs.loading import load_codec
from soundctm.codecs.mel import WhitenedMelCodec
from soundctm.codecs.vocoder import overlap_add, peak_frequencies, running_phase
from soundctm_training.codec.crops import PoolCrops
from soundctm_training.codec.description import codec_spec
from soundctm_training.codec.mel_training import MelTrainer, decoder_loss, draw_decoder_noise, energy_distance
from soundctm_training.codec.settings import CodecTrainingError
from soundctm_training.codec.stage import codec_trainer, fitted_codec
from soundctm_training.codec.whitening import ENCODER_FILE, fit_whitening
from soundctm_training.config import ConfigError
from soundctm_training.runs import write_weights
from tiny import TINY_SPEC

SPEC = dataclasses.replace(TINY_SPEC, codec=codec_spec(CONFIG))


def sounds(clips: int, frames: int, seed: int = 0) -> torch.Tensor:
    """Coloured, swelling noise with a tone: [clips, samples]."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn((clips, frames * 1024), generator=generator)
    time = torch.arange(frames * 1024) / 44100
    hz = 200 + 3000 * torch.rand((clips, 1), generator=generator)
    swell = 0.5 + 0.5 * torch.sin(2 * np.pi * (1 + 5 * torch.rand((clips, 1), generator=generator)) * time)
    return 0.05 * swell * white.cumsum(1).diff(dim=1, prepend=white[:, :1]) + 0.1 * torch.sin(2 * np.pi * hz * time)


@pytest.fixture(scope="module")
def codec() -> WhitenedMelCodec:
    torch.manual_seed(0)
    codec = WhitenedMelCodec(**CONFIG.codec.options())
    fit_whitening(codec, iter([sounds(8, 20)]), CONFIG.codec.spread, 0.5)
    return codec


def test_latents_have_deviation_sigma_data_and_uncorrelated_channels(codec: WhitenedMelCodec) -> None:
    latent = codec.encode(sounds(8, 20)[:, None]).transpose(0, 1).flatten(1)
    assert float(latent.square().mean().sqrt()) == pytest.approx(0.5, abs=0.01)
    covariance = latent @ latent.T / latent.shape[1]
    off_diagonal = covariance - torch.diag(covariance.diag())
    assert float(off_diagonal.abs().max()) < 0.01 * float(covariance.diag().max())


def test_restoring_undoes_projecting(codec: WhitenedMelCodec) -> None:
    identity = codec.whitening.restore @ codec.whitening.project
    torch.testing.assert_close(identity, torch.eye(6), atol=1e-4, rtol=0)


def test_lengths_are_whole_frames(codec: WhitenedMelCodec) -> None:
    latent = codec.encode(sounds(2, 5)[:, None, :4100])
    assert latent.shape == (2, 6, 5)
    channels, length = codec.decoder_noise_shape(5)
    audio = codec.decode(latent, torch.randn(2, channels, length))
    assert audio.shape == (2, 1, 5 * 1024)
    assert bool(torch.isfinite(audio).all()) and float(audio.detach().abs().max()) <= 1


def test_decoding_is_a_function_of_latent_and_noise(codec: WhitenedMelCodec) -> None:
    latent, noise = codec.encode(sounds(1, 5)[:, None]), torch.randn(1, 1, 5 * 1024)
    torch.manual_seed(1)
    first = codec.decode(latent, noise)
    torch.manual_seed(2)
    torch.testing.assert_close(codec.decode(latent, noise), first, rtol=0, atol=0)
    assert not torch.equal(codec.decode(latent, -noise), first)
    with pytest.raises(ValueError, match="decoder_noise_shape"):
        codec.decode(latent, None)


def test_loads_from_its_own_tensors_alone(codec: WhitenedMelCodec) -> None:
    loaded = load_codec(SPEC, codec.state_dict())
    latent, noise = codec.encode(sounds(1, 3)[:, None]), torch.randn(1, 1, 3 * 1024)
    torch.testing.assert_close(loaded.decode(latent, noise), codec.decode(latent, noise), rtol=0, atol=0)


def test_filters_are_averages() -> None:
    filters = mel_filters(80, 2048, 44100, 30.0)
    torch.testing.assert_close(filters.sum(1), torch.ones(80))
    assert float(filters.min()) >= 0


def test_a_steady_spectrum_becomes_a_steady_tone_of_its_peak_frequency() -> None:
    window = torch.hann_window(1024)
    hz = 1234.5
    tone = torch.sin(2 * np.pi * hz * torch.arange(1024) / 44100)
    log_magnitude = torch.fft.rfft(tone * window).abs().clamp(min=1e-3).log().expand(1, 40, -1)
    place = hz * 1024 / 44100
    near = round(place)
    assert float(peak_frequencies(log_magnitude)[0, 0, near]) == pytest.approx(place, abs=0.05)
    sign = 1 - 2 * (torch.arange(513) % 2)
    audio = overlap_add(torch.polar(log_magnitude.exp(), running_phase(log_magnitude)) * sign, window)[0]
    middle = audio[1024:-1024] * torch.hann_window(len(audio) - 2048)
    spectrum = torch.fft.rfft(middle, n=1 << 17).abs()
    found = int(spectrum.argmax()) * 44100 / (1 << 17)
    assert found == pytest.approx(hz, abs=3.0)  # a twentieth of a bin is 2 Hz, plus the grid


def test_overlap_add_inverts_the_framing() -> None:
    from soundctm.codecs.bands import frame_spectrum

    audio, window = torch.randn(2, 4096), torch.hann_window(1024)
    torch.testing.assert_close(overlap_add(frame_spectrum(audio, window, 256), window), audio, atol=1e-4, rtol=0)


def test_energy_distance_is_least_for_the_true_law() -> None:
    generator = torch.Generator().manual_seed(0)
    windows = [torch.hann_window(512)]

    def noise(level: float) -> torch.Tensor:
        return level * torch.randn((16, 8192), generator=generator)

    target = noise(0.1)
    # subtracting the part that no decoder can change, E d(x, x'), leaves the distance of the laws
    own = float(energy_distance(noise(0.1), noise(0.1), noise(0.1), windows))
    same = float(energy_distance(noise(0.1), noise(0.1), target, windows))
    assert same == pytest.approx(own, rel=0.02)
    assert float(energy_distance(noise(0.2), noise(0.2), target, windows)) > 1.2 * own
    flat = torch.full((16, 8192), 0.1)
    assert float(energy_distance(flat, flat, target, windows)) > 1.2 * own


def pools(frames: int = 12) -> PoolCrops:
    pcm = (32767 * sounds(6, frames).clamp(-1, 1)).numpy().astype(np.int16)
    return PoolCrops((pcm,), batch=2, samples=4 * 1024, seed=1)


def test_training_lowers_the_energy_distance(codec: WhitenedMelCodec) -> None:
    torch.manual_seed(0)
    network = WhitenedMelCodec(**CONFIG.codec.options())
    network.load_state_dict(codec.state_dict())
    windows = [torch.hann_window(size) for size in CONFIG.decoder.windows]
    noise = draw_decoder_noise(2, 6, 4, 0.05, torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(network.vocoder.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        loss = decoder_loss(network, sounds(2, 4), noise, windows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_decoder_continues_exactly(tmp_path: Path) -> None:
    whole, half = (codec_trainer(CONFIG, pools(), tmp_path) for _ in range(2))
    losses = [whole.train_step(step, 1.0) for step in range(4)]
    for step in range(2):
        half.train_step(step, 1.0)
    torch.save(half.state(), tmp_path / "state.pt")
    again = codec_trainer(CONFIG, pools(), tmp_path)
    again.load(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [again.train_step(step, 1.0) for step in (2, 3)] == losses[2:]


def test_a_codec_begins_from_an_earlier_one(tmp_path: Path) -> None:
    earlier = codec_trainer(CONFIG, pools(), tmp_path / "earlier")
    assert isinstance(earlier, MelTrainer)
    earlier.train_step(0, 1.0)
    write_weights(tmp_path / "codec.safetensors", earlier.codec.state_dict())
    later = codec_trainer(CONFIG, pools(), tmp_path / "later", start=tmp_path / "codec.safetensors")
    assert isinstance(later, MelTrainer)
    for name, tensor in later.codec.state_dict().items():
        torch.testing.assert_close(tensor, earlier.codec.state_dict()[name], rtol=0, atol=0, msg=name)
    larger = dataclasses.replace(CONFIG, codec=dataclasses.replace(CONFIG.codec, channels=8))
    with pytest.raises(ConfigError, match=r"codec\.safetensors is not a codec of this configuration"):
        codec_trainer(larger, pools(), tmp_path / "other", start=tmp_path / "codec.safetensors")


def test_the_fitted_encoder_is_written_once_and_found_again(tmp_path: Path) -> None:
    fitted = fitted_codec(CONFIG, pools(), tmp_path)
    again = fitted_codec(CONFIG, PoolCrops((np.zeros((1, 4096), np.int16),), 1, 4096, 0), tmp_path)
    torch.testing.assert_close(again.whitening.project, fitted.whitening.project, rtol=0, atol=0)
    larger = dataclasses.replace(CONFIG, codec=dataclasses.replace(CONFIG.codec, channels=8))
    with pytest.raises(CodecTrainingError, match=ENCODER_FILE):
        fitted_codec(larger, pools(), tmp_path)


def test_training_leaves_the_encoder_as_it_was_fitted(tmp_path: Path) -> None:
    trainer = codec_trainer(CONFIG, pools(), tmp_path)
    assert isinstance(trainer, MelTrainer)
    before = {name: t.clone() for name, t in trainer.codec.state_dict().items()}
    trainer.train_step(0, 1.0)
    changed = {name for name, t in trainer.codec.state_dict().items() if not torch.equal(t, before[name])}
    assert changed and all(name.startswith("vocoder.") for name in changed)
    trainer.export(tmp_path)
    load_codec(SPEC, load_file(tmp_path / "codec.safetensors"))
