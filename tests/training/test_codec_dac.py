"""Promises of the learned codec's training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import Conv1d, ConvTranspose1d

from small_training import CONFIG
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.loading import load_codec
from soundctm.spec import CodecKind
from soundctm_training.codec.adversarial import Adversary
from soundctm_training.codec.compare import compare_codecs, held_out_clips
from soundctm_training.codec.crops import PoolCrops
from soundctm_training.codec.dac_training import DacTrainer, folded, measure_latents, normalised
from soundctm_training.codec.description import codec_kind, codec_spec, make_codec, open_codec
from soundctm_training.codec.discriminators import DiscriminatorSizes
from soundctm_training.codec.report import codec_report, mel_error_db, reconstructions
from soundctm_training.codec.settings import (
    AdversarySettings,
    CodecTrainingError,
    DacTraining,
    LossWeights,
    SpectralScales,
)
from soundctm_training.codec.stage import codec_trainer, fit_codec, train_codec
from soundctm_training.config import Hardware, Precision, Reporting, read_config
from soundctm_training.data.settings import DataKind, DataSettings
from soundctm_training.evaluation.classifier import SoundClassifier
from soundctm_training.loop import NotFiniteError
from soundctm_training.runs import Budget
from soundctm_training.workers import Workers
from tiny import TINY_SPEC

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
JUDGES = DiscriminatorSizes(
    periods=(2, 3), period_channels=(4, 8), windows=(256,), band_edges=(0.0, 0.3, 1.0), band_channels=3
)
SMALL = DacTraining(
    encoder_dim=4,
    encoder_rates=(8, 4, 2),
    latent_dim=4,
    decoder_dim=32,
    decoder_rates=(2, 4, 8),
    batch=2,
    crop_frames=32,
    learning_rate=3e-3,
    ema=0.9,
    statistics_batches=3,
    weights=LossWeights(mel=1.0, stft=1.0, waveform=1.0, adversarial=0.0),
    scales=SpectralScales(mel_windows=(64, 256), mel_bands=(8, 20), stft_windows=(256, 64), floor=1e-3),
    adversary=AdversarySettings(learning_rate=1e-3, sizes=JUDGES),
)
ADVERSARIAL = dataclasses.replace(SMALL, weights=dataclasses.replace(SMALL.weights, adversarial=1.0))


def pools(settings: DacTraining = SMALL, clips: int = 6) -> PoolCrops:
    """Tones with a little noise."""
    generator = np.random.default_rng(0)
    time = np.arange(4 * settings.crop_samples)
    tones = np.sin(generator.uniform(0.02, 0.3, size=(clips, 1)) * time)
    pcm = (32767 * (0.3 * tones + 0.01 * generator.standard_normal(tones.shape))).astype(np.int16)
    return PoolCrops((pcm,), settings.batch, settings.crop_samples, settings.seed)


def trainer(settings: DacTraining = SMALL, workers: Workers | None = None) -> DacTrainer:
    return DacTrainer(settings, pools(settings), 0.5, workers or Workers())


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


def test_weight_normalisation_changes_nothing_until_trained_and_folds_back() -> None:
    torch.manual_seed(0)
    options = SMALL.spec(0.5).options
    plain = GaussianDAC(**options)
    reference = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    back = folded(normalised(plain).state_dict())
    assert back.keys() == reference.keys()
    for name, tensor in reference.items():
        torch.testing.assert_close(back[name], tensor, msg=name)


def test_one_clip_is_learnt_by_heart() -> None:
    one = pools(clips=1).pools[0][:, : SMALL.crop_samples]
    learner = DacTrainer(SMALL, PoolCrops((one,), 2, SMALL.crop_samples, 0))
    losses = [learner.train_step(step, 1.0)["loss"] for step in range(30)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize("settings", [SMALL, ADVERSARIAL], ids=["plain", "adversarial"])
def test_resuming_is_exact(settings: DacTraining, tmp_path: Path) -> None:
    whole, half = trainer(settings), trainer(settings)
    losses = [whole.train_step(step, 1.0) for step in range(4)]
    for step in range(2):
        half.train_step(step, 1.0)
    torch.save(half.state(), tmp_path / "state.pt")
    half.export(tmp_path)  # saving changes nothing
    again = trainer(settings)
    again.load(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [again.train_step(step, 1.0) for step in (2, 3)] == losses[2:]
    assert equal(again.state(), whole.state())


def test_the_exported_codec_is_the_trainers_own(tmp_path: Path) -> None:
    own = trainer(dataclasses.replace(SMALL, ema=0.0))  # the average is then the weights themselves
    for step in range(3):
        own.train_step(step, 1.0)
    own.export(tmp_path)
    spec = dataclasses.replace(TINY_SPEC, codec=SMALL.spec(0.5))
    loaded = load_codec(spec, load_file(tmp_path / "codec.safetensors"))
    assert isinstance(loaded, GaussianDAC)
    audio = own.crops.crops(9, slice(0, 2))[:, None]
    with torch.no_grad():
        posterior = own.codec.posterior(audio)
        expected = own.codec.decode_raw(posterior.mean)
        latent = loaded.encode(audio, None)
        torch.testing.assert_close(loaded.decode(latent, None), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(loaded.restore(latent), posterior.mean, atol=1e-5, rtol=1e-5)
    opened = open_codec(tmp_path, dataclasses.replace(CONFIG, codec=None, dac=SMALL))
    torch.testing.assert_close(opened.encode(audio, None), latent, rtol=0, atol=0)
    assert spec.codec.kind is CodecKind.GAUSSIAN_DAC and spec.codec.hop_samples == loaded.hop_samples


def test_latents_leave_the_codec_with_deviation_sigma_data() -> None:
    torch.manual_seed(0)
    codec, draw = GaussianDAC(**SMALL.spec(0.5).options), pools()
    measure_latents(codec, draw, 4)
    crops = torch.cat([draw.crops(step, slice(0, draw.batch)) for step in range(4)])[:, None]
    noise = torch.randn((64, len(crops), 4, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = torch.stack([codec.encode(crops, one) for one in noise])
    of_channel = latents.transpose(0, 2).flatten(1)  # 64 x 8 clips x 32 frames of every channel
    torch.testing.assert_close(of_channel.std(1), torch.full((4,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(of_channel.mean(1), torch.zeros(4), atol=0.02, rtol=0)


def test_without_an_adversarial_weight_there_are_no_discriminators() -> None:
    plain = trainer()
    assert plain.discriminators is None
    assert "discriminators" not in plain.state()
    assert plain.train_step(0, 1.0).keys() == {"kl", "mel", "stft", "waveform", "loss", "gradient"}


@pytest.mark.parametrize("loss", Adversary)
def test_discriminators_join_when_told_and_both_sides_learn(loss: Adversary) -> None:
    adversary = dataclasses.replace(ADVERSARIAL.adversary, after_step=2, loss=loss)
    own = trainer(dataclasses.replace(ADVERSARIAL, adversary=adversary))
    assert own.discriminators is not None
    before = {name: tensor.clone() for name, tensor in own.discriminators.state_dict().items()}
    early = [own.train_step(step, 1.0) for step in range(2)]
    assert all("adversarial" not in losses for losses in early)
    assert equal(before, dict(own.discriminators.state_dict()))
    late = own.train_step(2, 1.0)
    assert {"adversarial", "features", "discriminator"} <= late.keys()
    assert not equal(before, dict(own.discriminators.state_dict()))
    assert all(parameter.requires_grad for parameter in own.discriminators.parameters())


def test_the_decoders_loss_reaches_it_through_the_discriminators() -> None:
    weights = LossWeights(mel=0.0, stft=0.0, waveform=0.0, kl=0.0, adversarial=1.0, features=0.0)
    own = trainer(dataclasses.replace(SMALL, weights=weights))
    assert own.train_step(0, 1.0)["gradient"] > 0


class Faulty(PoolCrops):
    def crops(self, step: int, rows: slice) -> torch.Tensor:
        return super().crops(step, rows) * torch.nan


def test_a_faulty_batch_changes_nothing_and_is_named() -> None:
    own = trainer(ADVERSARIAL)
    own.train_step(0, 1.0)
    before = {name: tensor.clone() for name, tensor in own.codec.state_dict().items()}
    own.crops = Faulty(pools().pools, 2, SMALL.crop_samples, 4)
    with pytest.raises(NotFiniteError, match=r"clips \d, \d of the pool"):
        own.train_step(1, 1.0)
    assert equal(before, dict(own.codec.state_dict()))


def test_workers_see_their_own_rows_of_the_same_draw() -> None:
    """Two workers' gradients, weighted as the workers weigh them, are the gradient of one."""
    settings = dataclasses.replace(SMALL, batch=3)
    gradients = []
    for workers in (Workers(), Workers(0, 2), Workers(1, 2)):
        rows, weight = workers.rows(3), workers.weight(3)
        own = trainer(settings)
        audio = own.crops.crops(0, rows)[:, None]
        made, posterior = own._reconstruct(audio, 0, rows)
        losses = own._reconstruction_losses(made, audio, posterior)
        (own._weighted(losses) * weight).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in own.codec.parameters() if p.grad is not None]))
    one, first, second = gradients
    torch.testing.assert_close((first + second) / 2, one, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder_rates": (8, 4)}, "32 samples"),
        ({"encoder_rates": (9, 3), "decoder_rates": (3, 9)}, r"\[3, 9\]"),
        ({"decoder_dim": 33}, "multiple of 8"),
        ({"batch": 0}, "batch"),
        ({"scales": SpectralScales(mel_windows=(64,))}, "mel_windows"),
    ],
)
def test_sizes_that_do_not_fit_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(CodecTrainingError, match=named):
        dataclasses.replace(SMALL, **change)


def test_the_table_chooses_the_codec(tmp_path: Path) -> None:
    learned = dataclasses.replace(CONFIG, codec=None, decoder=None, dac=SMALL)
    assert codec_kind(CONFIG) is CodecKind.WHITENED_MEL and codec_kind(learned) is CodecKind.GAUSSIAN_DAC
    assert codec_spec(learned) == SMALL.spec(CONFIG.diffusion.sigma_data)
    assert isinstance(codec_trainer(learned, pools(), tmp_path), DacTrainer)
    for wrong in (dataclasses.replace(CONFIG, dac=SMALL), dataclasses.replace(CONFIG, codec=None)):
        with pytest.raises(CodecTrainingError, match=r"\[dac\]"):
            codec_kind(wrong)
    half = dataclasses.replace(learned, hardware=Hardware(precision=Precision.BFLOAT16))
    with pytest.raises(CodecTrainingError, match="float32"):
        codec_trainer(half, pools(), tmp_path)


def test_samples_show_clips_beside_their_reconstructions(tmp_path: Path) -> None:
    trainer().sample(tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step_0000007.png", *(f"step_0000007_clip_{n}.wav" for n in range(4))
    ]


def test_a_report_is_of_the_reconstructions() -> None:
    torch.manual_seed(0)
    codec, clips = GaussianDAC(**SMALL.spec(0.5).options).eval(), pools().resized(3, 4096, 0).crops(0, slice(0, 3))
    made = reconstructions(codec, clips)
    assert made.shape == clips.shape
    report = codec_report(codec, clips)
    assert report.clips == 3 and report.decode_ms_per_10_s > 0
    assert report.log_spectral_distance_db > 5 and report.multi_scale_stft_distance > 0.5  # it was never trained
    assert mel_error_db(clips.numpy(), clips.numpy()) == 0
    # a gain of 2 is 6 dB of power where the bands are far above the floor
    loud = 0.1 * np.random.default_rng(0).standard_normal((1, 8192)).astype(np.float32)
    assert mel_error_db(2 * loud, loud) == pytest.approx(20 * np.log10(2), abs=0.01)


def test_a_file_that_is_not_the_described_codec_is_named(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, codec=None, dac=SMALL)
    with pytest.raises(CodecTrainingError, match=str(tmp_path)):
        open_codec(tmp_path, config)
    trainer().export(tmp_path)
    with pytest.raises(CodecTrainingError, match="whitened_mel"):
        open_codec(tmp_path / "codec.safetensors", CONFIG)
    wider = dataclasses.replace(config, dac=dataclasses.replace(SMALL, latent_dim=6))
    with pytest.raises(CodecTrainingError, match="pre_conv"):
        open_codec(tmp_path, wider)


def test_one_command_trains_either_codec(tmp_path: Path) -> None:
    np.save(tmp_path / "audio_12.npy", np.repeat(pools().pools[0], 4, axis=1)[:, : 12 * 1024])
    (tmp_path / "meta_12.jsonl").write_text('{"caption": ""}\n' * 6)
    data, quiet = DataSettings(DataKind.POOLS, tmp_path), Reporting(tensorboard=False)
    learned = dataclasses.replace(CONFIG, codec=None, decoder=None, dac=SMALL, reporting=quiet)
    for name, config in (("learned", learned), ("fixed", dataclasses.replace(CONFIG, reporting=quiet))):
        train_codec(config, data, tmp_path / name, Budget(steps=2), dry_run=None)
        audio = torch.zeros(1, 1, 2048)
        assert open_codec(tmp_path / name, config).encode(audio, None).shape[1] == codec_spec(config).latent_channels
    fit_codec(CONFIG, data, tmp_path / "fitted")
    assert [path.name for path in (tmp_path / "fitted").iterdir()] == ["encoder.safetensors"]
    with pytest.raises(CodecTrainingError, match="--fit"):
        fit_codec(learned, data, tmp_path / "refused")


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "audio_12.npy", np.zeros((2, 12 * 1024), np.int16))
    config, told = dataclasses.replace(CONFIG, codec=None, decoder=None, dac=SMALL), {}
    data = DataSettings(DataKind.POOLS, tmp_path)
    train_codec(config, data, tmp_path / "out", Budget(steps=2), dry_run=lambda _, **facts: told.update(facts))
    assert told["codec"] == SMALL.spec(0.5) and told["parameters"] > 0
    assert not (tmp_path / "out").exists()


def test_the_papers_configuration_has_the_papers_size() -> None:
    config = read_config(CONFIGS / "codec_dac_paper.toml")
    assert config.dac == DacTraining(statistics_batches=64)  # the defaults are the paper's
    with torch.device("meta"):
        codec = make_codec(codec_spec(config))
    plain = sum(parameter.numel() for parameter in codec.parameters())
    lengths = sum(len(module.weight) for module in codec.modules() if isinstance(module, Conv1d | ConvTranspose1d))
    assert plain + lengths == 63_463_266  # the official checkpoint's, with its weight normalisation
    assert codec_spec(config).hop_samples == 1024


def test_the_small_configuration_trains_without_discriminators(tmp_path: Path) -> None:
    config = read_config(CONFIGS / "codec_dac_small.toml")
    assert config.dac is not None and config.dac.hop_samples == 1024
    built = codec_trainer(config, pools(), tmp_path)
    assert isinstance(built, DacTrainer) and built.discriminators is None


def test_codecs_are_compared_on_the_same_clips() -> None:
    torch.manual_seed(0)
    classifier = SoundClassifier(("rain", "dog"), widths=(4, 4, 4, 4)).eval()
    clips, targets = held_out_clips(classifier.labels, 2, seed=5, samples=8192)
    assert targets == [0, 0, 1, 1] and clips.shape == (4, 8192)
    codecs = {"learned": GaussianDAC(**SMALL.spec(0.5).options).eval(), "fixed": make_codec(codec_spec(CONFIG)).eval()}
    rows = compare_codecs(codecs, clips, targets, classifier)["rows"]
    assert list(rows) == ["real", "learned", "fixed"]
    assert rows["real"]["classified"]["n"] == rows["learned"]["classified"]["n"] == rows["fixed"]["clips"] == 4
    assert rows["learned"]["parameters"] == sum(p.numel() for p in codecs["learned"].parameters())
